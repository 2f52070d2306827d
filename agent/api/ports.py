"""What the routes need besides the desk: a shelf of snapshots, and their options.

Theory of operation. The routes see the catalogue through a small protocol, so that they
neither read manifests nor know where copies lie. All methods of a shelf may block; the
routes call them in threads.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from agent.api.ports_managers import ManagerSnapshots
from agent.core.lsn import Lsn
from agent.divergence.report import Report
from agent.snapshot.marks import Kept, Twin
from agent.store.recall import Recalled, Window


def _random_id() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class SnapshotCard:
    """What the manifest of one snapshot says, in the words of the API."""

    id: str
    node: str
    cluster: str
    created_wall_s: float
    """When the capture began."""
    grade: str
    """`none`, `captured`, `complete` or `opened`."""
    levels: tuple[str, ...]
    """Of `tail`, `pin`, `rows` and `full`, what was ordered."""
    method: str
    """How the full copy was made; empty when there is none."""
    reason: str
    incident_ids: tuple[str, ...]
    system_id: str | None
    timeline: int | None
    start_lsn: str | None
    end_lsn: str | None
    """How far the copy is good, as PostgreSQL prints it."""
    bytes: int
    files: int
    version_num: int | None
    closed: bool
    """Whether nothing more is added to it."""
    method_note: str = ""
    """Why it was made so."""
    rows_from: str | None = None
    """Past here every row that was written is kept; None: no rows are."""
    rows_lsn: str | None = None
    kept: Kept | None = None
    """Who keeps it from being pruned."""
    twin: Twin | None = None
    """What became of its archive off-site."""
    settled: tuple[str, ...] = ()
    """Of its incidents, those that were seen to be over and acknowledged."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of reading a snapshot back."""

    id: str
    ok: bool
    grade: str
    """The grade that the snapshot has after this check."""
    files: int
    bytes: int
    problems: tuple[str, ...]
    """Each file that is missing, changed or too much; bounded to 100."""
    notes: tuple[str, ...] = ()
    """What could not be checked, and why."""


class ArchiveOf(Protocol):
    """One snapshot as an uncompressed tar archive: always the same bytes."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    @property
    def tag(self) -> str:
        """What names these bytes."""
        ...

    def stream(self, start: int = 0) -> Iterator[bytes]:
        """Yield it from byte `start` on. Blocking; raises SnapshotError."""
        ...


class SnapshotShelf(Protocol):
    """The snapshots beside this agent. Blocking; unknown ids raise SnapshotError."""

    def list(self) -> tuple[SnapshotCard, ...]:
        """Return all snapshots whose manifest can be read, newest first."""
        ...

    def show(self, snapshot_id: str) -> SnapshotCard | None:
        """Return one snapshot; None when there is none of this id."""
        ...

    def archive(self, snapshot_id: str) -> ArchiveOf:
        """Return the snapshot as an archive. Raises SnapshotError."""
        ...

    def digest(self, archive: ArchiveOf) -> str:
        """Return the archive's SHA-256 in hex, read anew. Raises SnapshotError."""
        ...

    def verify(self, snapshot_id: str) -> VerifyReport:
        """Read every file back and compare it with the manifest."""
        ...

    def keep(self, snapshot_id: str, mark: Kept) -> None:
        """Keep the snapshot from being pruned."""
        ...

    def release(self, snapshot_id: str) -> None:
        """Keep it no longer."""
        ...

    def remove(self, snapshot_id: str, who: str, reason: str, wall_s: float) -> None:
        """Remove it for good, and record by whom and why."""
        ...


class LossPhase(StrEnum):
    """Where the making of one loss report is."""

    NONE = "none"
    """Nobody has wanted one."""
    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"
    MADE = "made"


@dataclass(frozen=True, slots=True)
class LossStand:
    """How far one loss report is."""

    phase: LossPhase
    doing: str = ""
    """What is being done, in words."""
    done: int = 0
    total: int = 0
    """0: nobody knows."""
    reason: str = ""
    """Why it failed, or what it waits for."""
    hint: str = ""


class LossReports(Protocol):
    """Loss reports of the snapshots beside this agent. Blocking."""

    def stand(self, snapshot_id: str) -> LossStand:
        """Return how far the report of a snapshot is."""
        ...

    def ask(self, snapshot_id: str) -> LossStand:
        """Have it made, anew if there is one; return how far that is.

        Never waits for it. What speaks against it is told as a failure.
        """
        ...

    def report(self, snapshot_id: str) -> Report | None:
        """Return the report that is stored. Raises SnapshotError."""
        ...


class Changes(Protocol):
    """What the server beside this agent did past a fork, by its own log."""

    def told(
        self, timeline: int, fork_lsn: Lsn, lsn: Lsn, shown: Mapping[str, str]
    ) -> Iterator[bytes]:
        """Yield the story in pieces, as `divergence.transfer` reads it. Blocking.

        `shown` has for each database, by object id, the snapshot that the asker sees.
        Raises DivergenceError before the first piece; a stream without its last line
        has broken off.
        """
        ...


class FieldRounds(Protocol):
    """What the agent saw, round by round."""

    async def freshen(self) -> None:
        """Make what was seen up to now readable."""
        ...

    def export(self, since_wall_s: float | None) -> Iterator[bytes]:
        """Yield the field journal since then, in pieces. Blocking.

        Raises JournalError or CodecError, at the first piece or later.
        """
        ...

    def recall(self, windows: Sequence[Window]) -> Iterator[Recalled]:
        """Yield what came in within these spans of time. Blocking.

        Raises JournalError.
        """
        ...

    def begins(self) -> float | None:
        """Return from when on rounds are kept (wall clock). Blocking."""
        ...


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """How the surface behaves on this machine."""

    loopback: bool = True
    """Whether the TCP listener can be reached from this machine only."""
    fail_closed: bool = False
    """`lb.fail_closed`: a proven split closes /primary on all but the winner."""
    agent_urls: dict[str, str] = field(default_factory=dict)
    """Each peer's agent address, for links to snapshots that lie there."""
    rounds: FieldRounds | None = None
    """None where an agent keeps no rounds."""
    losses: LossReports | None = None
    """None where no server stands beside the agent."""
    changes: Changes | None = None
    """The same."""
    managers: ManagerSnapshots | None = None
    """None where no manager stands beside the agent."""
    new_id: Callable[[], str] = _random_id
    """Makes the ids of permits and of captures on demand."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the daemon when it begins to stop: ends long polls and event streams."""
    waiters_max: int = 64
    """Requests that may wait at once; a further one is answered without waiting."""
    wait_s_max: float = 60.0
    """The longest wait that a request may ask for."""
    keepalive_s: float = 15.0
    """How often an idle event stream says that it is alive."""
