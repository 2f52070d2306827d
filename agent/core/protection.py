"""What to capture, when, and how much.

Theory of operation. A capture protects the server beside this agent; other
servers have agents of their own. Three things call for one:

- isolation of a writable server: `tail` and `pin` at once, because neither writes
  WAL; `rows` and `full` once something was written that no other node has confirmed;
- evidence of a split: `tail` and `pin` on every writable or diverged server, and
  `rows` and `full` on all but the predicted winner;
- a permit: whatever is still missing up to the final LSN of the stopped server.

There is at most one unfinished capture per node: a further trigger widens it. It
is closed when every incident that it belongs to is over (and the copy is complete that
a person asked for meanwhile, see `demand`), when the server has left the line of WAL
that it keeps (it was resynced), and as soon as a permit is granted
on it: what it keeps is then what the permit promised, and nothing that the resync
does to the server may reach it. If the permit becomes void, another capture begins.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.action import Action, CloseCapture, RunCapture
from agent.core.capture import (
    Capture,
    CaptureOrder,
    CaptureStatus,
    Grade,
    Level,
    Phase,
    capture_id,
)
from agent.core.frozen import replace
from agent.core.incident import Incident
from agent.core.kinship import relate
from agent.core.lineage import Fork, Kinship
from agent.core.moment import Moment
from agent.core.observation import ServerFacts
from agent.core.permit import Permit, PermitState
from agent.core.policy import Policy
from agent.core.prediction import winner
from agent.core.rowlevel import earlier, fork_to_keep
from agent.core.standing import (
    local_facts,
    local_sight,
    local_writable,
    standing,
)
from agent.core.state import State
from agent.core.sufficiency import is_bare, promised, suffices
from agent.core.verdict import VerdictCode

RETRY_S = 10.0
"""A failed capture is tried again after so long."""
CAPTURES_KEPT = 20
"""Captures kept in the ledger; the catalogue on disk has them all."""
PROVEN = (
    VerdictCode.SPLIT_BRAIN,
    VerdictCode.LINEAGE_DIVERGED,
    VerdictCode.LINEAGE_TWIN,
)


@dataclass(frozen=True, slots=True)
class Need:
    """What should be kept of the local server now, and because of what."""

    levels: frozenset[Level]
    incident_ids: tuple[str, ...]
    reason: str
    permit: Permit | None = None


def begin(ordered: CaptureOrder, at: Moment) -> Capture:
    """Return the ledger's entry for a capture that was just ordered."""
    status = CaptureStatus.nothing_kept(ordered.capture_id, Phase.ORDERED)
    return Capture(ordered, status, at.wall_s, at.monotonic_s)


def progress(state: State, status: CaptureStatus, at: Moment) -> State:
    """Take over what the engine tells of a capture."""
    captures = tuple(
        replace(capture, status=status, progressed_s=at.monotonic_s)
        if capture.order.capture_id == status.capture_id and capture.status != status
        else capture
        for capture in state.ledger.captures
    )
    return replace(state, ledger=replace(state.ledger, captures=captures))


def unfinished(state: State, policy: Policy) -> Capture | None:
    """Return the local server's capture that still goes on, if there is one."""
    for capture in reversed(state.ledger.captures):
        own = capture.order.node == policy.me
        if own and capture.status.phase is not Phase.CLOSED:
            return capture
    return None


