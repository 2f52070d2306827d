"""Making the full copy: hot while the server runs, cold when it stands still.

Theory of operation. A pass copies into `copy.partial` and counts only if the server
was one and the same from its first file to its last: the backup session lived, or,
for a stopped server, no postmaster came and pg_control stayed as it was. A
promotion, a stop or a crash in the middle ends the pass, and the next one begins in
the new role; after PASSES_MAX the copy has failed, while tail and pin stand. The
copy takes its place by a rename, while no manifest speaks of a copy at all.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.capture import Phase
from agent.core.lsn import Lsn
from agent.errors import CaptureError, PostgresError, SplitguardError
from agent.postgres.control import ControlData, read_control
from agent.postgres.postmaster import orphans, running
from agent.postgres.programs import Programs
from agent.snapshot.backup import BackupSession, Begun
from agent.snapshot.chain import BrokenChainError, check_copy
from agent.snapshot.copying import Copier, Plan, VanishedError, make_plan
from agent.snapshot.files import (
    PRIVATE_FILE,
    fsync_path,
    hash_file,
    make_folder,
    remove_tree,
    write_atomically,
)
from agent.snapshot.manifest import DATA, TABLESPACES, Contents, FileEntry
from agent.snapshot.pace import Pace
from agent.snapshot.pin import incarnation
from agent.snapshot.record import FullCopy, Record
from agent.snapshot.room import WATCH_S, Room, missing_in
from agent.snapshot.server import FindDsn, LocalServer, Position

log = logging.getLogger(__name__)

PASSES_MAX = 3
"""Copies begun anew because the server changed under them."""
TAIL_S = 120.0
"""How long a finished copy waits for its WAL."""
PARTIAL = "copy.partial"
OLD = "copy.old"
HOT = "copy"
COLD = "cold copy"
_ROOM_EVERY_BYTES = 64 << 20
_SETTLE_S = 0.2
REFUSED_MAX = 50
"""Questions that a running server may refuse, _SETTLE_S apart."""
COMING_MAX = 300
"""Looks at a server that is starting or stopping, _SETTLE_S apart."""


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


class FullCopyThread(threading.Thread):
    """Makes one full copy and hands it to the record."""

    def __init__(
        self, record: Record, source: Source, room: Room, crash: Callable[[str], None]
    ) -> None:
        super().__init__(name=f"copy-{record.order.capture_id}", daemon=True)
        self._record = record
        self._source = source
        self._room = room
        self._crash = crash
        self._partial = record.folder / PARTIAL
        self._stopped = threading.Event()
        self._changed = ""
        self._session: BackupSession | None = None
        self._unwatched_bytes = 0
        self._watched_s = 0.0
        self.failed = ""
        """Why there is no copy, once the thread has ended without one."""
        self.missing_bytes = 0
        """The room that is missing, where it failed for that."""
        self.hot = False
        """Whether the latest pass copied a running server."""
        self.basis: Begun | Path | None = None
        """What a change of the server is measured against while it matters: the
        backup's beginning, or for a stopped server its pid file's place."""

    def stop(self) -> None:
        """End the work soon; what is half finished is removed."""
        self._stopped.set()
        self._trip()

    def see(self, position: Position | None, *, stopped: bool, stopping: bool) -> None:
        """Take note of the server's present state; a change ends the pass.

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
            self._trip()

    def run(self) -> None:
        """Copy. Never raises: the outcome is in the record and in `failed`."""
        try:
            self._passes()
        except StoppedError:
            self.failed = "stopped"
        except SplitguardError as error:
            self.failed = str(error)
            self.missing_bytes = missing_in(error)
        except OSError as error:
            self.failed = f"{error.filename or 'the copy'}: {error.strerror or error}"
        except Exception as error:
            log.exception("the full copy ended with an error that nobody foresaw")
            self.failed = f"internal error: {type(error).__name__}"
        finally:
            self._close_session()
            with suppress(OSError):
                remove_tree(self._partial)

    def _passes(self) -> None:
        how = ""
        for _ in range(PASSES_MAX):
            self._check_stopped()
            try:
                self._pass()
            except RestartError as error:
                how = str(error)
                continue
            return
        raise CaptureError(
            f"restarting: the server changed during {PASSES_MAX} copies, last: {how}",
            "the WAL tail and the pin stand; stop the server to get a cold copy",
        )

    def _pass(self) -> None:
        self._changed, self.basis = "", None
        remove_tree(self._partial)
        make_folder(self._partial)
        try:
            self.hot = self._runs()
            copy = self._hot() if self.hot else self._cold()
        finally:
            self.basis = None
            self._close_session()
        self._put_in_place(copy)
        self._prove(copy)

    def _runs(self) -> bool:
        """Whether the server runs; waits while it is just coming or going."""
        for _ in range(COMING_MAX):
            found = running(self._source.data_dir)
            if found is None and not orphans(self._source.data_dir):
                return False
            if found is not None and found.status in {"ready", "standby"}:
                return True
            if self._stopped.wait(_SETTLE_S):
                raise StoppedError
        return True

    def _hot(self) -> FullCopy:
        dsn = self._source.find_dsn()
        if dsn is None:
            raise CaptureError(
                "a running server cannot be copied without local.dsn",
                "set local.dsn, or stop the server for a cold copy",
            )
        self._begin(make_plan(self._source.data_dir, hot=True))
        self._wait_for_sql()
        try:
            self._session = BackupSession(dsn, self._record.order.capture_id)
            begun = self._session.begin()
            self.basis = begun
            plan = make_plan(self._source.data_dir, hot=True)
            contents = self._copy(plan, hot=True)
            ended = self._session.end()
        except PostgresError as error:
            self._check_stopped()
            gone = running(self._source.data_dir) is None
            if self._changed or gone or self.basis is not None:
                raise RestartError(self._changed or error.message) from error
            raise
        self.basis = None
        self._close_session()
        label = self._partial / DATA / "backup_label"
        write_atomically(label, ended.label)
        entry = FileEntry(
            f"{DATA}/backup_label", len(ended.label), hash_file(label), PRIVATE_FILE
        )
        _own_like(label, self._partial / DATA)
        contents = replace(contents, files=(*contents.files, entry))
        self._settle(plan, contents, hot=True)
        return FullCopy(
            contents, HOT, begun.start_lsn, ended.stop_lsn, ended.timeline,
            has_backup_label=True, wal_link=plan.wal_link,
        )  # fmt: skip

    def _wait_for_sql(self) -> None:
        """Return once the server answers; its backends may just be starting again.

        Raises RestartError when it is gone, PostgresError when it goes on refusing.
        """
        server = LocalServer(self._source.data_dir, self._source.find_dsn)
        refused = PostgresError("the server did not answer")
        for _ in range(REFUSED_MAX):
            try:
                if server.position() is not None:
                    server.close()
                    return
            except PostgresError as error:
                refused = error
            if not server.runs():
                raise RestartError("the server was stopped")
            if self._stopped.wait(_SETTLE_S):
                raise StoppedError
        server.close()
        raise refused

    def _cold(self) -> FullCopy:
        before = self._standing()
        self.basis = self._source.data_dir
        plan = make_plan(self._source.data_dir, hot=False)
        self._begin(plan)
        try:
            contents = self._copy(plan, hot=False)
        except VanishedError as error:
            raise RestartError(f"{error} vanished") from error
        if self._standing() != before:
            raise RestartError("the stopped server was started")
        self.basis = None
        self._settle(plan, contents, hot=False)
        end = self._settled_end()
        return FullCopy(
            contents, COLD, before.redo_lsn, end, before.timeline,
            has_backup_label=False, wal_link=plan.wal_link,
        )  # fmt: skip

    def _standing(self) -> ControlData:
        """Return pg_control of the server, which must be stopped."""
        if running(self._source.data_dir) is not None:
            raise RestartError("the stopped server was started")
        if orphans(self._source.data_dir):
            raise RestartError("processes of the killed server are still there")
        return read_control(self._source.data_dir)

    def _begin(self, plan: Plan) -> None:
        self._room.check(plan.size_bytes, "the full copy")
        self._record.begin_progress(Phase.COPYING, plan.size_bytes)

    def _copy(self, plan: Plan, *, hot: bool) -> Contents:
        return self._copier(plan, hot=hot).copy()

    def _settle(self, plan: Plan, contents: Contents, *, hot: bool) -> None:
        total = sum(entry.size for entry in contents.files)
        self._record.begin_progress(Phase.VERIFYING, total)
        self._copier(plan, hot=hot).settle(contents)

    def _copier(self, plan: Plan, *, hot: bool) -> Copier:
        return Copier(plan, self._partial, self._spent, self._crash, hot=hot)

    def _spent(self, size: int) -> None:
        """Count, and see whether the work may go on."""
        self._check_stopped()
        if self._changed and self.basis is not None:
            raise RestartError(self._changed)
        self._watch_room(size)
        self._record.spend(size)
        left_s = self._source.pace.delay_s(size) if self.hot else 0.0
        while left_s > 0:
            if self._stopped.wait(min(left_s, WATCH_S)):
                raise StoppedError
            self._watch_room(0)
            left_s -= WATCH_S

    def _watch_room(self, size: int) -> None:
        """See each second that the floor stays free, and sooner where much is read."""
        self._unwatched_bytes += size
        now_s = self._record.moment().monotonic_s
        due = now_s - self._watched_s >= WATCH_S
        if due or self._unwatched_bytes >= _ROOM_EVERY_BYTES:
            self._unwatched_bytes, self._watched_s = 0, now_s
            self._room.check(
                0, "the rest of the full copy", ahead_bytes=self._record.ahead_bytes
            )

    def _settled_end(self) -> Lsn:
        """Return the end of the stopped server's WAL, once the tail has all of it."""
        with self._record.lock:
            if not self._record.lock.wait_for(
                lambda: self._record.settled_lsn is not None or self._stopped.is_set(),
                TAIL_S,
            ):
                raise RestartError("its WAL did not come to an end")
            self._check_stopped()
            if self._record.settled_lsn is None:
                raise RestartError("the stopped server was started")
            return self._record.settled_lsn

    def _put_in_place(self, copy: FullCopy) -> None:
        folder = self._record.folder
        self._check_stopped()
        self._check_incarnation()
        self._crash("before-rename")
        self._record.adopt(None)
        make_folder(folder / OLD)
        for name in (DATA, TABLESPACES):
            if (folder / name).exists():
                (folder / name).rename(folder / OLD / name)
            if (self._partial / name).exists():
                (self._partial / name).rename(folder / name)
        fsync_path(folder)
        self._record.adopt(copy)
        remove_tree(folder / OLD)

    def _check_incarnation(self) -> None:
        """See that no other data directory took the place of the captured one."""
        known = self._record.identity
        with suppress(FileNotFoundError):  # wiped: what was copied is still good
            if known and incarnation(self._source.data_dir) != known.incarnation:
                raise CaptureError("the data directory was rewound or cloned anew")

    def _prove(self, copy: FullCopy) -> None:
        """Wait for the WAL that the copy needs and check that it has no gap."""
        waited_s = 0.0
        while not self._record.tail_has(copy.needed_lsn, _SETTLE_S):
            self._check_stopped()
            waited_s += _SETTLE_S
            if waited_s >= TAIL_S:
                raise CaptureError(
                    f"the WAL up to {copy.needed_lsn} did not arrive in the tail"
                )
        try:
            check_copy(self._record, self._source.programs)
        except BrokenChainError as error:
            self._record.adopt(None)
            raise RestartError(error.message) from error

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise StoppedError

    def _trip(self) -> None:
        session = self._session
        if session is not None:
            session.trip()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _own_like(path: Path, folder: Path) -> None:
    """Give a file to the owner of the folder, where only root can."""
    found = folder.stat()
    with suppress(PermissionError):
        path.chmod(PRIVATE_FILE)
        os.chown(path, found.st_uid, found.st_gid)
