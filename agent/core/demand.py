"""Snapshots that somebody asks for.

Theory of operation. A person who asks for a snapshot wants a full copy, whatever goes
on already. So a request joins the capture that is under way: that one is widened to a
full copy, and stays open until the copy is complete even if what had called for it is
over. One that is being closed takes nothing more; then another one begins. The schedule
asks too, but only for a night without troubles: it joins nothing.
"""

from agent.core.capture import Capture, CaptureOrder, Level
from agent.core.event import CaptureAsked
from agent.core.frozen import replace
from agent.core.policy import Policy
from agent.core.protection import begin, in_order, unfinished
from agent.core.state import State

ALL = (Level.TAIL, Level.FULL)


def asked(state: State, event: CaptureAsked, policy: Policy) -> State:
    """Enter a request for a full copy; it is handed over with this step."""
    if not policy.spec(policy.me).local:
        return state  # nobody could carry it out, and it would wait for ever
    running = unfinished(state, policy)
    if running is not None:
        if not event.joins:
            return state
        if running.order.capture_id not in state.view.closing:
            return _joined(state, running, event.at.monotonic_s)
    ordered = CaptureOrder(
        capture_id=event.capture_id,
        node=policy.me,
        levels=ALL,
        incident_ids=(),
        reason=event.reason,
        confirmed_lsn=None,
        final_lsn=None,
    )
    begun = replace(begin(ordered, event.at), asked=True)
    captures = (*state.ledger.captures, begun)
    return replace(state, ledger=replace(state.ledger, captures=captures))


def _joined(state: State, running: Capture, now_s: float) -> State:
    """Widen what goes on already; one that failed is tried again at once."""
    order = running.order
    wider = replace(order, levels=in_order((*order.levels, *ALL)))
    entry = replace(running, order=wider, progressed_s=now_s, asked=True)
    captures = tuple(entry if one is running else one for one in state.ledger.captures)
    in_hand = state.view.in_hand - {order.capture_id}
    return replace(
        state,
        ledger=replace(state.ledger, captures=captures),
        view=replace(state.view, in_hand=in_hand),
    )
