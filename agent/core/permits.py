"""When a resync may go on.

Theory of operation. A resync destroys what the local server holds beyond the
winner, so whoever is about to start one asks first. The answer is `pending`
while the server may still write, while its last position is not known, and
while neither the capture has been proven complete up to that position, nor its rows
reach it where these suffice (`rowlevel`); then it is `granted`, unless the server that
is to be copied from is not the primary any more (`permit_source`). A grant is void
after ten minutes, and as soon as the server is seen running again: it was used, or the
server may write past what was promised.
Blocking is safe, granting too early is not; so every doubt is `pending`.
"""

from agent.core import permit_source, rowlevel
from agent.core.capture import Capture, CaptureStatus, Grade
from agent.core.event import PermitAsked, PermitReleased
from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.observation import ReadFailure, ServerFacts
from agent.core.permit import Permit, PermitState
from agent.core.policy import Policy
from agent.core.protection import unfinished
from agent.core.standing import ELSEWHERE
from agent.core.state import State
from agent.core.sufficiency import has_moved, promised, runs_again, sealed

PERMITS_KEPT = 50
"""Permits kept in the ledger; those that are over go first, then the oldest."""
PENDING_LIMIT_S = 86_400.0
"""Whoever still waits after a day has gone away, or asks again."""
LIVING = (PermitState.PENDING, PermitState.GRANTED)


def asked(state: State, event: PermitAsked, policy: Policy) -> State:
    """Enter a request; the same id asked again is the same request."""
    if any(permit.id == event.permit_id for permit in state.ledger.permits):
        return state
    permit = Permit(
        id=event.permit_id,
        node=policy.me,
        purpose=event.purpose,
        source=event.source,
        state=PermitState.PENDING,
        reason="the server's files have not been read since you asked",
        asked_wall_s=event.at.wall_s,
        asked_s=event.at.monotonic_s,
        granted_s=None,
        system_id=None,
        timeline=None,
        final_lsn=None,
        capture_id=None,
        bytes_done=0,
        bytes_total=0,
        seconds_left=None,
        released_by=None,
    )
    return _with(state, (*_kept(state.ledger.permits), permit))


def _kept(permits: tuple[Permit, ...]) -> tuple[Permit, ...]:
    """Make room for one more: what is over goes before what still counts."""
    excess = len(permits) + 1 - PERMITS_KEPT
    if excess <= 0:
        return permits
    over = [permit for permit in permits if permit.state not in LIVING]
    dropped = {permit.id for permit in (*over, *permits)[:excess]}
    return tuple(permit for permit in permits if permit.id not in dropped)


def restarted(state: State, at: Moment) -> State:
    """Re-base instants of the former process: its monotonic clock is gone.

    A pending request must wait for a fresh reading of the disk. A grant goes on from
    its age by the wall clock; one from the future is void.
    """

    def granted_s(permit: Permit) -> float | None:
        if permit.granted_wall_s is None:
            return None
        age_s = at.wall_s - permit.granted_wall_s
        return None if age_s < 0 else at.monotonic_s - age_s

    permits = tuple(
        replace(permit, asked_s=at.monotonic_s, granted_s=granted_s(permit))
        for permit in state.ledger.permits
    )
    return _with(state, permits)


def released(state: State, event: PermitReleased) -> State:
    """Let every pending request pass, because a person said so."""
    permits = tuple(
        replace(
            permit,
            state=PermitState.RELEASED,
            released_by=event.who,
            reason=f"released by {event.who}: {event.reason}",
        )
        if permit.state is PermitState.PENDING
        else permit
        for permit in state.ledger.permits
    )
    return _with(state, permits)


def advance(state: State, at: Moment, policy: Policy) -> State:
    """Answer every request anew from what is known now."""
    if not state.ledger.permits:
        return state
    permits = tuple(
        _overdue(_answer(state, permit, at, policy), at, policy)
        for permit in state.ledger.permits
    )
    return state if permits == state.ledger.permits else _with(state, permits)


def _answer(state: State, permit: Permit, at: Moment, policy: Policy) -> Permit:
    if permit.state is PermitState.GRANTED:
        return _hold(state, permit, at, policy)
    if permit.at_work and _ended(state, permit, policy):
        return replace(permit, at_work=False)
    if permit.state is not PermitState.PENDING:
        return permit
    if not policy.spec(policy.me).local:
        return _wait(permit, f"nobody here can read the server's files: {ELSEWHERE}")
    server = state.view.server
    if (
        not isinstance(server, ServerFacts)
        or server.end_lsn is None
        or server.running
        or state.view.server_read_s < permit.asked_s
    ):
        return _wait(permit, _unknown(state, permit))
    return _match(state, permit, server, at, policy)


def _unknown(state: State, permit: Permit) -> str:
    """Return why the server's last position is not known yet."""
    server = state.view.server
    if server is None or state.view.server_read_s < permit.asked_s:
        return "the server's files have not been read since you asked"
    if isinstance(server, ReadFailure):
        return f"{server.reason}; {server.hint}"
    if server.single_user:
        return "PostgreSQL runs in single-user mode: it has to end first"
    if server.running:
        word = "running as a standby" if server.standby_signal else "writable"
        return f"still {word}: stop PostgreSQL on {permit.node} first"
    if server.end_unknown:
        return f"the end of its write-ahead log is not known: {server.end_unknown}"
    return "the end of its write-ahead log is not known yet"


