"""One attempt at a full copy: what it works with, and what ends it.

Theory of operation. An attempt counts only if the server was one and the same while
its files were taken: the backup session lived, or, for a stopped server, no postmaster
came. What the following thread sees of the server is noted here; a change trips the
session, and the next block of bytes raises RestartError. Once everything is taken,
nothing that the server does matters any more. Each block is also where a stop, the
room that is left and the pace of a copy of a running server are minded.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core.capture import Phase
from agent.errors import CaptureError, PostgresError
from agent.postgres.postmaster import running
from agent.postgres.programs import Programs
from agent.snapshot.backup import BackupSession, Begun
from agent.snapshot.copying import Copier, Hooks, How
from agent.snapshot.files import make_folder, remove_tree
from agent.snapshot.manifest import Contents
from agent.snapshot.pace import Pace
from agent.snapshot.plan import Plan
from agent.snapshot.record import Record
from agent.snapshot.room import WATCH_S, Room
from agent.snapshot.server import FindDsn, Position
from agent.snapshot.sharing import GROWS_BY

PARTIAL = "copy.partial"
_ROOM_EVERY_BYTES = 4 << 20


class StoppedError(Exception):
    """The agent ends, or the capture is closed."""


class RestartError(Exception):
    """The server changed under the copy."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is copied, and with what."""

    data_dir: Path
    find_dsn: FindDsn
    programs: Programs | None
    pace: Pace
    """How fast a running server may be copied."""
    snapshot_program: Path | None = None
    """What freezes a running server's file systems; None: they are not frozen."""
    snapshot_timeout_s: float = 60.0
    """How long one call of it may take."""


