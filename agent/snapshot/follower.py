"""Where the server's WAL is, whether it is still the same line, and the tail of it.

Theory of operation. A running server is asked by SQL how far it has flushed; when it
cannot answer, and when it is stopped, the disk is read. The line of WAL that is
kept must not be mixed with another one: a data directory that was rewound or
re-cloned, a timeline that left ours before our end, or bytes that were overwritten
end the following for good. A crash may undo WAL that was flushed in the middle of a
record; then the kept tail steps back to its last whole record and goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import ReadFailure, ServerFacts
from agent.errors import CaptureError, PostgresError
from agent.postgres import history, wal
from agent.postgres.programs import Programs
from agent.postgres.reader import DiskReader
from agent.snapshot.manifest import WAL
from agent.snapshot.pin import being_rewritten, incarnation
from agent.snapshot.record import Identity, Record
from agent.snapshot.server import LocalServer, Position
from agent.snapshot.tail import LeftError, RecycledError, WalTail

SQL_PAUSE_S = 3.0
"""A server that hung is asked again after so long."""
PARTED_SEGMENTS_MAX = 32
"""Segments from before the last checkpoint that are kept for the fork's sake."""
HUNG_S = 0.5
"""A question that failed after less was refused; the server does not hang."""


@dataclass(frozen=True, slots=True)
class Where:
    """The end of the server's WAL at one moment."""

    lineage: Lineage
    upto: Lsn
    stopped: bool
    position: Position | None
    """What the server said itself, if it could be asked."""
    stopping: bool = False
    """Whether the server was told to stop and waits for its clients."""
    unsure: bool = False
    """Whether the WAL of a stopped server goes on behind that, nobody knows how far:
    without its programs only pg_control says where it is at least."""


