"""What a snapshot must be kept for, and which have to go. Pure.

Theory of operation. A snapshot of a losing side may be the only copy of what was
acknowledged there, so it goes only when nobody can still need it: no pin, no incident
of its that is open or was never acknowledged, no permit that rests on it. What is not
known counts against removal: an incident that the journal has forgotten, or a journal
that could not be asked, holds a snapshot unless it was noted as settled before.

What nothing holds goes when there are too many, or it is too old, or all together are
too large; what was taken by the clock before what was taken for a reason.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.core.capture import Phase
from agent.core.incident import Incident, Status
from agent.core.permit import PermitState
from agent.core.state import Ledger
from agent.snapshot.manifest import Manifest
from agent.snapshot.marks import Kept, Twin


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


def is_twin(twin: Twin, manifest: Manifest, place: str) -> bool:
    """Whether this verified twin is of the snapshot as it is now, at that place."""
    return twin.verified and twin.place == place and twin.end_lsn == end_of(manifest)


def end_of(manifest: Manifest) -> str:
    """Return how far the snapshot goes, as its twin notes it."""
    return str(manifest.end_lsn or manifest.tail_lsn)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; None: no limit."""

    scheduled: int
    """So many snapshots that were taken by the clock."""
    others: int | None = None
    """So many of all others: on demand, or of an incident."""
    age_s: float | None = None
    size_bytes: int | None = None
    """All snapshots together."""


@dataclass(frozen=True, slots=True)
class Item:
    """One snapshot, as the limits see it."""

    id: str
    scheduled: bool
    complete: bool
    """Whether it is sufficient to bring the whole server back."""
    created_wall_s: float
    size_bytes: int
    held: bool
    """Something needs it, or it is not finished: it stays whatever the limits say."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """A snapshot that is to go, and which limit says so."""

    id: str
    reason: str


def surplus(
    items: Sequence[Item], limits: Limits, now_wall_s: float
) -> tuple[Surplus, ...]:
    """Return what the limits are against, the least worthy first.

    What is held stays, and counts. The newest complete snapshot stays too: a clock that
    jumped, or a limit that is too small, must not take the last way back.
    """
    newest = sorted(items, key=lambda one: (one.created_wall_s, one.id), reverse=True)
    last = next((one.id for one in newest if one.complete), None)
    free = {one.id for one in newest if not one.held and one.id != last}
    going: dict[str, str] = {}
    for one, reason in (
        *_too_many(newest, limits),
        *_too_old(newest, limits, now_wall_s),
    ):
        if one.id in free:
            going.setdefault(one.id, reason)
    for one in _too_large(newest, limits, free, going):
        going.setdefault(one.id, "all together are over the limit of size")
    order = {one.id: number for number, one in enumerate(reversed(_worth(newest)))}
    ids = sorted(going, key=lambda one: order[one])
    return tuple(Surplus(one, going[one]) for one in ids)


def yielding(items: Sequence[Item], *, last_too: bool) -> tuple[Item, ...]:
    """Return what may make way for a new snapshot, the least worthy first.

    What is held never does; the newest complete one only with `last_too`, and then it
    is the last to go.
    """
    newest = sorted(items, key=lambda one: (one.created_wall_s, one.id), reverse=True)
    last = [one for one in newest if one.complete][:1]
    others = [one for one in reversed(_worth(newest)) if one not in last]
    going = [*others, *last] if last_too else others
    return tuple(one for one in going if not one.held)


def sacrifice(
    items: Sequence[Item], missing_bytes: int, *, last_too: bool
) -> tuple[Item, ...]:
    """Return what has to go so that so many bytes come free, the least worthy first.

    Empty where all of it is not enough: what is removed in vain helps nobody.
    """
    going: list[Item] = []
    for one in yielding(items, last_too=last_too):
        going.append(one)
        missing_bytes -= one.size_bytes
        if missing_bytes <= 0:
            return tuple(going)
    return ()


def _worth(newest: Sequence[Item]) -> list[Item]:
    """Return the worthiest first: what was taken for a reason, then by age."""
    return sorted(newest, key=lambda one: one.scheduled)


def _too_many(newest: Sequence[Item], limits: Limits) -> Iterator[tuple[Item, str]]:
    for scheduled, limit in ((True, limits.scheduled), (False, limits.others)):
        if limit is None:
            continue
        kind = "scheduled" if scheduled else "other"
        for one in [each for each in newest if each.scheduled is scheduled][limit:]:
            yield one, f"more than {limit} {kind} snapshots"


def _too_old(
    newest: Sequence[Item], limits: Limits, now_wall_s: float
) -> Iterator[tuple[Item, str]]:
    if limits.age_s is None:
        return
    for one in newest:
        if now_wall_s - one.created_wall_s > limits.age_s:
            yield one, f"older than {limits.age_s / 86_400:g} days"


def _too_large(
    newest: Sequence[Item], limits: Limits, free: set[str], going: Mapping[str, str]
) -> Iterator[Item]:
    """Yield the least worthy ones until the rest is small enough."""
    if limits.size_bytes is None:
        return
    total = sum(one.size_bytes for one in newest if one.id not in going)
    for one in reversed(_worth(newest)):
        if total <= limits.size_bytes:
            return
        if one.id in free and one.id not in going:
            total -= one.size_bytes
            yield one
