"""Folding what the shell found out of this machine, and of whom it speaks with.

Theory of operation. Each of these tales replaces the one before it and touches nothing
else: what a copy would need, what the HA software is told to do, which receivers take
notices, and how the manager beside this agent fares.
"""

from agent.core.event import GateSeen, Looked, ManagerCareTold, Surveyed
from agent.core.frozen import replace
from agent.core.state import View


def fold(view: View, event: Looked) -> View:
    """Return the view that knows of it."""
    match event:
        case Surveyed():
            return replace(view, readiness=event.readiness)
        case GateSeen():
            return replace(view, gate=event.gate)
        case ManagerCareTold():
            return replace(view, care=event.care)
        case _:
            return replace(view, receivers=event.receivers, failing=event.failing)