class Attempt:
    """The means of one attempt. `see` and `trip` may be called from any thread."""

    def __init__(
        self,
        record: Record,
        source: Source,
        room: Room,
        crash: Callable[[str], None],
        stopped: threading.Event,
    ) -> None:
        self.record = record
        self.source = source
        self.stopped = stopped
        self.partial = record.folder / PARTIAL
        self.hot = False
        """Whether a running server is copied."""
        self.basis: Begun | Path | None = None
        """What a change of the server is measured against while it matters: the
        backup's beginning, or for a stopped server its pid file's place."""
        self._room = room
        self._crash = crash
        self._changed = ""
        self._session: BackupSession | None = None
        self._copier: Copier | None = None
        self._ending = threading.Event()
        """Its threads are to end, and no pace holds them any more."""
        self._read_back_bytes = 0
        """While files are still copied: what comes after that is told as it is done."""
        self._unwatched_bytes = 0
        self._watched_s = 0.0

    def see(self, position: Position | None, *, stopped: bool, stopping: bool) -> None:
        """Take note of the server's present state; a change ends the attempt.

        `position` is None where the server could not be asked.
        """
        basis, how = self.basis, ""
        if isinstance(basis, Begun) and (stopped or stopping):
            how = "the server was stopped"  # and a smart stop waits for our session
        elif isinstance(basis, Begun) and position is not None:
            if position.started != basis.started:
                how = "the server was started again"
            elif position.in_recovery != basis.in_recovery:
                how = "the server was promoted"
        elif isinstance(basis, Path) and not stopped:
            how = "the stopped server was started"
        if how and not self._changed:
            self._changed = how
            self.trip()

    def trip(self) -> None:
        """End the backup session from outside, whatever it waits for."""
        session = self._session
        if session is not None:
            session.trip()

    def renew(self) -> None:
        """Begin anew: nothing has changed yet, nothing is copied. Raises OSError."""
        self._changed, self.basis = "", None
        self.clear()

    def clear(self) -> None:
        """Throw away what is there of the copy, and begin with an empty folder."""
        self.end_copying()
        remove_tree(self.partial)
        make_folder(self.partial)

    def check_stopped(self) -> None:
        """Raise StoppedError when the work is to end."""
        if self.stopped.is_set():
            raise StoppedError

    def wait(self, seconds: float) -> None:
        """Wait; raise StoppedError as soon as the work is to end."""
        if self.stopped.wait(seconds):
            raise StoppedError

    @contextmanager
    def backup(self, dsn: str) -> Iterator[tuple[BackupSession, Begun]]:
        """Have the server know for the block's length that its files are copied.

        Raises PostgresError when that cannot be begun, RestartError when the server
        changed or ended it.
        """
        try:
            session = BackupSession(dsn, self.record.order.capture_id)
            self._session = session
            begun = session.begin()
            self.basis = begun
            yield session, begun
        except PostgresError as error:
            self.check_stopped()
            gone = running(self.source.data_dir) is None
            if self._changed or gone or self.basis is not None:
                raise RestartError(self._changed or error.message) from error
            raise
        finally:
            self.basis = None
            self.close_session()

    def close_session(self) -> None:
        """Let go of the server; an unfinished backup is forgotten by it."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # --- the copy itself --------------------------------------------------------

    def begin(self, plan: Plan, *, shared: bool = False) -> None:
        """See that it fits, and count from here. Raises NoRoomError.

        A copy that is `shared` takes no room by itself, but it will.
        """
        size = plan.size_bytes
        if shared:
            self._room.check(round(size * GROWS_BY), "what a shared copy grows by")
        else:
            self._room.check(size, "the full copy")
        self.record.begin_progress(Phase.COPYING, 0 if shared else size)

    def copy(self, plan: Plan, how: How) -> Contents:
        """Take all files. Raises what `Copier.copy` raises, and RestartError."""
        hooks = Hooks(self._spent, self._checked, self._crash)
        self._read_back_bytes = 0
        self._ending.clear()
        self._copier = Copier(plan, self.partial, hooks, how)
        return self._copier.copy()

    def settle(self, contents: Contents) -> Contents:
        """See all files on disk and read back; return them with their hashes.

        Raises what `Copier.settle` raises.
        """
        if self._copier is None:
            raise CaptureError("nothing was copied")
        total = sum(entry.size for entry in contents.files)
        self.record.begin_progress(Phase.VERIFYING, total)
        self.record.spend(self._read_back_bytes)
        settled = self._copier.settle(contents)
        self.end_copying()
        return settled

    def end_copying(self) -> None:
        """End the threads that copy, whatever they have left to do."""
        copier, self._copier = self._copier, None
        if copier is not None:
            self._ending.set()
            copier.close()

    def _checked(self, size: int) -> None:
        """Count what was read back, and see whether the work may go on."""
        if self.record.phase is Phase.VERIFYING:
            self.record.spend(size)
        else:
            self._read_back_bytes += size
        self._mind(size)

    def _spent(self, size: int) -> None:
        """Count what was copied, and see whether the work may go on."""
        if self._changed and self.basis is not None:
            raise RestartError(self._changed)
        self.record.spend(size)
        self._mind(size)

    def _mind(self, size: int) -> None:
        """See that nobody wants it to end, that there is room, and keep the pace."""
        self.check_stopped()
        self._watch_room(size)
        left_s = self.source.pace.delay_s(size) if self.hot else 0.0
        while left_s > 0 and not self._ending.is_set():
            self.wait(min(left_s, WATCH_S))
            self._watch_room(0)
            left_s -= WATCH_S

    def _watch_room(self, size: int) -> None:
        """See each second that the floor stays free, and sooner where much is read."""
        self._unwatched_bytes += size
        now_s = self.record.moment().monotonic_s
        due = now_s - self._watched_s >= WATCH_S
        if due or self._unwatched_bytes >= _ROOM_EVERY_BYTES:
            self._unwatched_bytes, self._watched_s = 0, now_s
            self._room.check(
                0, "the rest of the full copy", ahead_bytes=self.record.ahead_bytes
            )
