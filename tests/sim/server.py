"""One PostgreSQL server of the simulated world, as it really is.

Theory of operation. Everything that a server has written is the chain that ends with
its last record. Whenever it begins or ceases to accept writes, the instant is noted
under the run of its process, so that an oracle can ask whether two runs were writable
at once. What SQL tells and what the disk tells are made from the same truth, the disk
late by as much as a real one is.
"""

from collections.abc import Callable
from dataclasses import replace

from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.observation import Archiver, PostgresSight, Sender, ServerFacts
from agent.core.prints import Marks
from tests.sim import wal
from tests.sim.wal import Record

SEGMENT_BYTES = 1 << 24
VERSION_NUM = 160014
ARCHIVER = Archiver("archive_command", "one place", False, 1, None, False, None)
KEEPALIVE_S = 10.0
"""An idle pair still says something every so often."""
STREAMING_S = 60.0
"""For so long a side that hears nothing goes on to say that it streams."""

Run = tuple[str, str]
"""A node and when its postmaster was started."""


class Span:
    """For how long one run accepted writes; open while it still does."""

    __slots__ = ("begin_s", "end_s")

    def __init__(self, begin_s: float) -> None:
        self.begin_s = begin_s
        self.end_s: float | None = None

    def reaches(self, now_s: float) -> float:
        return now_s if self.end_s is None else self.end_s


