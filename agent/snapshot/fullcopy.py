"""Making the full copy, in passes, and putting it in its place.

Theory of operation. A pass copies into `copy.partial` (see `hotcopy`, `coldcopy`) and
counts only if the server was one and the same while its files were taken. A promotion,
a stop or a crash in the middle ends the pass, and the next one begins in the new role;
after PASSES_MAX the copy has failed, while tail and pin stand. The copy takes its place
by a rename, while no manifest speaks of a copy at all.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from agent.errors import CaptureError, SplitguardError
from agent.postgres.postmaster import orphans, running
from agent.snapshot.attempt import (
    PARTIAL,
    Attempt,
    RestartError,
    Source,
    StoppedError,
)
from agent.snapshot.chain import BrokenChainError, check_copy
from agent.snapshot.coldcopy import TAIL_S, copy_cold
from agent.snapshot.files import fsync_path, make_folder, remove_tree
from agent.snapshot.hotcopy import SETTLE_S, copy_hot
from agent.snapshot.manifest import DATA, TABLESPACES
from agent.snapshot.pin import incarnation
from agent.snapshot.record import FullCopy, Record
from agent.snapshot.room import Room, missing_in
from agent.snapshot.server import Position

__all__ = ["OLD", "PARTIAL", "FullCopyThread", "Source"]

log = logging.getLogger(__name__)

PASSES_MAX = 3
"""Copies begun anew because the server changed under them."""
OLD = "copy.old"
COMING_MAX = 300
"""Looks at a server that is starting or stopping, SETTLE_S apart."""


class FullCopyThread(threading.Thread):
    """Makes one full copy and hands it to the record."""

    def __init__(
        self, record: Record, source: Source, room: Room, crash: Callable[[str], None]
    ) -> None:
        super().__init__(name=f"copy-{record.order.capture_id}", daemon=True)
        self._record = record
        self._source = source
        self._crash = crash
        self._stopped = threading.Event()
        self._attempt = Attempt(record, source, room, crash, self._stopped)
        self.failed = ""
        """Why there is no copy, once the thread has ended without one."""
        self.missing_bytes = 0
        """The room that is missing, where it failed for that."""

    @property
    def hot(self) -> bool:
        """Whether the latest pass copied a running server."""
        return self._attempt.hot

    def stop(self) -> None:
        """End the work soon; what is half finished is removed."""
        self._stopped.set()
        self._attempt.trip()

    def see(self, position: Position | None, *, stopped: bool, stopping: bool) -> None:
        """Take note of the server's present state; a change ends the pass.

        `position` is None where the server could not be asked.
        """
        self._attempt.see(position, stopped=stopped, stopping=stopping)

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
            self._attempt.end_copying()
            self._attempt.close_session()
            with suppress(OSError):
                remove_tree(self._attempt.partial)

    def _passes(self) -> None:
        how = ""
        for _ in range(PASSES_MAX):
            self._attempt.check_stopped()
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
        attempt = self._attempt
        attempt.renew()
        try:
            attempt.hot = self._runs()
            copy = copy_hot(attempt) if attempt.hot else copy_cold(attempt)
        finally:
            attempt.basis = None
            attempt.end_copying()
            attempt.close_session()
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
            self._attempt.wait(SETTLE_S)
        return True

    def _put_in_place(self, copy: FullCopy) -> None:
        folder = self._record.folder
        self._attempt.check_stopped()
        self._check_incarnation()
        self._crash("before-rename")
        self._record.adopt(None)
        make_folder(folder / OLD)
        for name in (DATA, TABLESPACES):
            if (folder / name).exists():
                (folder / name).rename(folder / OLD / name)
            if (self._attempt.partial / name).exists():
                (self._attempt.partial / name).rename(folder / name)
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
        while not self._record.tail_has(copy.needed_lsn, SETTLE_S):
            self._attempt.check_stopped()
            waited_s += SETTLE_S
            if waited_s >= TAIL_S:
                raise CaptureError(
                    f"the WAL up to {copy.needed_lsn} did not arrive in the tail"
                )
        try:
            check_copy(self._record, self._source.programs)
        except BrokenChainError as error:
            self._record.adopt(None)
            raise RestartError(error.message) from error
