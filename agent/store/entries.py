"""The ledger as rows, and back.

Theory of operation. Each incident, capture, permit, told notice and occurrence is
one entry with a kind and an id. An entry is written again only when its value is
another one than before. Its place in its tuple is kept by a rank: rising along
the tuple, given anew only to entries that are new or have moved.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from agent import codec
from agent.core.capture import Capture
from agent.core.incident import Incident
from agent.core.permit import Permit
from agent.core.plan import Maintenance, Pin
from agent.core.state import Ledger, ToldEntry

T = TypeVar("T")


class Kind(StrEnum):
    """What an entry is."""

    INCIDENT = "incident"
    OCCURRENCE = "occurrence"
    CAPTURE = "capture"
    PERMIT = "permit"
    TOLD = "told"
    MAINTENANCE = "maintenance"
    PIN = "pin"


Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: its value as it stands in the ledger, and its rank in its kind."""

    value: object
    rank: int


def split(ledger: Ledger) -> Iterator[tuple[Kind, Sequence[tuple[str, object]]]]:
    """Return each kind with its ids and values, in the ledger's order."""
    yield Kind.INCIDENT, [(item.id, item) for item in ledger.incidents]
    yield Kind.OCCURRENCE, list(ledger.occurrences.items())
    yield Kind.CAPTURE, [(item.order.capture_id, item) for item in ledger.captures]
    yield Kind.PERMIT, [(item.id, item) for item in ledger.permits]
    yield Kind.TOLD, [(item.notice_id, item) for item in ledger.told]
    yield Kind.MAINTENANCE, [(item.id, item) for item in ledger.maintenance]
    yield (
        Kind.PIN,
        [(f"{item.revision}/{item.node or ''}", item) for item in ledger.pins],
    )


def ranked(ledger: Ledger, before: Mapping[Key, Entry]) -> dict[Key, Entry]:
    """Return the ledger's entries, with ranks that rise along each tuple."""
    entries: dict[Key, Entry] = {}
    for kind, items in split(ledger):
        last = 0
        top = max((e.rank for (k, _), e in before.items() if k is kind), default=0)
        for name, value in items:
            known = before.get((kind, name))
            if known is not None and known.rank > last:
                last = known.rank
            else:
                top = max(top, last) + 1
                last = top
            entries[kind, name] = Entry(value, last)
    return entries


def to_body(value: object) -> str:
    """Return an entry's value as JSON."""
    return codec.to_json(value)


def joined(rows: Iterable[tuple[Kind, str, str]]) -> Ledger:
    """Return the ledger of these (kind, id, body) rows, in rank order.

    Raises CodecError when a body does not have its kind's shape.
    """
    bodies: dict[Kind, list[tuple[str, str]]] = {kind: [] for kind in Kind}
    for kind, name, body in rows:
        bodies[kind].append((name, body))
    return Ledger(
        incidents=_values(bodies[Kind.INCIDENT], Incident),
        occurrences={
            name: codec.from_json(body, int) for name, body in bodies[Kind.OCCURRENCE]
        },
        captures=_values(bodies[Kind.CAPTURE], Capture),
        permits=_values(bodies[Kind.PERMIT], Permit),
        told=_values(bodies[Kind.TOLD], ToldEntry),
        maintenance=_values(bodies[Kind.MAINTENANCE], Maintenance),
        pins=_values(bodies[Kind.PIN], Pin),
    )


def _values(bodies: Iterable[tuple[str, str]], kind: type[T]) -> tuple[T, ...]:
    return tuple(codec.from_json(body, kind) for _, body in bodies)


def flip_body(incident: Incident) -> str:
    """Return an incident as its history keeps it: without the history itself."""
    return codec.to_json(replace(incident, history=incident.history[-1:]))
