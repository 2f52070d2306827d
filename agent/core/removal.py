"""What is left in the ledger of a snapshot that somebody has removed.

Theory of operation. The ledger's captures are what peers are told of and what permits
rest on. A removal is recorded on the disk, whoever made it (this agent's upkeep, its
API, a command that asked nobody), and the shell tells of it. The entry then goes, and
with the next report the snapshot is gone everywhere. What still goes on, or carries a
granted permit, stays: that is not over, and the engine and the gate have their say.
"""

from collections.abc import Collection

from agent.core.capture import Capture, Phase
from agent.core.frozen import replace
from agent.core.permit import PermitState
from agent.core.state import State

OVER = (Phase.CLOSED, Phase.FAILED)


def forgettable(state: State, node: str) -> frozenset[str]:
    """Return the captures of this node that could be forgotten if they were removed."""
    promised = {
        permit.capture_id
        for permit in state.ledger.permits
        if permit.state is PermitState.GRANTED
    }
    return frozenset(
        capture.order.capture_id
        for capture in state.ledger.captures
        if _is_over(capture, node) and capture.order.capture_id not in promised
    )


def forgotten(state: State, removed: Collection[str], node: str) -> State:
    """Return the state without the captures whose snapshots were removed."""
    gone = forgettable(state, node) & frozenset(removed)
    if not gone:
        return state
    captures = tuple(
        capture
        for capture in state.ledger.captures
        if capture.order.capture_id not in gone
    )
    return replace(state, ledger=replace(state.ledger, captures=captures))


def _is_over(capture: Capture, node: str) -> bool:
    return capture.order.node == node and capture.status.phase in OVER
