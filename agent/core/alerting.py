"""Receivers of notices that do not take them, as an agent knows of its own.

Theory of operation. Whether a receiver can be reached shows when something is sent to
it, and not before. The shell counts a receiver as failing from the first attempt that
it did not take to the next one that it does. While an agent is cut off from the others
it reaches hardly anybody, so what was last tried at such a time says nothing of the
receiver: it is left aside until the next attempt. In a report ages stand for instants,
as everywhere, because no two clocks agree.
"""

from agent.core.moment import Moment
from agent.core.observation import Deaf
from agent.core.state import View


def deaf(view: View, at: Moment) -> tuple[Deaf, ...]:
    """Return the receivers that fail by themselves, for the rules and for peers."""
    cut_off_s = view.isolated_s
    return tuple(
        Deaf(one.name, one.reason, max(0.0, at.monotonic_s - one.since_s))
        for one in view.failing
        if cut_off_s is None or one.tried_s > cut_off_s
    )