class Server:
    """One server, its data directory, and its process."""

    def __init__(self, name: str, tip: Record, clock: Callable[[], float]) -> None:
        self.name = name
        self.clock = clock
        self.spans: dict[Run, list[Span]] = {}
        self.tops: dict[tuple[int, int], Record] = {}
        """By run and timeline: the last that it held while it accepted writes."""
        self.tip = tip
        self.checkpoint = tip
        self.upstream: str | None = None
        self.runs = 1
        self.folders = 1
        """Data directories that it has had: one more after each resync."""
        self.pages = wal.Pages()
        self.paused = False
        """Its processes are stopped by a signal: nothing answers."""
        self.recovers_until_s = -1.0
        """Backends have crashed; until then connections are refused."""
        self.refusing = False
        """Alive, and takes no more connections."""
        self.unreadable = False
        """Its disk cannot be read by the agent beside it."""
        self.single_user = False
        self.crashed = False
        self.flowed_s = -1e9
        """When something last came from upstream."""
        self.mark_s = 0.0
        """When it was last shown that something came."""
        self.streams = False
        self.prints_from = 0
        """Fingerprints of switches before this LSN are not on its disk."""
        self.moved_s = 0.0
        """When its position or its process last changed."""
        self.late: tuple[float, Lineage] | None = None
        """Until then the disk shows this lineage."""
        self.archives = True
        """It archives to the one place that all servers archive to."""
        self.delay_s = 0.0
        """Its receiver is behind by so much."""
        self.system_id = ""
        self._running = True
        self._in_recovery = True

    def __repr__(self) -> str:
        what = "standby" if self._in_recovery else "primary"
        on = "" if self._running else " (stopped)"
        return f"{self.name} {what}{on} {self.tip!r}"

    @property
    def running(self) -> bool:
        return self._running

    @running.setter
    def running(self, running: bool) -> None:
        self._running = running
        self._noted()

    @property
    def in_recovery(self) -> bool:
        return self._in_recovery

    @in_recovery.setter
    def in_recovery(self, in_recovery: bool) -> None:
        self._in_recovery = in_recovery
        self._noted()

    @property
    def writable(self) -> bool:
        return self._running and not self._in_recovery

    @property
    def answers(self) -> bool:
        """Whether a question by SQL gets an answer, be it a refusal."""
        return self._running and not self.paused

    @property
    def started(self) -> str:
        return f"{self.name} start {self.runs}"

    @property
    def lsn(self) -> int:
        return self.tip.lsn

    @lsn.setter
    def lsn(self, lsn: int) -> None:
        """Write so much that nobody asked for."""
        self.put(wal.append(self.tip, "", self.clock(), lsn - self.tip.lsn))

    @property
    def timeline(self) -> int:
        return self.tip.timeline

    @property
    def switches(self) -> tuple[Switch, ...]:
        return self.tip.lineage.switches

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        return self.tip.lineage.fingerprints

    @property
    def lineage(self) -> Lineage:
        return self.tip.lineage

    @lineage.setter
    def lineage(self, lineage: Lineage) -> None:
        """Let the disk show another history than the one that was written."""
        self.tip = replace(self.tip, lineage=lineage)

    @property
    def next_xid(self) -> int:
        return self.tip.next_xid

    @property
    def rows(self) -> set[str]:
        return wal.rows(self.tip)

    def put(self, tip: Record) -> None:
        """Go on to this record."""
        if tip.lineage is not self.tip.lineage and self.late is None:
            self.late = (self.clock(), self.tip.lineage)
        self.tip = tip
        self.moved_s = self.clock()
        self._topped()

    def spans_of(self, run: Run) -> list[Span]:
        return self.spans.get(run, [])

    def sight(
        self, senders: tuple[Sender, ...], waits_s: tuple[float, ...]
    ) -> PostgresSight:
        """What one round trip by SQL tells."""
        here = Lsn(self.tip.lsn)
        shows = self._in_recovery and self.streams
        return PostgresSight(
            system_id=self.system_id or self.tip.lineage.system_id,
            version_num=VERSION_NUM,
            in_recovery=self._in_recovery,
            timeline=self._named(shows=shows),
            write_lsn=here,
            flush_lsn=here,
            replay_lsn=here if self._in_recovery else None,
            postmaster_started=self.started,
            next_xid=None if self._in_recovery else self.tip.next_xid,
            upstream=f"{self.upstream}:5432" if shows else None,
            receiver_mark=f"{here}@{self.mark_s:.1f}" if shows else None,
            senders=senders,
            archiver=ARCHIVER if self.archives else None,
            waiting_for_sync=len(waits_s),
            waiting_for_sync_s=max(waits_s, default=0.0),
        )

    def _named(self, *, shows: bool) -> int:
        """The timeline by SQL: without a receiver it is the last restart point's."""
        named = self.tip if shows or not self._in_recovery else self.checkpoint
        return named.timeline

    def facts(self, pages: tuple[Lsn, ...] = ()) -> ServerFacts:
        """What the disk tells the agent beside the server."""
        checkpoint = Lsn(self.checkpoint.lsn - wal.CHECKPOINT_BYTES)
        folder = f"folder {self.folders} of {self.name}"
        return ServerFacts(
            identity=f"machine-{self.name}",
            data_dir=f"/{self.name}",
            lineage=self._shown(),
            control_state=self._control_state(),
            checkpoint_lsn=checkpoint,
            redo_lsn=checkpoint,
            running=self._running or self.single_user,
            standby_signal=self._in_recovery,
            end_lsn=None if self._running or self.single_user else Lsn(self.tip.lsn),
            wal_segment_bytes=SEGMENT_BYTES,
            version_num=VERSION_NUM,
            single_user=self.single_user,
            pages=self.pages.of(self.tip, pages),
            marks=Marks(folder, (), (), checkpoint, checkpoint),
        )

    def _shown(self) -> Lineage:
        now_s, lineage = self.clock(), self.tip.lineage
        if self.late is not None and now_s < self.late[0] and self._running:
            lineage = self.late[1]
        else:
            self.late = None
        if not self.prints_from:
            return lineage
        kept = tuple(f for f in lineage.fingerprints if f.lsn >= self.prints_from)
        return replace(lineage, fingerprints=kept)

    def _control_state(self) -> str:
        if self._running or self.crashed:
            return "in archive recovery" if self._in_recovery else "in production"
        return "shut down in recovery" if self._in_recovery else "shut down"

    def _noted(self) -> None:
        """Note from when to when this run accepted writes."""
        now_s = self.clock()
        self.moved_s = now_s
        self._topped()
        spans = self.spans.setdefault((self.name, self.started), [])
        is_open = bool(spans) and spans[-1].end_s is None
        if self.writable and not is_open:
            spans.append(Span(now_s))
        elif not self.writable and is_open:
            spans[-1].end_s = now_s

    def _topped(self) -> None:
        if self.writable:
            self.tops[self.runs, self.timeline] = self.tip
