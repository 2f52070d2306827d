"""The rows of one capture: when they are read, read again, and how far they reach.

Theory of operation. Reading is done by a thread of its own at low priority; this is
looked at once a round by the thread that follows the server, so the tail never waits.
Rows are read once a fork is known and the log from there on is kept, and again when an
earlier fork is ordered, or when user transactions committed since: at the soonest after
AGAIN_S, and after SHARE times what the last reading took. While the log goes on without
any, they reach as far as the log does. Of a stopped server nothing is read any more,
and the log alone says whether the rows reach its end. A full copy that is complete has
more than the rows: then they are let go.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.capture import Grade, Level
from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.errors import CaptureError, SplitguardError
from agent.postgres.programs import Programs
from agent.snapshot.attempt import StoppedError
from agent.snapshot.files import hash_file, tree
from agent.snapshot.follower import Follower, Where
from agent.snapshot.manifest import FileEntry
from agent.snapshot.pace import step_back
from agent.snapshot.record import Record, RowsKept
from agent.snapshot.rowsport import RowsReader, RowsTask
from agent.snapshot.server import FindDsn

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""Rows are looked after no more often than this while the server runs."""
SHARE = 5.0
"""Nor before so many times what the last look took."""
LONGEST_S = 900.0
"""A reading that takes longer is given up: it holds a transaction open."""
JUDGED_BYTES = 16 << 20
"""A longer stretch of a running server's log is not judged: rows are read again."""
END_S = 2.0
PAST = "user transactions committed past them"


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look after the rows works with."""

    fork: Fork
    upto: Lsn
    programs: Programs
    running: bool


class RowsKeeper:
    """Looks after the rows of one capture. For one thread."""

    def __init__(
        self,
        reader: RowsReader | None,
        find_dsn: FindDsn,
        record: Record,
        follower: Follower,
        moment: Callable[[], Moment],
    ) -> None:
        self._reader = reader
        self._find_dsn = find_dsn
        self._record = record
        self._follower = follower
        self._moment = moment
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._ended = False
        self._next_s = 0.0
        self._began_s = 0.0
        self._seen: tuple[Lsn, bool] | None = None
        """For which end, and whether of a stopped server, the last look was."""
        self._sure = False
        """Whether that look found out what there is to be known."""

    def end(self) -> bool:
        """Stop the reading; return whether it has ended."""
        self._ended = True
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(END_S)
        return not self._thread.is_alive()

    def watch(self, where: Where) -> None:
        """Begin a look after the rows when one is due."""
        record = self._record
        if self._reader is None or self._ended or not record.wants(Level.ROWS):
            return
        if where.stopping:
            self._stopping.set()  # a smart shutdown waits for every session
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        if record.grade.rank >= Grade.COMPLETE.rank:
            record.keep_rows(None, "")
            return
        look = self._due(where)
        if look is not None:
            self._thread = threading.Thread(
                target=self._run, args=(look,), name="capture-rows", daemon=True
            )
            self._thread.start()

    def _due(self, where: Where) -> _Look | None:
        """Return what is to be done now; None: nothing."""
        record = self._record
        fork, tail, start = record.order.fork, record.tail_lsn, record.start_lsn
        if fork is None or tail is None or start is None or tail <= fork.lsn:
            return None
        size = record.identity.wal_segment_bytes if record.identity else 0
        # Whole segments are kept: of the first one also what lies before the start.
        if not size or start.segment(size) > fork.lsn.segment(size):
            why = f"the log from the fork at {fork.lsn} to {start} is not kept"
            record.keep_rows(record.rows, why)
            return None
        if not self._is_time(where, fork, tail):
            return None
        programs = self._follower.programs()
        if programs is None:
            record.keep_rows(record.rows, record.no_programs)
            return None
        self._seen = tail, where.stopped
        return _Look(fork, tail, programs, running=not where.stopped)

    def _is_time(self, where: Where, fork: Fork, tail: Lsn) -> bool:
        rows, soon = self._record.rows, self._moment().monotonic_s < self._next_s
        if rows is not None and rows.begins <= fork.lsn and rows.upto >= tail:
            return False
        if not where.stopped:
            return where.position is not None and not soon
        if where.unsure or rows is None:
            return False
        return self._seen != (tail, True) or (not soon and not self._sure)

    # --- in the reading thread ------------------------------------------------------

    def _run(self, look: _Look) -> None:
        """Look after the rows once. Never raises."""
        step_back()
        record = self._record
        self._began_s, self._sure = self._moment().monotonic_s, False
        try:
            self._look_after(look)
            self._sure = True
        except StoppedError:
            pass
        except SplitguardError as error:
            hint = f"; {error.hint}" if error.hint else ""
            record.keep_rows(record.rows, f"{error.message}{hint}")
        except OSError as error:
            why = f"{error.filename or 'disk'}: {error.strerror or error}"
            record.keep_rows(record.rows, why)
        except Exception as error:
            log.exception("reading rows failed in a way nobody foresaw")
            why = f"internal error: {type(error).__name__}"
            record.keep_rows(record.rows, why)
        ended_s = self._moment().monotonic_s
        pause_s = max(AGAIN_S, SHARE * (ended_s - self._began_s))
        self._next_s = ended_s + pause_s
        record.tell()

    def _look_after(self, look: _Look) -> None:
        record, reader = self._record, self._reader
        rows = record.rows
        if reader is None:
            return
        if rows is not None and rows.begins <= look.fork.lsn:
            far = look.running and look.upto - rows.upto > JUDGED_BYTES
            task = self._task(look, "")
            if not far and reader.quiet(task, rows.upto, look.upto):
                record.keep_rows(rows.to(look.upto), "")
                return
        if not look.running:
            early = rows is not None and rows.begins <= look.fork.lsn
            why = PAST if early else f"the fork is at {look.fork.lsn}, before them"
            record.keep_rows(rows, why)
            return
        dsn = self._find_dsn()
        if dsn is None:
            raise CaptureError("there is no way to connect", "set local.dsn")
        read = reader.read(self._task(look, dsn))
        try:
            files = self._files(read.folder)
        except OSError:
            record.keep_rows(None, "")  # those that were named before are gone
            raise
        record.keep_rows(RowsKept(look.fork.lsn, read.upto, files), "")

    def _task(self, look: _Look, dsn: str) -> RowsTask:
        record = self._record
        with record.lock:
            identity, lineage, start = record.identity, record.lineage, record.start_lsn
        if identity is None or lineage is None or start is None:
            raise CaptureError("nothing is followed yet")
        return RowsTask(
            folder=record.folder,
            node=record.order.node,
            system_id=identity.system_id,
            fork=look.fork,
            lineage=lineage,
            start_lsn=start,
            wal_segment_bytes=identity.wal_segment_bytes,
            programs=look.programs,
            dsn=dsn,
            made_wall_s=self._moment().wall_s,
            tail_has=record.tail_has,
            mind=self._mind,
        )

    def _mind(self) -> None:
        if self._stopping.is_set():
            raise StoppedError
        if self._moment().monotonic_s - self._began_s > LONGEST_S:
            raise CaptureError(
                f"reading the rows took longer than {LONGEST_S:g} s",
                "the full copy is what protects here",
            )

    def _files(self, name: str) -> tuple[FileEntry, ...]:
        """Return what is kept, each file as it was read back."""
        folder, found = self._record.folder, []
        for relative, entry in tree(folder / name):
            if entry.is_file(follow_symlinks=False):
                path, size = f"{name}/{relative}", entry.stat().st_size
                digest = hash_file(folder / path)
                found.append(
                    FileEntry(path, size, digest, entry.stat().st_mode & 0o777)
                )
        return tuple(found)
