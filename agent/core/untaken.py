"""What the capture engine has told of its captures, until the ledger has it.

Theory of operation. The engine tells a status once, when it has changed. While the
journal cannot be written the ledger stays as it was, and captures begin all the same:
a status that comes then finds no entry, or its entry falls back to the one before. So
the latest status of each capture waits in the view, which no failed commit takes back,
and every step takes it over anew until it begins with a ledger that has it.

A closed capture that the ledger does not have is let go: its thread has ended, and an
order of the same id tells all anew.
"""

from agent.core.capture import CaptureStatus, Phase
from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.protection import CAPTURES_KEPT, progress
from agent.core.state import State


def told(state: State, status: CaptureStatus, at: Moment) -> State:
    """Take over what the engine tells, and keep it until it is in the ledger."""
    name = status.capture_id
    rest = tuple(one for one in state.view.untaken.items() if one[0] != name)
    waits = dict((*rest, (name, status))[-CAPTURES_KEPT:])
    kept = replace(state, view=replace(state.view, untaken=waits))
    return progress(kept, status, at)


def caught_up(state: State, at: Moment) -> State:
    """Take over what was told and is not in the ledger that a step begins with."""
    if not state.view.untaken:
        return state
    known = {one.order.capture_id: one.status for one in state.ledger.captures}
    waits = {
        name: status
        for name, status in state.view.untaken.items()
        if known.get(name) != status
        and (name in known or status.phase is not Phase.CLOSED)
    }
    if len(waits) < len(state.view.untaken):
        state = replace(state, view=replace(state.view, untaken=waits))
    for name, status in waits.items():
        if name in known:
            state = progress(state, status, at)
    return state
