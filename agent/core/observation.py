"""What the agent sees: one probe's result at one instant.

An observation is a success or a typed failure, never an exception. Three channels lead
to a node: the agent beside it (HTTP), its PostgreSQL (SQL) and its manager (REST). Two
more sources are not probes: what the agent reads from the disk of the server beside it,
and what peers report of their own sights. What is not known is None, never a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.care import CareBrief, ManagerSight
from agent.core.gate import Gate
from agent.core.incident import Taken
from agent.core.lineage import Lineage, PagePrint
from agent.core.loss import Loss
from agent.core.lsn import Lsn
from agent.core.prints import Marks


class Channel(StrEnum):
    """A way on which a node can be asked."""

    AGENT = "agent"
    POSTGRES = "postgres"
    MANAGER = "manager"


class Outcome(StrEnum):
    """How a probe ended. Every value but the first is a failure with a reason."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Alive and says no: 53300, 57P03, 28xxx, an HTTP 5xx, a wrong token."""
    GARBLED = "garbled"
    """Something answered that cannot be understood."""
    FOREIGN = "foreign"
    """A member of another cluster answered."""
    INCOMPATIBLE = "incompatible"
    """The peer speaks a version that this agent does not understand."""
    UNREACHABLE = "unreachable"
    """Connection refused, reset, no route, or no such name."""
    TIMED_OUT = "timed-out"

    @property
    def alive(self) -> bool:
        """Whether something answered: proof that the channel's far end runs."""
        return self not in (Outcome.UNREACHABLE, Outcome.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Sender:
    """One row of pg_stat_replication on a primary (or a cascading standby)."""

    name: str
    state: str
    sync_state: str
    flush_lsn: Lsn | None
    reply_mark: str
    """The reply time as text. Only that it changes has a meaning."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One replication slot of a server."""

    name: str
    kind: str
    """`physical` or `logical`."""
    active: bool
    """Whether somebody streams from it now."""
    restart_lsn: Lsn | None
    """WAL from here on is kept for it; None when it has never kept any."""
    lost: bool
    """Whether the WAL that it kept was removed after all."""
    database: str | None = None
    """Of a logical one, like what follows; None where an older agent tells."""
    plugin: str | None = None
    confirmed_lsn: Lsn | None = None
    """Up to here it was read and confirmed."""


@dataclass(frozen=True, slots=True)
class Archiver:
    """Where a server archives its WAL to, and how that goes."""

    method: str
    """`archive_command` or `archive_library`."""
    target: str
    """A digest of the command, or of library and folder: alike for alike settings, and
    no password in them can be read from it, though a guess can be tried against it."""
    always: bool
    """Whether it archives in recovery too."""
    archived: int
    """WAL files archived since the statistics began."""
    last_archived: str | None
    """The name of the last one."""
    failing: bool
    """Whether its latest attempt has failed."""
    last_failed: str | None
    """The name of the last WAL file that could not be archived at once."""


@dataclass(frozen=True, slots=True)
class PostgresSight:
    """What one SQL round trip told about a server."""

    system_id: str
    version_num: int
    """PostgreSQL's server_version_num, such as 160014."""
    in_recovery: bool
    timeline: int | None
    """The server's current timeline; None when it could not be known."""
    write_lsn: Lsn | None
    """Primary: current WAL insert position. Standby: last received position."""
    flush_lsn: Lsn | None
    """Primary: flushed position. Standby: last received and flushed position."""
    replay_lsn: Lsn | None
    """Standby only: last replayed position."""
    postmaster_started: str
    next_xid: int | None
    """The next transaction id to be given out; grows only when something writes."""
    upstream: str | None
    """Standby only: `host:port` of the server that it streams from."""
    receiver_mark: str | None
    """Standby only: text that changes whenever something arrives from upstream."""
    senders: tuple[Sender, ...]
    waiting_for_sync: int
    """Backends that wait for a synchronous standby."""
    waiting_for_sync_s: float
    """The longest of these waits."""
    control_timeline: int | None = None
    """What pg_control says: late until the first checkpoint after a promotion."""
    apply_delay_s: float | None = None
    """Standby only: recovery_min_apply_delay. None: not told (10 and 11, which keep it
    in recovery.conf, and older agents)."""
    replay_paused: bool | None = None
    """Standby only: whether somebody has paused its replay."""
    archiver: Archiver | None = None
    """None when it archives nothing."""
    slots: tuple[Slot, ...] = ()
    """Its replication slots by name, the first 64."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the agent read from the disk of the server beside it.

    A stopped or crashed server still has a position and a lineage.
    """

    identity: str
    """This machine's boot id and the data directory's inode: one per real server."""
    data_dir: str
    lineage: Lineage
    """Of the timeline that the server is on (see `lineage.timeline`)."""
    control_state: str
    """pg_control's state, such as `in production` or `shut down`."""
    checkpoint_lsn: Lsn
    redo_lsn: Lsn
    running: bool
    """Whether a postmaster runs on this data directory."""
    standby_signal: bool
    end_lsn: Lsn | None
    """The end of valid WAL; known exactly only while the server is stopped."""
    wal_segment_bytes: int
    version_num: int
    end_unknown: str = ""
    """Why the end of a stopped server's WAL is not known; empty when it is."""
    single_user: bool = False
    """Whether what runs takes no connections: a repair, or a recovery for pg_rewind."""
    pages: tuple[PagePrint, ...] = ()
    """Of its WAL, as just read; those that count are told to peers, in `lineage`."""
    marks: Marks | None = None
    """By which a restored directory is told; None where an older agent tells."""


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """The disk of the server beside this agent could not be read, and why."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Sight:
    """One line of the who-sees-whom matrix: the latest probe of one channel."""

    node: str
    channel: Channel
    outcome: Outcome
    reason: str
    age_s: float
    """How old the latest reading was when the report was made."""
    missed: int
    """How many readings in a row found nobody alive."""
    postgres: PostgresSight | None
    manager: ManagerSight | None


@dataclass(frozen=True, slots=True)
class WritableSpan:
    """For how long the local server was seen out of recovery, in ages.

    `started_age_s` >= `ended_age_s`; the span reaches from the first to the last of
    successive readings of one postmaster, measured on the reporter's own clock.
    """

    started_age_s: float
    ended_age_s: float
    system_id: str = ""
    """Of which system it was then; empty in the report of an older agent."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last report that the reporter received from a peer."""

    node: str
    boot_id: str
    sequence: int
    age_s: float
    round_trip_s: float


@dataclass(frozen=True, slots=True)
class IncidentBrief:
    """What peers tell each other about an incident."""

    id: str
    key: str
    occurrence: int
    status: str
    verdict: str
    since_wall_s: float
    taken: Taken | None = None
    """What a person has taken of it; None also of an older agent."""
    moved: bool = False
    """Whether any stage of it said that the primary had moved."""
    moved_to: int = 0
    """To which timeline, where its last stage says so; 0 also of an older agent."""
    spent: int = 0
    """Up to which occurrence its trouble is known to be over; 0 of an older agent."""


@dataclass(frozen=True, slots=True)
class Told:
    """What peers tell each other about a notice."""

    incident_id: str
    reason: str
    revision: int
    delivered: bool


@dataclass(frozen=True, slots=True)
class CaptureBrief:
    """What peers tell each other about a capture."""

    id: str
    node: str
    phase: str
    grade: str
    reached_lsn: Lsn | None
    incidents: tuple[str, ...] = ()
    """Ids of the incidents that called for it; empty when an older agent tells."""
    timeline: int | None = None
    size_bytes: int | None = None
    ordered_wall_s: float | None = None
    """Each None where an older agent tells."""
    loss: Loss | None = None
    """What its loss report comes to; None without one, or of an older agent."""


@dataclass(frozen=True, slots=True)
class MaintenanceBrief:
    """What peers tell each other about an announced switchover, with ages."""

    id: str
    node: str | None
    owner: str
    reason: str
    begun_age_s: float
    remaining_s: float
    """Until it ends by itself; below zero when it has."""
    ended_age_s: float | None
    """How long ago a person ended it; None when nobody has."""
    ended_by: str


@dataclass(frozen=True, slots=True)
class PinBrief:
    """What peers tell each other about who is to be kept after a split."""

    node: str | None
    who: str
    reason: str
    revision: int
    age_s: float
    incident: str | None
    over: bool = False
    """Whether the split that it was made in has ended, as the teller knows."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A receiver of notices that did not take what was last sent to it."""

    name: str
    """What the configuration calls it."""
    reason: str
    """Why not: its host and the failure, never an address with its secrets."""
    since_s: float
    """When (monotonic) the first attempt failed that no success has followed."""
    tried_s: float
    """When the last one failed."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """What peers tell each other about a receiver that fails."""

    name: str
    reason: str
    age_s: float
    """How long ago the first attempt failed that no success has followed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one agent tells its peers: what it is, and what it sees, with ages."""

    format: int
    cluster: str
    node: str
    boot_id: str
    sequence: int
    doubt: str | None
    sights: tuple[Sight, ...]
    server: ServerFacts | None
    server_age_s: float
    writable: tuple[WritableSpan, ...]
    heard: tuple[Heard, ...]
    incidents: tuple[IncidentBrief, ...]
    told: tuple[Told, ...]
    captures: tuple[CaptureBrief, ...]
    protection: str
    """The node's protection line, in words."""
    gate: Gate | None = None
    """What HA software there is led to; None: not looked yet, or an older agent."""
    maintenance: tuple[MaintenanceBrief, ...] = ()
    """Announced switchovers, running and lately over."""
    pins: tuple[PinBrief, ...] = ()
    """The latest decision on who is to be kept; several where people disagree."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Digests of the settings that must be the same on all nodes; see `Policy`."""
    receivers: int = 0
    """How many receivers of notices are configured there, once one of them failed."""
    deaf: tuple[Deaf, ...] = ()
    """Those of them that do not take what is sent."""
    care: CareBrief | None = None
    """How the manager there fares; None without a login, or from an older agent."""
    wall_s: float | None = None
    """What the wall clock there showed; None where an older agent tells."""
    spent: Mapping[str, int] = field(default_factory=dict)
    """By incident key: up to which occurrence the trouble is over, the latest known."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one probe of one channel of one node.

    Only if answered is one of `postgres`, `manager`, `report` set: the channel's own.
    """

    node: str
    channel: Channel
    outcome: Outcome
    reason: str
    """Empty when answered; otherwise one line that a person can act on."""
    sent_s: float
    """When the question left, on this agent's monotonic clock."""
    received_s: float
    """When the answer (or the failure) was there, on the same clock."""
    postgres: PostgresSight | None = None
    manager: ManagerSight | None = None
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class SelfHealth:
    """How this agent has fared since its last tick."""

    loop_lag_s: float
    wall_jump_s: float
    """How far the wall clock moved apart from the monotonic one."""
    suspended_s: float
    """How long the machine was suspended."""