def _match(
    state: State, permit: Permit, server: ServerFacts, at: Moment, policy: Policy
) -> Permit:
    """Compare the stopped server's last position with what is kept."""
    permit = replace(
        permit,
        system_id=server.lineage.system_id,
        timeline=server.lineage.timeline,
        final_lsn=server.end_lsn,
    )
    if not policy.capture_enabled:
        return replace(
            permit, reason="captures are switched off (capture.enabled = false)"
        )
    capture = unfinished(state, policy) or sealed(state)
    if capture is None:
        return replace(permit, reason="the capture has not begun")
    proof = _proof(state, capture, permit, at, policy)
    if proof:
        status = capture.status
        against = permit_source.objection(state, permit, at, policy)
        if against:
            return replace(_copying(permit, capture), reason=against)
        return replace(
            permit,
            state=PermitState.GRANTED,
            granted_s=at.monotonic_s,
            granted_wall_s=at.wall_s,
            source_timeline=permit_source.timeline(state, permit, at, policy),
            at_work=True,
            capture_id=status.capture_id,
            bytes_done=status.bytes_done,
            bytes_total=status.bytes_total,
            seconds_left=0.0,
            reason=proof,
        )
    return _copying(permit, capture)


def _proof(
    state: State, capture: Capture, permit: Permit, at: Moment, policy: Policy
) -> str:
    """Return by what the capture protects up to the final LSN; empty if it does not."""
    status = capture.status
    if _protects(state, capture, permit):
        return (
            f"snapshot {status.capture_id} is {status.grade.value} up to"
            f" {status.reached_lsn}"
        )
    if (
        _fits(state, capture, permit)
        and rowlevel.covers(state, capture, permit, policy)
        and (
            rowlevel.suffice_now(capture, permit, at, policy)
            or promised(state, capture)
        )
    ):
        return (
            f"snapshot {status.capture_id} has every row that was written from"
            f" {status.rows_from} to {status.rows_lsn}; {rowlevel.WITHOUT_FULL}"
        )
    return ""


def _fits(state: State, capture: Capture, permit: Permit) -> bool:
    """Whether the status is of the very server that the permit is for.

    A status from before the order for that LSN proves nothing: the data directory
    may have been replaced since, and the same LSN then names other data.
    """
    status = capture.status
    answered = status.final_lsn == permit.final_lsn or promised(state, capture)
    return (
        answered
        and permit.final_lsn is not None
        and status.timeline == permit.timeline
        and capture.order.final_lsn == permit.final_lsn
    )


def _protects(state: State, capture: Capture, permit: Permit) -> bool:
    """Whether the full copy is proven complete through the final LSN."""
    status = capture.status
    return (
        _fits(state, capture, permit)
        and status.grade.rank >= Grade.COMPLETE.rank
        and status.reached_lsn is not None
        and permit.final_lsn is not None
        and status.reached_lsn >= permit.final_lsn
    )


def _copying(permit: Permit, capture: Capture) -> Permit:
    status = capture.status
    told = f": {status.reason}" if status.reason else ""
    if status.rows_lsn is not None or status.rows_reason:
        told += f"; {_rows_told(status)}"
    return replace(
        permit,
        capture_id=status.capture_id,
        bytes_done=status.bytes_done,
        bytes_total=status.bytes_total,
        seconds_left=status.seconds_left,
        reason=f"snapshot {status.capture_id} is {status.phase.value}{told}",
    )


def _rows_told(status: CaptureStatus) -> str:
    """Return how far the rows are, for whoever waits."""
    if status.rows_lsn is None:
        return f"no rows are kept: {status.rows_reason}"
    told = f"its rows reach from {status.rows_from} to {status.rows_lsn}"
    return f"{told}: {status.rows_reason}" if status.rows_reason else told


def _overdue(permit: Permit, at: Moment, policy: Policy) -> Permit:
    """Say how a person can help when a request has waited for too long."""
    waited_s = at.wall_s - permit.asked_wall_s
    if permit.state is PermitState.PENDING and waited_s > PENDING_LIMIT_S:
        reason = "it was asked more than a day ago: ask again"
        return replace(permit, state=PermitState.VOID, reason=reason, final_lsn=None)
    if permit.state is not PermitState.PENDING or waited_s < policy.permit_wait_s:
        return permit
    help_words = (
        f"; this takes long: `splitguard guard release {permit.node} --reason TEXT`"
        " lets it pass unprotected"
    )
    return replace(permit, reason=permit.reason + help_words)


def _hold(state: State, permit: Permit, at: Moment, policy: Policy) -> Permit:
    """Keep a grant only as long as what it promised is sure to be true."""
    if permit.granted_s is None or (
        at.monotonic_s - permit.granted_s > policy.permit_valid_s
    ):
        return replace(
            permit, state=PermitState.VOID, reason="the grant is older than 10 minutes"
        )
    if runs_again(state, permit.granted_s, policy):
        reason = "PostgreSQL runs again: a further resync needs a permit of its own"
        return replace(permit, state=PermitState.VOID, reason=reason, at_work=False)
    if has_moved(state, permit):
        reason = "the server has written past the position that was granted"
        return replace(permit, state=PermitState.VOID, reason=reason, at_work=False)
    moved = permit_source.moved(state, permit, at, policy)
    if moved:
        return replace(permit, state=PermitState.VOID, reason=moved)
    return permit


def _ended(state: State, permit: Permit, policy: Policy) -> bool:
    """Whether what an old grant let pass is over, or nobody can say."""
    since_s = permit.granted_s
    return (
        since_s is None
        or runs_again(state, since_s, policy)
        or has_moved(state, permit)
    )


def _wait(permit: Permit, reason: str) -> Permit:
    return replace(permit, reason=reason, final_lsn=None)


def _with(state: State, permits: tuple[Permit, ...]) -> State:
    return replace(state, ledger=replace(state.ledger, permits=permits))
