"""What an incident puts at stake, told from the captures in the ledger.

Theory of operation. `safe` is said only of copies that were read back and whose
WAL chain was checked to its end. A capture that failed leaves its node's data at
risk, and so does a split without any capture. `lost` is said when a person let a
resync pass before the copy was complete.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.core.capture import Capture, Grade, Phase
from agent.core.incident import Incident
from agent.core.permit import PermitState
from agent.core.state import Ledger
from agent.core.verdict import Family, VerdictCode

SNAPSHOTS_LIMIT = 20


class Stake(StrEnum):
    """How the data fares that a resync would destroy."""

    SAFE = "safe"
    COPYING = "copying"
    AT_RISK = "at_risk"
    LOST = "lost"
    NONE = "none"

    @property
    def words(self) -> str:
        """Return the words of a summary."""
        return {
            Stake.SAFE: "data is safe",
            Stake.COPYING: "data is being copied",
            Stake.AT_RISK: "data at risk",
            Stake.LOST: "data lost",
            Stake.NONE: "no data at stake",
        }[self]


@dataclass(frozen=True, slots=True)
class DataAtStake:
    """The body's `data_at_stake`; None where a number is not known."""

    state: Stake
    bytes: int | None
    """WAL that no other node has confirmed."""
    transactions: int | None
    snapshots: tuple[str, ...]


def data_at_stake(incident: Incident, ledger: Ledger) -> DataAtStake:
    """Return what is at stake in this incident."""
    captures = [item for item in ledger.captures if _concerns(item, incident)]
    released = {
        permit.capture_id
        for permit in ledger.permits
        if permit.state is PermitState.RELEASED
    }
    return DataAtStake(
        state=_state(incident, captures, released),
        bytes=_unconfirmed_bytes(captures),
        transactions=_transactions(incident),
        snapshots=tuple(item.order.capture_id for item in captures)[-SNAPSHOTS_LIMIT:],
    )


def _concerns(capture: Capture, incident: Incident) -> bool:
    if incident.id in capture.order.incident_ids:
        return True
    return (
        incident.verdict.family is Family.PROTECTION
        and capture.order.node in incident.verdict.subject.split("|")
    )


def _state(
    incident: Incident, captures: list[Capture], released: set[str | None]
) -> Stake:
    unfinished = [item for item in captures if not _complete(item)]
    if any(item.order.capture_id in released for item in unfinished):
        return Stake.LOST
    if _unprotected(incident, captures, unfinished):
        return Stake.AT_RISK
    if any(item.status.phase is not Phase.CLOSED for item in unfinished):
        return Stake.COPYING
    return Stake.SAFE if len(captures) > len(unfinished) else Stake.NONE


def _unprotected(
    incident: Incident, captures: list[Capture], unfinished: list[Capture]
) -> bool:
    """Whether a copy failed, or is called for and is not there."""
    if any(item.status.phase is Phase.FAILED for item in unfinished):
        return True
    if captures and not unfinished:
        return False
    if incident.verdict.code is VerdictCode.UNPROTECTED:
        return True
    forked = incident.verdict.family is Family.SPLIT and incident.status.standing
    return forked and not captures


def _complete(capture: Capture) -> bool:
    return capture.status.grade.rank >= Grade.COMPLETE.rank


def _unconfirmed_bytes(captures: list[Capture]) -> int | None:
    """Return how much WAL the captured nodes hold past what others confirmed."""
    sizes: list[int] = []
    for item in captures:
        end = item.order.final_lsn or item.status.reached_lsn or item.status.tail_lsn
        if end is None or item.order.confirmed_lsn is None:
            return None
        sizes.append(max(0, int(end) - int(item.order.confirmed_lsn)))
    return sum(sizes) if sizes else None


def _transactions(incident: Incident) -> int | None:
    counted = [loss.transactions for loss in incident.losses]
    if counted and None not in counted:
        return sum(filter(None, counted))
    count = incident.verdict.evidence.get("transactions")
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    return None
