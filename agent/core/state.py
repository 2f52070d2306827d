"""The state of one agent, in three parts by how long they must live.

`Ledger` is on disk before any action of its step is carried out. `Knowledge` is
written once a round; losing the last second of it costs nothing but time. `View`
is what was seen since the agent started and is gone with the process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.capture import Capture, CaptureStatus
from agent.core.care import ManagerCare
from agent.core.gate import Gate
from agent.core.incident import Incident
from agent.core.lineage import Lineage, PagePrint
from agent.core.lsn import Lsn
from agent.core.observation import (
    Failing,
    Observation,
    ReadFailure,
    ServerFacts,
    Told,
)
from agent.core.permit import Permit
from agent.core.plan import Maintenance, Pin
from agent.core.prints import Printed
from agent.core.readiness import Readiness
from agent.core.selfdoubt import SelfDoubt
from agent.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class ToldEntry:
    """A notice that this agent has put into its outbox, or knows from a peer."""

    notice_id: str
    told: Told
    mine: bool
    wall_s: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """What must never be forgotten."""

    incidents: tuple[Incident, ...] = ()
    """Pending, standing, and the latest resolved ones, oldest first."""
    occurrences: Mapping[str, int] = field(default_factory=dict)
    """For each incident key the highest occurrence that was ever resolved, in this
    journal or in any peer's report."""
    captures: tuple[Capture, ...] = ()
    permits: tuple[Permit, ...] = ()
    told: tuple[ToldEntry, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    """Announced switchovers, in the order in which they were heard of."""
    pins: tuple[Pin, ...] = ()
    """The latest decision on who is to be kept after a split; several where people who
    did not know of each other decided otherwise."""


@dataclass(frozen=True, slots=True)
class PrimarySeen:
    """The last node that was seen to be the only primary."""

    node: str
    timeline: int
    lsn: Lsn
    system_id: str
    wall_s: float = 0.0
    """When it was last seen to be it, to the minute."""


@dataclass(frozen=True, slots=True)
class HighWater:
    """The highest position that a primary was seen to have flushed on a timeline."""

    timeline: int
    begun: Lsn | None
    """Where the timeline began, which tells it from another one of that number; None
    for the first timeline, and while nobody has read it."""
    prints: tuple[str, ...]
    """Fingerprints of that place, which tell two that began at one; often none."""
    lsn: Lsn
    node: str
    """Which node was the primary then."""
    system_id: str
    wall_s: float
    """When it was last seen to be there, to the minute."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How far a logical slot was read: what lies before is known downstream."""

    slot: str
    database: str
    plugin: str
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The local server when it was last seen to accept writes."""

    timeline: int
    waiting: int = 0
    """Commits that waited for a synchronous standby."""
    since_wall_s: float | None = None
    """When the longest of these waits began; None when nothing waited."""
    seen_wall_s: float | None = None
    """When they were last seen to wait; None when nothing waited."""
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What was learnt of the cluster and outlives its servers."""

    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    """Per node the last lineage that was read from its disk, with all that was ever
    printed of its switches and still holds."""
    printed: Mapping[str, Printed] = field(default_factory=dict)
    """Per node these prints, with the marks of the directory that they are of."""
    primary: PrimarySeen | None = None
    highest: tuple[HighWater, ...] = ()
    """One for each of the latest timelines; what a person has given up is lowered."""
    confirmed_lsn: Lsn | None = None
    """The last position of this node's primary that a standby had confirmed."""
    confirmed_xid: int | None = None
    """The next transaction id at that time: a greater one now means that something
    was written which no other node has."""
    last_seen: LastSeen | None = None
    """What a copy of the local server does not tell of its writes."""


@dataclass(frozen=True, slots=True)
class WritableSince:
    """Readings of one postmaster out of recovery, first to last, monotonic."""

    node: str
    postmaster_started: str
    first_s: float
    last_s: float
    system_id: str = ""


@dataclass(frozen=True, slots=True)
class SplitProof:
    """Proof that two nodes were writable at once."""

    first: str
    second: str
    method: str
    """`three readings` or `overlapping intervals`."""
    proven_s: float
    evidence: Mapping[str, str | int | float | bool | None]
    ended: Mapping[str, float] = field(default_factory=dict)
    """By node whose run was seen to have ended since: when the answer came."""

    @property
    def over(self) -> bool:
        """Whether one of the two runs was seen to have ended since."""
        return bool(self.ended)


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of a server that was out of recovery, on our own clock."""

    node: str
    sent_s: float
    received_s: float
    postmaster_started: str
    system_id: str
    timeline: int | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A text whose change proves that something still sends."""

    text: str
    changed_s: float | None
    """When (monotonic) it was last seen to change; None before the first change."""
    read_s: float
    """When it was last read."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a server's WAL was when it was last known on which timeline."""

    timeline: int
    lsn: Lsn
    read_s: float


@dataclass(frozen=True, slots=True)
class Received:
    """Up to where a standby holds WAL while no receiver tells of which timeline."""

    lsn: Lsn
    since_s: float
    """When it was first read to be there."""
    timeline: int | None
    """What pg_control says: late until the first restart point after a switch."""


@dataclass(frozen=True, slots=True)
class View:
    """What has been seen since the agent started."""

    boot_id: str = ""
    sequence: int = 0
    """Number of the round, and of the report that it makes."""
    latest: Mapping[str, Observation] = field(default_factory=dict)
    """By `node/channel`: the latest observation."""
    alive: Mapping[str, Observation] = field(default_factory=dict)
    """By `node/channel`: the latest one that found somebody alive."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """By `node/channel`: readings in a row that found nobody alive."""
    lost: tuple[float, ...] = ()
    """When a channel answered after a miss or two (monotonic), the latest few."""
    server: ServerFacts | ReadFailure | None = None
    server_read_s: float = 0.0
    pages: tuple[PagePrint, ...] = ()
    """Pages of WAL as the last reading of the local disk found them."""
    readiness: Readiness | None = None
    """What the last look found that a full copy would need."""
    gate: Gate | None = None
    """What the last look at this machine's HA software found."""
    care: ManagerCare | None = None
    """How the manager beside this agent fares, once it was asked with a login."""
    receivers: int = 0
    """How many receivers of notices there are, once one of them has failed."""
    failing: tuple[Failing, ...] = ()
    """Those that did not take what was last sent to them."""
    offset_s: float | None = None
    """By how much the wall clock was ahead of the monotonic one at the last round."""
    self_doubt: SelfDoubt | None = None
    """Why this agent's own misses count less for now."""
    writable: tuple[WritableSince, ...] = ()
    reports: Mapping[str, Observation] = field(default_factory=dict)
    """By node: the observation that brought its latest accepted report."""
    readings: tuple[Reading, ...] = ()
    """The latest answers out of recovery, a few per node, oldest first."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By `witness>node`: what replication on the witness shows of the node."""
    positions: Mapping[str, Position] = field(default_factory=dict)
    """By node: the last position that was read together with its timeline."""
    received: Mapping[str, Received] = field(default_factory=dict)
    """By standby that receives nothing: what it holds, of whatever timeline."""
    unconfirmed: tuple[Lsn, int] | None = None
    """A flushed position of the local primary, and the next transaction id then,
    that no standby had confirmed yet."""
    sent: tuple[tuple[int, float], ...] = ()
    """Sequence and instant of this agent's own reports, oldest first, bounded."""
    proofs: tuple[SplitProof, ...] = ()
    closing: Mapping[str, float] = field(default_factory=dict)
    """By capture: when the engine was last told to close it."""
    bare_s: float | None = None
    """Since when the local server is known as a loser that nothing captures."""
    dark: Mapping[str, float] = field(default_factory=dict)
    """Per node the last instant at which this agent saw it on no channel."""
    isolated_s: float | None = None
    """The last instant at which this agent saw no majority."""
    in_hand: frozenset[str] = frozenset()
    """Captures that the engine was given since the agent started."""
    untaken: Mapping[str, CaptureStatus] = field(default_factory=dict)
    """By capture: the latest status told, until the journalled ledger has it."""
    verdicts: tuple[Verdict, ...] = ()
    """What is so now, gravest first; never empty after the first tick."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that `step` works on."""

    ledger: Ledger = field(default_factory=Ledger)
    knowledge: Knowledge = field(default_factory=Knowledge)
    view: View = field(default_factory=View)