class Follower:
    """Keeps the tail of one server, for one capture. For one thread."""

    def __init__(
        self,
        record: Record,
        data_dir: Path,
        reader: DiskReader,
        server: LocalServer,
        crash: Callable[[str], None],
    ) -> None:
        self._record = record
        self._data_dir = data_dir
        self._reader = reader
        self._server = server
        self._crash = crash
        self._tail: WalTail | None = None
        self._lineage: Lineage | None = None
        self._asked_in_vain_s = -SQL_PAUSE_S
        self._anchor = Lsn(0)
        """The start of a record from which on all WAL is kept."""
        self._last_end: tuple[int, Lsn] | None = None

    @property
    def tail(self) -> WalTail:
        """The tail. Raises CaptureError before `open`."""
        if self._tail is None:
            raise CaptureError("nothing is followed yet")
        return self._tail

    def programs(self) -> Programs | None:
        """Return the server's programs; None when they are not to be found."""
        self._record.no_programs = ""
        try:
            return self._reader.programs()
        except PostgresError as error:
            self._record.no_programs = str(error)
            return None

    def open(self) -> None:
        """Learn which server this is and prepare the tail.

        Raises PostgresError, CaptureError, LeftError.
        """
        facts = self._facts()
        if not self._server.runs() and being_rewritten(self._data_dir):
            raise CaptureError(
                "somebody rewinds or clones this data directory, or gave up in the"
                " middle of it",
                "what it held before is gone; what is there now is no copy of it",
            )
        programs = self.programs()
        identity = Identity(
            facts.lineage.system_id,
            programs.version_num if programs else facts.version_num,
            facts.wal_segment_bytes,
            incarnation(self._data_dir),
        )
        known = self._record.identity
        if known is not None and known.incarnation != identity.incarnation:
            raise LeftError("the data directory was rewound or cloned anew")
        self._record.identity = known or identity
        self._tail = WalTail(
            self._data_dir / "pg_wal",
            self._record.folder,
            facts.wal_segment_bytes,
            facts.lineage.system_id,
            self._crash,
        )
        self._anchor = facts.redo_lsn
        begin = min(facts.redo_lsn, self._confirmed() or facts.redo_lsn)
        self._tail.begin(min(begin, self._parted(facts)))

    def _parted(self, facts: ServerFacts) -> Lsn:
        """Return where the server's line left the one before, if all since is there.

        A loser that was promoted has written its rows from there on, and the last
        checkpoint may be a later one: without this log nobody can tell which they are.
        """
        redo, size = facts.redo_lsn, facts.wal_segment_bytes
        switches = facts.lineage.switches
        if not switches or switches[-1].lsn >= redo:
            return redo
        left = switches[-1].lsn
        first, last = left.segment(size), redo.segment(size)
        if last - first > PARTED_SEGMENTS_MAX:
            return redo
        folder = self._data_dir / "pg_wal"
        chain = wal.Chain(folder, switches, facts.lineage.timeline, size)
        there = all(chain.holder(number) for number in range(first, last + 1))
        return left if there else redo

    def resume(self, start: Lsn, timeline: int, tail: Lsn) -> None:
        """Go on with the tail that an earlier run had kept."""
        self.tail.resume(self._record.wal, min(start, self._anchor), timeline, tail)
        if self._anchor > tail:
            self._anchor = start

    def close(self) -> None:
        """Let go of the server's files."""
        if self._tail is not None:
            self._tail.close()

    def look(self, now: Moment) -> Where:
        """Find out where the server is. Raises PostgresError, LeftError."""
        self._check_incarnation()
        where = self._look(now)
        # Again: a clone that began meanwhile has made the end of WAL a wrong one.
        self._check_incarnation()
        return where

    def _check_incarnation(self) -> None:
        known = self._record.identity
        if known is not None and incarnation(self._data_dir) != known.incarnation:
            raise LeftError("the data directory was rewound or cloned anew")

    def _look(self, now: Moment) -> Where:
        position = self._ask(now) if self._server.runs() else None
        if position is not None and position.flush_lsn is not None:
            lineage = self._lineage_of(position.timeline)
            return Where(lineage, position.flush_lsn, stopped=False, position=position)
        return replace(self._from_disk(position), stopping=self._server.stopping)

    def advance(self, where: Where, *, urgent_only: bool) -> bool:
        """Bring the tail up to where the server is; return whether anything moved.

        Raises LeftError, CaptureError, PostgresError, OSError.
        """
        self._check_lineage(where.lineage)
        kept = self.tail.tail_lsn
        if where.stopped and kept is not None and where.upto < kept:
            if where.upto < self._kept_end():
                raise LeftError("the stopped server has lost WAL that is kept")
            self.tail.step_back(where.upto)  # a record that a crash cut off
        urgent = self._confirmed() if urgent_only else None
        try:
            moved = self.tail.advance(where.lineage.timeline, where.upto, urgent)
        except RecycledError as error:
            if where.stopped and kept is not None:  # it recycles nothing: a rewind did
                raise LeftError("the stopped server's WAL was taken away") from error
            moved = self._begin_anew(where, error)
        except LeftError:
            self._step_back()
            moved = self.tail.advance(where.lineage.timeline, where.upto, None)
        if where.unsure:
            self.tail.take_beyond(where.upto)
        elif where.stopped:
            self.tail.take_rest()
        self._note(where)
        return moved

    def _note(self, where: Where) -> None:
        tail, record = self.tail, self._record
        with record.lock:
            record.lineage, record.timeline = where.lineage, tail.timeline
            record.start_lsn, record.tail_lsn = tail.start_lsn, tail.tail_lsn
            record.wal = tail.entries
            record.lock.notify_all()

    def _ask(self, now: Moment) -> Position | None:
        if now.monotonic_s - self._asked_in_vain_s < SQL_PAUSE_S:
            return None
        try:
            return self._server.position()
        except PostgresError:
            # Refused at once, it may answer in the next round; hung, it will not.
            asked_s = self._record.moment().monotonic_s
            if asked_s - now.monotonic_s >= HUNG_S:
                self._asked_in_vain_s = asked_s
            return None

    def _from_disk(self, position: Position | None) -> Where:
        facts = self._facts()
        if facts.end_lsn is not None:
            return Where(facts.lineage, facts.end_lsn, stopped=True, position=None)
        if not facts.running and self.programs() is None:
            return Where(
                facts.lineage, facts.checkpoint_lsn, stopped=True, position=None,
                unsure=True,
            )  # fmt: skip
        return Where(facts.lineage, self._end(facts), stopped=False, position=position)

    def _end(self, facts: ServerFacts) -> Lsn:
        """Return the end of WAL of a server that runs and cannot be asked."""
        timeline, start = facts.lineage.timeline, facts.redo_lsn
        known = self._last_end
        if known is not None and known[0] == timeline and known[1] > start:
            start = known[1]
        try:
            end = wal.end_of_wal(
                self._reader.programs(),
                self._data_dir / "pg_wal",
                timeline,
                start,
                facts.wal_segment_bytes,
            )
        except PostgresError:
            if start == facts.redo_lsn:
                raise
            end = start  # nothing was written since
        self._last_end = timeline, end
        return end

    def _facts(self) -> ServerFacts:
        facts = self._reader.read()
        if isinstance(facts, ReadFailure):
            raise PostgresError(facts.reason, facts.hint)
        known = self._record.identity
        if known is not None and facts.lineage.system_id != known.system_id:
            raise LeftError(
                f"the data directory is of system {facts.lineage.system_id}"
            )
        return facts

    def _lineage_of(self, timeline: int | None) -> Lineage:
        """Return the lineage that leads to `timeline`, read again when that changes."""
        if timeline is None:
            return self._facts().lineage
        if self._lineage is None or self._lineage.timeline != timeline:
            known = self._record.identity
            system_id = known.system_id if known else self._facts().lineage.system_id
            self._lineage = history.read_lineage(self._data_dir, timeline, system_id)
        return self._lineage

    def _check_lineage(self, lineage: Lineage) -> None:
        """See that the server's timeline continues what is kept."""
        kept, tail = self.tail.timeline, self.tail.tail_lsn
        if kept is None or tail is None or kept == lineage.timeline:
            return
        for switch in lineage.switches:
            if switch.timeline != kept:
                continue
            if switch.lsn >= tail:
                return
            if switch.lsn >= self._kept_end():
                self.tail.step_back(switch.lsn)
                return
        raise LeftError(
            f"the server is on timeline {lineage.timeline}, which left timeline {kept} "
            f"before {tail}"
        )

    def _kept_end(self) -> Lsn:
        """Return the end of the last whole record that is kept."""
        identity = self._record.identity
        if identity is None or self.tail.timeline is None:
            raise CaptureError("nothing is kept yet")
        return wal.end_of_wal(
            self._reader.programs(),
            self._record.folder / WAL,
            self.tail.timeline,
            self._anchor,
            identity.wal_segment_bytes,
        )

    def _step_back(self) -> None:
        """Undo what a crash undid; raise LeftError when that was not it."""
        end = self._kept_end()
        if self.tail.tail_lsn is None or end >= self.tail.tail_lsn:
            raise LeftError("the server's WAL was overwritten")
        self.tail.step_back(end)

    def _begin_anew(self, where: Where, error: RecycledError) -> bool:
        """Go on behind WAL that was recycled before it could be copied."""
        redo = self._facts().redo_lsn
        lost_from = self.tail.tail_lsn
        self.tail.begin(redo)
        self._anchor = redo
        try:
            moved = self.tail.advance(where.lineage.timeline, where.upto, None)
        except RecycledError:
            raise CaptureError(
                f"the server recycles WAL faster than it can be copied: {error}",
                "free I/O on the volume of capture.dir, or raise wal_keep_size",
            ) from error
        if lost_from is not None:
            self._record.adopt(None)
        return moved

    def _confirmed(self) -> Lsn | None:
        return self._record.order.confirmed_lsn
