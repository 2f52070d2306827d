"""The capture engine of one simulated agent: what it keeps, and what it says of it.

Theory of operation. A snapshot is a folder on disk and outlives the agent; a job is
the thread that fills it and dies with the agent. A job looks at the server a few
times a second: it keeps the WAL to the server's last record, makes a full copy when
that was ordered (hot from a running server, cold from a stopped one, which a later
record makes worthless), reads the rows past the fork out of a running server when
those were ordered, again when further ones came, and reports whatever has changed. It
ends when the server has left the line that is kept. What is really kept is a chain of
records, so an oracle can ask a snapshot for each of them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.capture import CaptureOrder, CaptureStatus, Grade, Level, Phase
from agent.core.lsn import Lsn
from tests.sim import wal
from tests.sim.server import Server
from tests.sim.wal import Record

PERIOD_S = 0.25
READ_BACK_S = 0.2
TROUBLE_HOLD_S = 3.0
ROWS_S = 0.5
"""So long rows are read; they are what there was when it began."""
ROWS_PAUSE_S = 2.0


@dataclass
class Snapshot:
    """What is on disk of one capture."""

    node: str
    tail: Record | None = None
    """Everything up to here is kept as WAL."""
    proven: Record | None = None
    """The full copy, with its WAL, is proven complete up to here."""
    cold: bool = False
    read: Record | None = None
    """Up to here the rows past the fork were read out."""
    read_from: Lsn | None = None
    closed: bool = False

    @property
    def timeline(self) -> int | None:
        return None if self.tail is None else self.tail.timeline

    @property
    def rows(self) -> set[str]:
        """What could be read out of it."""
        best = self.proven or self.read or self.tail
        return set() if best is None else wal.rows(best)

    def keeps(self, record: Record) -> bool:
        """Whether a full copy that is proven holds this record, or what it wrote."""
        if self.proven is not None and wal.holds(self.proven, record):
            return True
        if self.read is None or self.read_from is None:
            return False
        return record.lsn > self.read_from and wal.holds(self.read, record)

    def protects(self, tip: Record) -> bool:
        """Whether that server may be overwritten: a copy is whole, or all rows are."""
        if self.proven is not None and wal.holds(self.proven, tip):
            return True
        return self.read is not None and quiet(self.read, tip)


def quiet(begin: Record, tip: Record) -> bool:
    """Whether nothing was committed on the way from one record to the other."""
    for record in wal.back(tip):
        if record is begin:
            return True
        if record.row:
            return False
    return False


@dataclass
class Copying:
    """A full copy in the making."""

    ends_s: float
    hot: bool
    of: Record
    run: tuple[int, bool]
    checked: bool = False


@dataclass
class Trouble:
    """What goes wrong with captures here, as long as it does."""

    stalls: bool = False
    """No progress, and no word why."""
    fails: bool = False
    """Every attempt ends in an error."""
    short: bool = False
    """There is no room for a full copy."""
    seconds: tuple[float, float] = (0.3, 0.3)
    """How long a full copy takes: at least, at most."""


@dataclass
class Job:
    """One running capture."""

    order: CaptureOrder
    snapshot: Snapshot
    copying: Copying | None = None
    told: CaptureStatus | None = None
    answered: Lsn | None = None
    """The final LSN for which the server was seen to be still the captured one."""
    failed: str = ""
    blind_s: float | None = None
    reading: tuple[float, Record, Lsn] | None = None
    """Rows that are being read: until when, of which state, from where on."""
    read_s: float = -ROWS_PAUSE_S


class Engine:
    """Runs the captures of one agent."""

    def __init__(
        self,
        server: Server,
        snapshots: dict[str, Snapshot],
        trouble: Trouble,
        post: Callable[[CaptureStatus], None],
        dice: random.Random,
    ) -> None:
        self.server = server
        self.snapshots = snapshots
        self.trouble = trouble
        self.post = post
        self.dice = dice
        self.jobs: dict[str, Job] = {}

    def run(self, order: CaptureOrder) -> None:
        """Start the capture, or widen the running one."""
        job = self.jobs.get(order.capture_id)
        if job is None:
            snapshot = self.snapshots.setdefault(order.capture_id, Snapshot(order.node))
            self.jobs[order.capture_id] = Job(order, snapshot)
        else:
            job.order, job.failed = order, ""

    def finish(self, capture_id: str) -> None:
        """Stop following; say that it is closed."""
        job = self.jobs.pop(capture_id, None)
        if job is None:
            snapshot = self.snapshots.setdefault(capture_id, Snapshot(self.server.name))
            status = CaptureStatus.nothing_kept(capture_id, Phase.CLOSED)
            self.post(_filled(status, snapshot))
            return
        self._close(job)

    def tick(self, now_s: float) -> None:
        """Let every job do its next bit."""
        for job in tuple(self.jobs.values()):
            self._work(job, now_s)

    def _close(self, job: Job, reason: str = "") -> None:
        self.jobs.pop(job.order.capture_id, None)
        job.snapshot.closed = True
        self._tell(job, Phase.CLOSED, reason)

    def _work(self, job: Job, now_s: float) -> None:
        server, kept = self.server, job.snapshot
        if self.trouble.stalls:
            return
        if self.trouble.fails or job.failed:
            job.failed = job.failed or "no space left on device"
            job.copying = None
            self._tell(job, Phase.FAILED, job.failed)
            return
        if server.unreadable or server.single_user:
            self._blind(job, now_s)
            return
        job.blind_s = None
        if kept.tail is not None and not wal.holds(server.tip, kept.tail):
            self._close(job, "the server has left the line that is kept")
            return
        kept.tail = server.tip
        if Level.ROWS in job.order.levels:
            self._read(job, now_s)
        job.answered = None if server.running else job.order.final_lsn
        self._go_on(job, now_s)

    def _go_on(self, job: Job, now_s: float) -> None:
        """Do a bit of the full copy, and tell."""
        full = Level.FULL in job.order.levels
        if full and self._has_no_room(job):
            job.copying = None
            self._tell(job, Phase.FAILED, "no room for the full copy", missing=1 << 20)
            return
        if full:
            self._copy(job, now_s)
        phase = Phase.FOLLOWING
        if job.copying is not None:
            phase = Phase.VERIFYING if job.copying.checked else Phase.COPYING
        self._tell(job, phase)

    def _has_no_room(self, job: Job) -> bool:
        """Whether a copy is called for that does not fit; one that is hot goes on."""
        kept = job.snapshot
        follows = kept.proven is not None and not kept.cold
        return self.trouble.short and not follows and kept.proven is not kept.tail

    def _blind(self, job: Job, now_s: float) -> None:
        """Trouble is told only when it lasts."""
        job.blind_s = now_s if job.blind_s is None else job.blind_s
        job.copying = None
        if now_s - job.blind_s >= TROUBLE_HOLD_S:
            self._tell(job, Phase.FAILED, "the data directory cannot be read")

    def _read(self, job: Job, now_s: float) -> None:
        """Read the rows past the fork, as long as the server answers."""
        server, kept, fork = self.server, job.snapshot, job.order.fork
        if fork is None:
            return
        if not server.answers:
            job.reading = None
        elif job.reading is not None and now_s >= job.reading[0]:
            _, kept.read, kept.read_from = job.reading
            job.reading, job.read_s = None, now_s
        if kept.read is not None and quiet(kept.read, server.tip):
            kept.read = server.tip
        early = kept.read_from is not None and kept.read_from <= fork.lsn
        if job.reading is not None or (early and kept.read is server.tip):
            return
        if server.answers and now_s - job.read_s >= ROWS_PAUSE_S:
            job.reading = (now_s + ROWS_S, server.tip, fork.lsn)

    def _copy(self, job: Job, now_s: float) -> None:
        """Make the full copy, or follow with it what the server wrote since."""
        server, kept = self.server, job.snapshot
        if kept.proven is not None and not kept.cold:
            kept.proven = server.tip
            return
        if kept.proven is server.tip and not server.running:
            return
        state = (server.runs, server.running)
        copying = job.copying
        moved = copying is not None and not copying.hot and copying.of is not server.tip
        if copying is None or copying.run != state or moved:
            seconds = self.dice.uniform(*self.trouble.seconds)
            ends_s = now_s + seconds
            job.copying = Copying(ends_s, server.running, server.tip, state)
        elif now_s >= copying.ends_s and not copying.checked:
            copying.checked, copying.ends_s = True, now_s + READ_BACK_S
        elif now_s >= copying.ends_s:
            kept.proven, kept.cold = server.tip, not copying.hot
            job.copying = None

    def _tell(self, job: Job, phase: Phase, reason: str = "", missing: int = 0) -> None:
        status = CaptureStatus.nothing_kept(job.order.capture_id, phase, reason)
        status = replace(_filled(status, job.snapshot), missing_bytes=missing)
        if job.copying is not None:
            status = replace(status, bytes_done=1, seconds_left=1.0)
        if job.answered is not None:
            status = replace(status, final_lsn=job.answered)
        if status != job.told:
            job.told = status
            self.post(status)


def _filled(status: CaptureStatus, kept: Snapshot) -> CaptureStatus:
    """Say what is on disk."""
    if kept.tail is None:
        return status
    return replace(
        status,
        grade=Grade.NONE if kept.proven is None else Grade.COMPLETE,
        method="" if kept.proven is None else "cold copy" if kept.cold else "copy",
        timeline=kept.timeline,
        start_lsn=Lsn(wal.BEGIN_LSN),
        tail_lsn=Lsn(kept.tail.lsn),
        reached_lsn=None if kept.proven is None else Lsn(kept.proven.lsn),
        rows_from=kept.read_from,
        rows_lsn=None if kept.read is None else Lsn(kept.read.lsn),
        pin="held",
        bytes_total=2,
        bytes_done=2 if kept.proven is not None else 0,
        seconds_left=0.0,
    )
