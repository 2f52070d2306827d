"""What the stand-in managers tell each other.

Each manager publishes its standing; the others poll it through the relays. LSNs
and timelines are the server's, read from it while it runs and from its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.lsn import Lsn
from agent.lab.membership import Membership


@dataclass(frozen=True, slots=True)
class ServerStanding:
    """Where a running PostgreSQL is."""

    in_recovery: bool
    timeline: int
    lsn: Lsn
    """Flushed on a primary; received on a standby."""
    replay_lsn: Lsn
    """Flushed on a primary; replayed on a standby. What was received past it may be
    a record's beginning that never became one."""
    last_row_at: float
    """When the newest row of the manager was committed (about), wall seconds; 0 when
    there is none."""
    upstream_port: int | None
    """The port that a standby is told to stream from."""
    switches: tuple[tuple[int, Lsn], ...] = ()
    """The timelines before this one, and where each was left."""
    histories: dict[str, str] = field(default_factory=dict)
    """The timeline history files, by name."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who stays active after managers have met."""

    id: str
    winner: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """Several active managers see each other."""

    since_s: float
    newest: str
    """Whose database was the newest when they met."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one manager says of itself."""

    name: str
    active: bool
    busy: str
    """`starting`, `resyncing`, or empty."""
    server: ServerStanding | None
    decision: Decision | None = None
    met: bool = False
    """Whether it has seen another active manager and knows who will win."""
    note: str = ""
    """What it does or waits for, in words."""
    membership: Membership = field(default_factory=Membership)
    """Which nodes belong to its cluster, as far as it knows."""


def contains(history: ServerStanding, other: ServerStanding) -> bool:
    """Whether everything that `other` holds is part of `history`'s line.

    On one and the same timeline the one may be ahead of the other's last word, so
    equal timelines with equal histories always count as contained.
    """
    if other.switches != history.switches[: len(other.switches)]:
        return False
    if other.timeline == history.timeline:
        return len(other.switches) == len(history.switches)
    return any(
        timeline == other.timeline and other.replay_lsn <= lsn
        for timeline, lsn in history.switches
    )


def outranks(server: ServerStanding, histories: Mapping[str, str]) -> bool:
    """Whether a server's timeline is above those that these histories are of.

    Its own history, which a node may have fetched from it, does not count.
    """
    own = server.histories.get(f"{server.timeline:08X}.history")
    foreign = [name for name, text in histories.items() if text != own]
    return all(int(name.partition(".")[0], 16) < server.timeline for name in foreign)
