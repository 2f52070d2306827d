"""Rows of a losing side: from where on they are read out, and when that is enough.

Theory of operation. What a losing side wrote lies past the fork. Where the winner's
lineage is known, the fork is; until then it is what another node had confirmed, which
may be too early, and too late where a third node went on receiving from the loser. So
rows from there on are read out at once, and again from the real fork; a permit rests on
them only when that fork is known, of the predicted winner and of the server that is to
be copied from, and rows from before it, or from there on, reach to the server's last
position. They lack what is no row: `WITHOUT_FULL`. So they count where the
configuration says that they suffice, where no full copy fits, and after a long wait.
"""

from agent.core import permit_source
from agent.core.capture import Capture, Phase
from agent.core.kinship import relate
from agent.core.lineage import Fork
from agent.core.moment import Moment
from agent.core.permit import Permit
from agent.core.policy import Minimum, Policy
from agent.core.prediction import winner
from agent.core.standing import local_facts, local_sight, local_writable
from agent.core.state import State

WITHOUT_FULL = (
    "there is no full copy: changed definitions (DDL), large objects, sequences and"
    " which row of a table without a key is which are not kept"
)


def known_fork(
    state: State, policy: Policy, permit: Permit | None = None
) -> Fork | None:
    """Return the first point past which the local server wrote what others lack.

    Others are the predicted winner and the server that the permit names. None: it is
    not known of one of them, or there is nothing that tells the two apart.
    """
    names = {winner(state, policy).node}
    if permit is not None and permit.source is not None:
        source = permit_source.meant(permit, policy)
        if source is not None:
            names.add(source)
    forks = [_fork_from(state, name) for name in sorted(map(str, names))]
    known = [fork for fork in forks if fork is not None]
    if not known or len(known) < len(forks):
        return None
    return min(known, key=lambda fork: fork.lsn)


def _fork_from(state: State, name: str) -> Fork | None:
    facts, theirs = local_facts(state), state.knowledge.lineages.get(name)
    if facts is None or theirs is None:
        return None
    return relate(facts.lineage, theirs).fork


def fork_to_keep(state: State, policy: Policy) -> Fork | None:
    """Return from where on rows are to be read out now; None: nobody knows."""
    known = known_fork(state, policy)
    if known is not None:
        return known
    confirmed, facts = state.knowledge.confirmed_lsn, local_facts(state)
    sight = local_sight(state, policy)
    if confirmed is None or facts is None or not local_writable(state, policy):
        return None
    timeline = sight.timeline if sight is not None else None
    return Fork(timeline or facts.lineage.timeline, confirmed)


def earlier(first: Fork | None, second: Fork | None) -> Fork | None:
    """Return the earlier one of two forks on one server's line; a known one of one."""
    if first is None or second is None:
        return first or second
    return first if first.lsn <= second.lsn else second


def covers(state: State, capture: Capture, permit: Permit, policy: Policy) -> bool:
    """Whether the rows of this capture go from the fork to the permit's last position.

    That the status is of this very server and order is for the caller to see.
    """
    begins, upto = capture.status.rows_from, capture.status.rows_lsn
    final = permit.final_lsn
    if begins is None or upto is None or final is None or upto < final:
        return False
    fork = known_fork(state, policy, permit)
    return fork is not None and begins <= fork.lsn


def suffice_now(capture: Capture, permit: Permit, at: Moment, policy: Policy) -> bool:
    """Whether rows are enough for this permit, as the configuration has it."""
    status = capture.status
    if policy.guard_minimum is Minimum.ROWS:
        return True
    if status.phase is Phase.FAILED and status.missing_bytes > 0:
        return True
    return at.wall_s - permit.asked_wall_s >= policy.permit_wait_s


def kept_by_rows(capture: Capture) -> bool:
    """Whether a capture that is closed has a stopped server's rows to its end."""
    final, upto = capture.order.final_lsn, capture.status.rows_lsn
    if final is None or upto is None or capture.status.phase is not Phase.CLOSED:
        return False
    return upto >= final