def advance(
    state: State, at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    """Order, widen, resume, retry and close captures as the state calls for it."""
    after, actions = _advanced(state, at, policy)
    since_s = after.view.bare_s
    if not is_bare(after, policy):
        since_s = None
    elif since_s is None:
        since_s = at.monotonic_s
    if since_s == after.view.bare_s:
        return after, actions
    return replace(after, view=replace(after.view, bare_s=since_s)), actions


def _advanced(
    state: State, at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    if not policy.capture_enabled:
        return state, ()
    capture = unfinished(state, policy)
    facts = local_facts(state)
    need = _need(state, at, policy)
    if capture is None:
        if (
            need is None
            or facts is None
            or suffices(state, need.permit, need.incident_ids, policy)
        ):
            return state, ()
        return _order(state, None, need, at, policy)
    if _left(state, capture, policy) or promised(state, capture):
        return _close(state, capture, at)
    if need is None:
        return _idle(state, capture, at, policy)
    return _order(state, capture, need, at, policy)


def _left(state: State, capture: Capture, policy: Policy) -> bool:
    """Whether the disk tells that the server has left what is captured.

    The engine asks the server several times a second, the disk is read once a round: a
    reading from before a promotion that the engine has followed already tells nothing.
    """
    facts, status = local_facts(state), capture.status
    if facts is None or state.view.server_read_s < capture.progressed_s:
        return False
    sight = local_sight(state, policy)
    if sight is not None and not sight.in_recovery:
        behind = facts.lineage.timeline < (status.timeline or 0)
        if behind and sight.timeline == status.timeline:
            return False
    return has_left(facts, status)


def has_left(facts: ServerFacts, status: CaptureStatus) -> bool:
    """Whether the server is no longer on the WAL that the capture keeps.

    A promotion continues the line: the captured timeline is then an ancestor that
    was left at or after the captured end. A rewind leaves it before.
    """
    if status.timeline is None or status.timeline == facts.lineage.timeline:
        return False
    for switch in facts.lineage.switches:
        if switch.timeline == status.timeline:
            return status.tail_lsn is not None and switch.lsn < status.tail_lsn
    return True


def _need(state: State, at: Moment, policy: Policy) -> Need | None:
    """Return what should be kept now; None when nothing calls for a capture."""
    levels: set[Level] = set()
    incidents: list[str] = []
    reasons: list[str] = []
    for incident in standing(state):
        called = _called_for(state, incident, at, policy)
        if called:
            levels |= called
            incidents.append(incident.id)
            reasons.append(incident.verdict.code.value)
    permit = _waiting(state, policy)
    if permit is not None:
        levels |= {Level.TAIL, Level.FULL}
        reasons.append(f"permit for {permit.purpose}")
    if not levels:
        return None
    return Need(frozenset(levels), tuple(incidents), ", ".join(reasons), permit)


def _called_for(
    state: State, incident: Incident, at: Moment, policy: Policy
) -> set[Level]:
    """Return the levels that one standing incident asks for on this node."""
    verdict = incident.verdict
    if incident.clear_since_s is not None:
        return set()
    lasted_s = at.monotonic_s - incident.pending_since_s
    if verdict.code not in PROVEN and lasted_s < policy.isolation_hold_s:
        return set()
    if verdict.code is VerdictCode.OBSERVER_ISOLATED:
        return _for_isolation(state, policy) if verdict.subject == policy.me else set()
    if verdict.code is VerdictCode.SPLIT_BRAIN_SUSPECTED:
        return _for_isolation(state, policy)
    if verdict.code in PROVEN:
        return _for_split(state, policy)
    return set()


def _for_isolation(state: State, policy: Policy) -> set[Level]:
    if not local_writable(state, policy):
        return set()
    levels = {Level.TAIL, Level.PIN}
    if not written_past(state, policy):
        return levels
    return levels | {Level.ROWS, Level.FULL}


def written_past(state: State, policy: Policy) -> bool:
    """Whether the local server is known to hold what no other node has confirmed."""
    sight = local_sight(state, policy)
    confirmed = state.knowledge.confirmed_xid
    if sight is None or sight.next_xid is None or confirmed is None:
        return False
    return sight.next_xid > confirmed


def _for_split(state: State, policy: Policy) -> set[Level]:
    predicted = winner(state, policy).node
    writable = local_writable(state, policy)
    if predicted == policy.me:
        return {Level.TAIL, Level.PIN} if writable else set()
    if writable or _past_fork(state, predicted, policy):
        return {Level.TAIL, Level.PIN, Level.ROWS, Level.FULL}
    return set()


def _past_fork(state: State, predicted: str | None, policy: Policy) -> bool:
    """Whether the local server holds WAL that the predicted winner lacks."""
    facts = local_facts(state)
    theirs = state.knowledge.lineages.get(predicted or "")
    if facts is None or theirs is None:
        return False
    relation = relate(facts.lineage, theirs)
    if relation.kinship in (Kinship.FORKED, Kinship.TWIN):
        return True
    if relation.kinship is not Kinship.DESCENDS or relation.fork is None:
        return False
    sight = local_sight(state, policy)
    position = sight.flush_lsn if sight is not None else facts.end_lsn
    return position is not None and position > relation.fork.lsn


def _waiting(state: State, policy: Policy) -> Permit | None:
    """Return the permit that waits for a capture of the stopped server."""
    for permit in state.ledger.permits:
        if (
            permit.node == policy.me
            and permit.state is PermitState.PENDING
            and permit.final_lsn is not None
        ):
            return permit
    return None


def _order(
    state: State, capture: Capture | None, need: Need, at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    if capture is None:
        wanted = _wanted(state, None, need, policy)
        return _hand_over(state, begin(wanted, at), wanted)
    wanted = _wanted(state, capture.order, need, policy)
    failed = (
        capture.status.phase is Phase.FAILED
        and at.monotonic_s - capture.progressed_s >= RETRY_S
    )
    in_hand = wanted.capture_id in state.view.in_hand
    if wanted == capture.order and in_hand and not failed:
        return state, ()
    anew = failed or wanted.levels != capture.order.levels
    since = at.monotonic_s if anew else capture.progressed_s
    return _hand_over(state, replace(capture, order=wanted, progressed_s=since), wanted)


def _wanted(
    state: State, old: CaptureOrder | None, need: Need, policy: Policy
) -> CaptureOrder:
    """Return the order that adds this need to what was ordered before."""
    permit = need.permit
    final_lsn = permit.final_lsn if permit is not None else None
    fork = _fork(state, old, need, policy)
    if old is None:
        return CaptureOrder(
            capture_id=_new_id(state, need, policy),
            node=policy.me,
            levels=in_order(need.levels),
            incident_ids=need.incident_ids,
            reason=need.reason,
            confirmed_lsn=state.knowledge.confirmed_lsn,
            final_lsn=final_lsn,
            fork=fork,
        )
    return replace(
        old,
        levels=in_order(need.levels | frozenset(old.levels)),
        incident_ids=_union(old.incident_ids, need.incident_ids),
        final_lsn=final_lsn,
        fork=fork,
    )


def _fork(
    state: State, old: CaptureOrder | None, need: Need, policy: Policy
) -> Fork | None:
    """Return from where on rows are read out: never later than was ordered before."""
    known = old.fork if old is not None else None
    if Level.ROWS not in need.levels:
        return known
    return earlier(known, fork_to_keep(state, policy))


def _hand_over(
    state: State, entry: Capture, wanted: CaptureOrder
) -> tuple[State, tuple[Action, ...]]:
    kept = tuple(
        capture
        for capture in state.ledger.captures
        if capture.order.capture_id != wanted.capture_id
    )
    ledger = replace(state.ledger, captures=(*kept, entry)[-CAPTURES_KEPT:])
    view = replace(state.view, in_hand=state.view.in_hand | {wanted.capture_id})
    return replace(state, ledger=ledger, view=view), (RunCapture(wanted),)


def _idle(
    state: State, capture: Capture, at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    """Nothing calls for the capture any more: wait for the end, then close it."""
    order = capture.order
    alive = {incident.id for incident in standing(state)}
    if alive & set(order.incident_ids):
        return _resume(state, capture, at, policy)
    wanted = capture.asked or not order.incident_ids
    if wanted and capture.status.grade.rank < Grade.COMPLETE.rank:
        return _resume(state, capture, at, policy)
    return _close(state, capture, at)


def _resume(
    state: State, capture: Capture, at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    need = Need(
        frozenset(capture.order.levels),
        capture.order.incident_ids,
        capture.order.reason,
    )
    return _order(state, capture, need, at, policy)


def _close(
    state: State, capture: Capture, at: Moment
) -> tuple[State, tuple[Action, ...]]:
    """Tell the engine to close it, and again after a while until it says closed."""
    wanted = capture.order.capture_id
    told_s = state.view.closing.get(wanted)
    if told_s is not None and at.monotonic_s - told_s < RETRY_S:
        return state, ()
    view = replace(
        state.view,
        in_hand=state.view.in_hand | {wanted},
        closing={**state.view.closing, wanted: at.monotonic_s},
    )
    return replace(state, view=view), (CloseCapture(wanted),)


def _new_id(state: State, need: Need, policy: Policy) -> str:
    """Return an id that no capture has yet, derived from what called for it."""
    permit = need.permit
    cause = permit.id if permit is not None else "gate"
    wanted = capture_id(policy.me, next(iter(need.incident_ids), cause))
    taken = {capture.order.capture_id for capture in state.ledger.captures}
    free = (f"{wanted}-{number}" for number in range(2, CAPTURES_KEPT + 3))
    return wanted if wanted not in taken else next(i for i in free if i not in taken)


def in_order(levels: Iterable[Level]) -> tuple[Level, ...]:
    """Return these levels in their order of worth, each once."""
    return tuple(level for level in Level if level in set(levels))


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
