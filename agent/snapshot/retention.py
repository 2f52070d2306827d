"""What a snapshot must be kept for. Pure: facts go in, reasons come out.

Theory of operation. A snapshot of a losing side may be the only copy of what was
acknowledged there, so it goes only when nobody can still need it: no pin, no incident
of its that is open or was never acknowledged, no permit that rests on it. What is not
known counts against removal: an incident that the journal has forgotten, or a journal
that could not be asked, holds a snapshot unless it was noted as settled before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.capture import Phase
from agent.core.incident import Incident, Status
from agent.core.permit import PermitState
from agent.core.state import Ledger
from agent.snapshot.marks import Kept


@dataclass(frozen=True, slots=True)
class Bond:
    """What one snapshot is bound to."""

    id: str
    closed: bool
    incident_ids: tuple[str, ...]
    settled: frozenset[str] = frozenset()
    """Of its incidents, those that were seen to be over and acknowledged."""
    kept: Kept | None = None


def holds(bond: Bond, ledger: Ledger | None) -> tuple[str, ...]:
    """Return why the snapshot must stay, a sentence each; empty when it may go.

    `ledger` None: the agent's journal could not be asked.
    """
    return (*_pins(bond), *_incidents(bond, ledger), *_permits(bond, ledger))


def in_work(bond: Bond, ledger: Ledger | None) -> bool:
    """Whether the agent still adds to it: then nobody may remove it."""
    if ledger is None:
        return not bond.closed
    return any(
        one.order.capture_id == bond.id
        and one.status.phase not in (Phase.CLOSED, Phase.FAILED)
        for one in ledger.captures
    )


def settled_now(bond: Bond, ledger: Ledger) -> frozenset[str]:
    """Return its incidents that are over and acknowledged, noted ones included."""
    over = {one.id for one in ledger.incidents if _is_settled(one)}
    return bond.settled | (over & set(bond.incident_ids))


def _pins(bond: Bond) -> Iterable[str]:
    if bond.kept is not None:
        yield f"it is pinned by {bond.kept.who}: {bond.kept.reason}"


def _incidents(bond: Bond, ledger: Ledger | None) -> Iterable[str]:
    known = {one.id: one for one in ledger.incidents} if ledger is not None else {}
    for incident_id in bond.incident_ids:
        if incident_id in bond.settled:
            continue
        incident = known.get(incident_id)
        if incident is None:
            yield f"nobody here can say whether incident {incident_id} is settled"
        elif not _is_settled(incident):
            yield f"incident {incident_id} {_STATES[incident.status]}"


_STATES = {
    Status.PENDING: "is pending",
    Status.OPEN: "is open and not acknowledged",
    Status.ACKNOWLEDGED: "is not over",
    Status.RESOLVED: "was never acknowledged",
}


def _is_settled(incident: Incident) -> bool:
    over = incident.status is Status.RESOLVED
    return over and incident.acknowledged_by is not None


def _permits(bond: Bond, ledger: Ledger | None) -> Iterable[str]:
    for permit in ledger.permits if ledger is not None else ():
        if permit.capture_id != bond.id:
            continue
        if permit.state is PermitState.GRANTED:
            yield f"permit {permit.id} was granted because of it"
        elif permit.state is PermitState.PENDING:
            yield f"permit {permit.id} waits for it"
