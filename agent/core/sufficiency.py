"""What is kept already, and whether that is enough.

Theory of operation. A grant rests on a closed capture, and what then happens to the
server's folder is the resync's doing: until the server was seen running again, nothing
in there is worth another copy, however long the resync takes and whatever else opens
meanwhile. Only who asks for a permit of its own gets a capture of its own.
"""

from collections.abc import Iterable

from agent.core.capture import Capture, Grade, Level, Phase
from agent.core.observation import Channel, ServerFacts
from agent.core.permit import Permit, PermitState
from agent.core.policy import Policy
from agent.core.rowlevel import kept_by_rows
from agent.core.standing import local_writable, standing
from agent.core.state import State


def promised(state: State, capture: Capture) -> bool:
    """Whether a granted permit rests on this capture."""
    return any(
        permit.state is PermitState.GRANTED
        and permit.capture_id == capture.order.capture_id
        for permit in state.ledger.permits
    )


def sealed(state: State) -> Capture | None:
    """Return the capture on which a valid grant rests; it serves a second asker too."""
    for capture in reversed(state.ledger.captures):
        if promised(state, capture):
            return capture
    return None


def suffices(
    state: State, permit: Permit | None, incident_ids: Iterable[str], policy: Policy
) -> bool:
    """Whether what is kept and closed already serves this permit or these incidents.

    A loser that runs as a standby again was resynced; its disk may tell of its old
    line for a moment, and nothing of that is missing. Should it go wrong, the next
    permit orders what it needs all the same.
    """
    if sealed(state) is not None:
        return True
    if permit is not None or local_writable(state, policy):
        return False
    if handed_over(state, policy):
        return True
    wanted = set(incident_ids)
    return any(
        capture.order.node == policy.me
        and (_complete(capture) or kept_by_rows(capture))
        and not set(capture.order.incident_ids).isdisjoint(wanted)
        for capture in state.ledger.captures
    )


def known_loser(state: State, policy: Policy) -> bool:
    """Whether a standing incident has named the local server a loser already."""
    return any(
        policy.me in str(one.verdict.evidence.get("losers", "")).split(",")
        for one in standing(state)
    )


def own_capture(state: State, policy: Policy) -> Capture | None:
    """Return the local server's capture that goes on, or belongs to what stands."""
    current = {one.id for one in standing(state)}
    for capture in reversed(state.ledger.captures):
        if capture.order.node != policy.me:
            continue
        goes_on = capture.status.phase is not Phase.CLOSED
        if goes_on or current & set(capture.order.incident_ids):
            return capture
    return None


def is_whole(capture: Capture) -> bool:
    """Whether everything that was ordered is kept."""
    if Level.FULL in capture.order.levels:
        return _complete(capture) or kept_by_rows(capture)
    return capture.status.phase is Phase.FOLLOWING


def _complete(capture: Capture) -> bool:
    return capture.status.grade.rank >= Grade.COMPLETE.rank


def is_bare(state: State, policy: Policy) -> bool:
    """Whether the local server is known as a loser, and nothing keeps it or will.

    With the news of a split its capture is ordered: only afterwards is it missing.
    """
    if not known_loser(state, policy) or handed_over(state, policy):
        return False  # or a resync is at work on what is kept already
    capture = own_capture(state, policy)
    if capture is None:
        return True
    return capture.status.phase is Phase.CLOSED and not is_whole(capture)


def handed_over(state: State, policy: Policy) -> bool:
    """Whether the stopped server's folder was left to a resync, which may still go on.

    A grant ends by time; what it let pass does not.
    """
    return any(
        permit.at_work and permit.node == policy.me for permit in state.ledger.permits
    )


def runs_again(state: State, since_s: float, policy: Policy) -> bool:
    """Whether the server was seen running after that instant.

    The resync is then over, or was given up; either way the next one is another.
    Not in single-user mode: pg_rewind itself recovers a crashed server so, and what
    it then does to the folder must not call for a copy of it.
    """
    seen = state.view.latest.get(f"{policy.me}/{Channel.POSTGRES}")
    if seen is not None and seen.postgres is not None and seen.sent_s > since_s:
        return True
    facts = state.view.server
    later = state.view.server_read_s > since_s
    if not isinstance(facts, ServerFacts) or facts.single_user:
        return False
    return later and facts.running


def has_moved(state: State, permit: Permit) -> bool:
    """Whether the stopped server now ends past what was granted.

    Only on the same timeline: a resync in progress leaves it, and is what the grant
    was for.
    """
    facts = state.view.server
    if not isinstance(facts, ServerFacts) or permit.granted_s is None:
        return False
    if state.view.server_read_s <= permit.granted_s or facts.end_lsn is None:
        return False
    place = (facts.lineage.system_id, facts.lineage.timeline)
    return (
        place == (permit.system_id, permit.timeline)
        and permit.final_lsn is not None
        and facts.end_lsn > permit.final_lsn
    )
