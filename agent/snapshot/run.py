"""One capture from its order to its end: following, pinning, copying, proving.

Theory of operation. A loop of PERIOD_S looks at the server and does what is missing:
the pin first, because it costs nothing; then the WAL that nobody else has, and the
first manifest; then the rest. The full copy is made by a thread of its own, so the
tail never waits for it; rows are read by another one. Everything that was promised
can be found again on disk: a run that begins on the folder of an earlier one goes on
from its manifest, and throws away what no manifest speaks of (see `resume`). An error
is told in the status, and the next round tries again; the core decides how long.

A server that left the line that is kept (rewound, cloned anew, rolled back) ends the
capture: it is closed as it stands, and what that server does from then on needs a
capture of its own. A status names the final LSN of an order only once the server was
seen to be still the captured one after that order had come.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from agent.core.capture import CaptureOrder, CaptureStatus, Grade, Level, Phase
from agent.core.moment import Moment
from agent.errors import CaptureError, NoRoomError, PostgresError, SplitguardError
from agent.postgres.reader import DiskReader
from agent.snapshot.copykeeper import CopyKeeper
from agent.snapshot.files import hash_file, remove_tree
from agent.snapshot.follower import Follower, Where
from agent.snapshot.manifest import FileEntry
from agent.snapshot.pin import HELD, Pin, left_behind
from agent.snapshot.record import Record
from agent.snapshot.reserve import NO_ROOM
from agent.snapshot.resume import take_up
from agent.snapshot.room import (
    MAX_WAL_BYTES,
    Room,
    measure,
    missing_in,
    server_paths,
)
from agent.snapshot.rowskeeper import RowsKeeper
from agent.snapshot.server import LocalServer
from agent.snapshot.settings import EngineSettings
from agent.snapshot.state import StateFiles
from agent.snapshot.tail import LeftError

log = logging.getLogger(__name__)

PERIOD_S = 0.2
"""One round of following; the tail is at most this and one copy behind."""
PIN_S = 5.0
"""The pin is renewed no more often than this."""
REPLACED = "nothing more is added: the data directory was rewound or cloned anew"
TROUBLE_S = 0.5
"""The pause after a round that failed."""
TROUBLE_HOLD_S = 3.0
"""A server that comes and goes is no failure yet: only trouble that lasts is told."""


class CaptureRun(threading.Thread):
    """The thread of one capture."""

    def __init__(
        self,
        settings: EngineSettings,
        order: CaptureOrder,
        moment: Callable[[], Moment],
        on_status: Callable[[CaptureStatus], None],
        crash: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"capture-{order.capture_id}", daemon=True)
        folder = settings.capture_dir / order.capture_id
        self._settings = settings
        self._moment = moment
        self._crash = crash
        self._record = Record(order, settings.cluster, folder, moment, on_status)
        self._server = LocalServer(settings.data_dir, settings.find_dsn)
        reader = DiskReader(settings.data_dir, settings.bin_dir)
        self._follower = Follower(
            self._record, settings.data_dir, reader, self._server, crash
        )
        self._state = StateFiles(settings.data_dir, folder)
        self._pin = Pin(settings.data_dir, order.capture_id, folder)
        self._copy = CopyKeeper(settings, self._record, self._follower, moment, crash)
        self._rows = RowsKeeper(
            settings.rows, settings.find_dsn, self._record, self._follower, moment
        )
        self._room: Room | None = None
        self._opened = False
        self._left = ""
        self._pinned_s = -PIN_S
        self._pin_added = False
        self._ordered = order
        self._trouble_s: float | None = None
        """Since when every round fails."""
        self._lock = threading.Lock()
        self._orders: list[CaptureOrder] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._stopping = threading.Event()

    def widen(self, order: CaptureOrder) -> None:
        """Take over a further order; it may have a failed copy tried again."""
        with self._lock:
            self._orders.append(order)
        self._wake.set()

    def close(self) -> None:
        """Write the final manifest and end."""
        self._closing.set()
        self._wake.set()

    def stop(self) -> None:
        """End soon; what is on disk stays."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Follow until closed or stopped. Never raises."""
        try:
            self._follow()
        finally:
            self._copy.end()
            self._rows.end()
            self._server.close()
            self._follower.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self._take_orders()
            went_well = self._try_round()
            if self._record.closed:
                self._record.tell()
                return
            self._wake.wait(PERIOD_S if went_well else TROUBLE_S)
            self._wake.clear()

    def _try_round(self) -> bool:
        """Do one round; return whether it went well. Never raises."""
        try:
            self._resume()
            if self._closing.is_set() or self._left:
                self._finish()
            elif not self._record.closed:
                self._round()
        except LeftError as reason:
            self._leave(str(reason))
        except SplitguardError as error:
            at_once = isinstance(error, CaptureError)
            self._trouble(str(error), at_once=at_once, missing_bytes=missing_in(error))
            return False
        except OSError as error:
            if not self._relieved(error):
                self._trouble(f"{error.filename or 'disk'}: {error.strerror or error}")
            return False
        except Exception as error:
            log.exception("a round of capture failed in a way nobody foresaw")
            self._trouble(f"internal error: {type(error).__name__}")
            return False
        self._trouble_s = None
        return True

    def _relieved(self, error: OSError) -> bool:
        """Whether the disk was full and the reserve has made room: so once more."""
        reserve = self._settings.reserve
        full = error.errno in NO_ROOM
        return full and reserve is not None and reserve.give_back("the capture")

    def _take_orders(self) -> None:
        with self._lock:
            orders, self._orders = self._orders, []
        for order in orders:
            self._record.widen(order)
            self._copy.ordered(anew=order != self._ordered)
            self._ordered = order

    # --- beginning and ending ---------------------------------------------------

    def _resume(self) -> None:
        """Take up what is on disk, once."""
        if self._opened:
            return
        found = take_up(self._record, closing=self._closing.is_set())
        if not self._record.closed and not self._closing.is_set():
            self._follower.open()
            if found is not None:
                self._follower.resume(found.start_lsn, found.timeline, found.tail_lsn)
        self._opened = True

    def _finish(self) -> None:
        """Write the final manifest; nothing is added after it."""
        if not self._copy.end() or not self._rows.end():
            return  # the next round looks again
        record = self._record
        with record.lock:
            record.wal = tuple(self._sealed(entry) for entry in record.wal)
            self._save_closed()
            record.phase, record.reason = Phase.CLOSED, self._let_go_of_pin()
            if record.manifest() is None:
                remove_tree(record.folder)  # nothing was ever kept in it

    def _save_closed(self) -> None:
        """Write the final manifest; without it the capture is not closed."""
        self._record.closed = True
        try:
            self._record.save()
        except BaseException:
            self._record.closed = False
            raise

    def _let_go_of_pin(self) -> str:
        """Release the pin, unless it is all that is left; return what to tell."""
        record = self._record
        if not self._left and self._pin.outlived():
            # It was replaced since the last round, and the order to close came first.
            self._left = REPLACED
        if not self._left or record.grade.rank >= Grade.COMPLETE.rank:
            record.pin = self._pin.release()
        elif record.pin == HELD:
            places = ", ".join(map(str, left_behind(record.folder)))
            return (
                f"{self._left}; what it held before is only in the pin {places}, which"
                " waits for a person"
            )
        return self._left

    def _sealed(self, entry: FileEntry) -> FileEntry:
        """Give a WAL segment that was still written to its hash."""
        if entry.sha256 is not None:
            return entry
        return replace(entry, sha256=hash_file(self._record.folder / entry.path))

    # --- one round --------------------------------------------------------------

    def _round(self) -> None:
        record = self._record
        first = record.tail_lsn is None
        where = self._follower.look(self._moment())
        record.answered_lsn = record.order.final_lsn  # it is still the same server
        self._hold_pin(where)
        room = self._find_room()
        if first:
            self._follower.advance(where, urgent_only=True)
            self._state.refresh()
            self._note_state(saved=True)
            record.tell()
        moved = self._follow_on(where)
        self._settle(where, moved=moved or first)
        self._copy.watch(where, room)
        self._copy.check_chain(where)
        self._rows.watch(where)
        self._show_phase()

    def _follow_on(self, where: Where) -> bool:
        """Bring the tail up to date; without room for all, what nobody else has."""
        try:
            return self._follower.advance(where, urgent_only=False)
        except NoRoomError:
            if self._follower.advance(where, urgent_only=True):
                self._settle(where, moved=True)
            raise

    def _settle(self, where: Where, *, moved: bool) -> None:
        """Note in record and manifest what the tail has now."""
        record = self._record
        end = where.upto if where.stopped else None
        with record.lock:
            came_to_rest = end is not None and record.settled_lsn != end
            record.settled_lsn = end
            record.lock.notify_all()
        changed = self._state.refresh() if moved or came_to_rest else False
        if moved or changed or came_to_rest:
            self._note_state(saved=came_to_rest)

    def _note_state(self, *, saved: bool) -> None:
        self._record.state = self._state.entries or self._record.state
        self._record.save(lazily=not saved)

    def _hold_pin(self, where: Where) -> None:
        record = self._record
        if not record.wants(Level.PIN):
            return
        if record.grade.rank >= Grade.COMPLETE.rank:
            if record.pin != "none":
                record.pin = self._pin.release()
            return
        now_s = self._moment().monotonic_s
        if where.stopped:
            if not self._pin_added:
                record.pin, self._pin_added = self._pin.add(), True
        elif now_s - self._pinned_s >= PIN_S:
            record.pin, self._pin_added = self._pin.hold(), False
            self._pinned_s = self._moment().monotonic_s

    def _find_room(self) -> Room:
        if self._room is None:
            self._room = self._measure()
            self._follower.tail.spare = self._room.check_tail
        return self._room

    def _measure(self) -> Room:
        home = self._settings.data_dir
        max_wal_bytes = MAX_WAL_BYTES
        try:
            asked = self._server.settings() if self._server.runs() else None
        except PostgresError:
            asked = None
        if asked is not None:
            max_wal_bytes = asked.max_wal_bytes
            self._state.outside = asked.files
        folder, reserve = self._record.folder, self._settings.reserve
        room = measure(folder, server_paths(home), max_wal_bytes, reserve)
        shelf = self._settings.shelf
        if shelf is None:
            return room
        return room.with_give_up(lambda size: shelf.give_up(size, self._record.order))

    def _show_phase(self) -> None:
        record = self._record
        with record.lock:
            if self._copy.at_work:
                pass  # it tells its own phase
            elif self._copy.failed:
                record.fail(self._copy.failed, self._copy.missing_bytes)
            else:
                record.phase, record.reason = Phase.FOLLOWING, ""
                record.missing_bytes = 0
        record.tell()

    def _leave(self, reason: str) -> None:
        """End the capture as it stands; the next round closes it."""
        self._left, self._opened = f"nothing more is added: {reason}", True
        self._record.answered_lsn = None
        self._wake.set()

    def _trouble(
        self, reason: str, *, at_once: bool = False, missing_bytes: int = 0
    ) -> None:
        now_s = self._moment().monotonic_s
        self._trouble_s = now_s if self._trouble_s is None else self._trouble_s
        if not at_once and now_s - self._trouble_s < TROUBLE_HOLD_S:
            return
        self._record.fail(reason, missing_bytes)
        self._record.tell()
