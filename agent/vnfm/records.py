"""What a manager tells, in the shapes that the rest of Splitguard works with.

Theory of operation. A manager's answers have many more keys, which differ from version
to version; here stand those that somebody needs, with a value for "not told". Nothing
in here can hold a password: what carries one (the answer to a create, the list of
brokers) is read key by key and the rest is dropped at once.
Source: Cloudify Manager's REST service, 4.5.5 to 7.1.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Generation(StrEnum):
    """How a cluster of managers is built."""

    ACTIVE_STANDBY = "4.x"
    """One active manager, each beside a PostgreSQL of its own; Consul elects."""
    ALL_ACTIVE = "5.x+"
    """Every manager active, over a database cluster under Patroni."""


class SnapshotStatus(StrEnum):
    """The states of a manager's snapshot."""

    CREATING = "creating"
    CREATED = "created"
    FAILED = "failed"
    UPLOADED = "uploaded"
    UNKNOWN = "unknown"
    """A word that no known version says."""


SNAPSHOT_ENDS = (SnapshotStatus.CREATED, SnapshotStatus.FAILED, SnapshotStatus.UPLOADED)


class ExecutionStatus(StrEnum):
    """The states of an execution, which is the work behind a snapshot or a restore."""

    PENDING = "pending"
    STARTED = "started"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    CANCELLING = "cancelling"
    FORCE_CANCELLING = "force_cancelling"
    KILL_CANCELLING = "kill_cancelling"
    TERMINATED = "terminated"
    """It succeeded."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


EXECUTION_ENDS = (
    ExecutionStatus.TERMINATED,
    ExecutionStatus.FAILED,
    ExecutionStatus.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class ManagerSnapshot:
    """A snapshot as the manager lists it."""

    id: str
    status: SnapshotStatus
    created_at: str
    """As the manager writes it: ISO 8601 in UTC."""
    tenant: str
    error: str = ""
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """A piece of work of the manager."""

    id: str
    workflow: str
    """`create_snapshot`, `restore_snapshot`, …"""
    status: ExecutionStatus
    created_at: str = ""
    ended_at: str = ""
    error: str = ""
    snapshot: str = ""
    """The snapshot that it is about; empty when it is not told."""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """What a manager says of its own version."""

    version: str
    edition: str = ""

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Return major, minor and patch; zeros for what is not a number."""
        parts = (*self.version.split("."), "0", "0", "0")[:3]
        first, second, third = (
            int("".join(c for c in part if c.isdigit()) or 0) for part in parts
        )
        return first, second, third

    @property
    def generation(self) -> Generation:
        """Return how a cluster of this version is built; 5.0.5 is the border."""
        if self.numbers >= (5, 0, 5):
            return Generation.ALL_ACTIVE
        return Generation.ACTIVE_STANDBY


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a manager's `/status`."""

    name: str
    running: bool
    told: str
    """The manager's own word, such as `Active` or `running`."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `GET /status` said."""

    active: bool
    """False where a manager of the 4.x line says that it is not."""
    word: str
    """`OK`, `Fail`, `running`, or the error code of the one that is not active."""
    services: tuple[Service, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the managers' cluster, as one manager sees it."""

    kind: str
    """`manager`, `db` or `broker`."""
    name: str
    address: str
    status: str
    """`OK`, `Degraded`, `Fail`; for 4.x `leader`, `replica`, `offline`."""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What a manager says of its whole cluster."""

    status: str
    """`OK`, `Degraded` or `Fail`; for 4.x what follows from its nodes."""
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class ClusterStart:
    """How far a manager of the 4.x line is in starting or joining a cluster."""

    initialized: bool
    error: str
    lines: tuple[str, ...] = ()
    """The end of what it says while it does that."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The manager's maintenance mode."""

    status: str
    """`deactivated`, `activating` or `activated`."""
    remaining: int = 0
    """Executions that it waits for."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was made. `value` is shown once and never logged."""

    id: str
    value: str = field(repr=False)
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did, from the manager's audit log (6.2 and later)."""

    at: str
    who: str
    operation: str
    table: str
    id: str
    tenant: str = ""
