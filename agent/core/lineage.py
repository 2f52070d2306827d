"""Where a server's WAL comes from, and where two servers parted.

A lineage is the chain of timelines that leads to a server: for each ancestor the
LSN at which it was left. It comes from the timeline history file; the numbers
alone prove nothing, because two servers promoted apart may both take the same
number, and even byte-identical history files may stand before different WAL. The
fingerprint of the WAL at a switch tells those apart. Two servers that wrote on
under one number, from the same beginning, are told apart by pages of their WAL. So an
identity is (system id, timeline, parent timeline, switch LSN, fingerprint), and a fork
is the last point that two lineages share.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.core.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Switch:
    """One line of a history file: `timeline` was left at `lsn`."""

    timeline: int
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 of the WAL from the switch LSN that began `timeline`.

    It reaches through the first END_OF_RECOVERY or CHECKPOINT_SHUTDOWN record. A
    server that was cloned later has no such segment, so absence proves nothing.
    """

    timeline: int
    lsn: Lsn
    sha256: str


@dataclass(frozen=True, slots=True)
class PagePrint:
    """What one whole page of a server's WAL holds.

    Equal on every server that holds this WAL: pages are streamed and archived as they
    are. See `pageprint` for which pages are read, and for what a difference proves.
    """

    timeline: int
    lsn: Lsn
    """Where the page begins."""
    digest: str
    """The first half of the page's SHA-256."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain of timelines that leads to one server, oldest first."""

    system_id: str
    timeline: int
    switches: tuple[Switch, ...]
    """The ancestors of `timeline`, ascending; empty on timeline 1."""
    fingerprints: tuple[Fingerprint, ...] = ()
    pages: tuple[PagePrint, ...] = ()
    """Pages of `timeline`, by position; empty where an older agent tells, or where none
    could be read, which proves nothing."""


def births(switches: tuple[Switch, ...], timeline: int) -> tuple[tuple[int, Lsn], ...]:
    """Return the timelines that lead to this one with where each began, oldest first.

    The first one of all has no beginning.
    """
    began = (*(one.timeline for one in switches[1:]), timeline)
    return tuple((born, one.lsn) for one, born in zip(switches, began, strict=False))


class Kinship(StrEnum):
    """How two lineages relate."""

    SAME = "same"
    """One timeline, nothing known that tells them apart."""
    DESCENDS = "descends"
    """The second one left the first one's timeline: the first is its ancestor."""
    ANCESTOR = "ancestor"
    """The first one left the second one's timeline."""
    FORKED = "forked"
    """Both left a common timeline, at the fork, for different ones."""
    TWIN = "twin"
    """The same timeline number stands for different WAL on the two."""
    FOREIGN = "foreign"
    """Another system id: never one cluster."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The last point that two lineages share."""

    timeline: int
    """The common (parent) timeline."""
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Relation:
    """How two lineages relate, and where they parted.

    `fork` is None for `same` and `foreign`.
    """

    kinship: Kinship
    fork: Fork | None
