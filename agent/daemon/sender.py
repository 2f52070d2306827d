"""The sender: archives of finished snapshots on their way off-site.

Theory of operation. One thread, one archive at a time, those of incidents before those
taken by the clock, the oldest first. What failed is tried again after a minute, then
after two, four and so on, up to six hours, for as long as the snapshot is here; the
count and the reason lie beside the manifest, so that a restart does not hurry and a
person can read them. Only what was read back counts as sent. It reads no faster than a
copy may, at a low priority; it looks for the end of the agent between two blocks, and
never holds it up.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from agent.core.moment import Moment
from agent.daemon.parcels import Parcel, copies, of_managers
from agent.errors import SnapshotError
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.marks import Twin
from agent.snapshot.offsite import Offsite
from agent.snapshot.pace import Pace, step_back
from agent.vnfm.shelf import Shelf

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How often it looks for what is to be sent."""
AGAIN_S = 60.0
AGAIN_S_MAX = 6 * 3600.0
STOP_S = 2.0


class _StoppedError(Exception):
    """The agent ends."""


class Sender:
    """Sends what has no verified twin yet."""

    def __init__(
        self,
        offsite: Offsite,
        catalogue: Catalogue,
        moment: Callable[[], Moment],
        max_bytes_s: float = 0.0,
        shelf: Shelf | None = None,
    ) -> None:
        """`max_bytes_s`: no more than this is read in a second; 0: as it comes.

        `shelf` has the managers' snapshots, where there is one.
        """
        self._offsite = offsite
        self._sources = [copies(catalogue, offsite)]
        if shelf is not None:
            self._sources.append(of_managers(shelf, offsite))
        self._moment = moment
        self._pace = Pace(max_bytes_s, lambda: moment().monotonic_s)
        self._end = threading.Event()
        # A request that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="offsite", daemon=True)

    def start(self) -> None:
        """Begin to look and send."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further part; return within 2 s."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        step_back()
        while True:
            self.look()
            if self._end.wait(LOOK_S):
                return

    def look(self) -> None:
        """Send everything that is due, once."""
        due = sorted(self._found(), key=lambda one: (one.scheduled, one.created_wall_s))
        for parcel in due:
            if self._end.is_set():
                return
            try:
                self._one(parcel)
            except _StoppedError:
                return
            except SnapshotError as error:
                log.warning("off-site: %s", error)
            except Exception:
                log.exception("off-site: sending %s failed", parcel.id)

    def _found(self) -> Iterator[Parcel]:
        for source in self._sources:
            try:
                yield from source()
            except SnapshotError as error:
                log.warning("off-site: %s", error)

    def _one(self, parcel: Parcel) -> None:
        before = marks.twin(parcel.folder)
        now_s = self._moment().wall_s
        if not self._is_due(before, parcel, now_s):
            return
        fresh = Twin(self._offsite.url, parcel.end)
        try:
            sent = parcel.send(self._check)
        except SnapshotError as error:
            attempts = 1 + (before.attempts if before is not None else 0)
            pause_s = min(AGAIN_S * 2 ** min(attempts - 1, 20), AGAIN_S_MAX)
            failed = replace(
                fresh,
                attempts=attempts,
                error=error.message,
                again_wall_s=self._moment().wall_s + pause_s,
            )
            marks.note_twin(parcel.folder, failed)
            raise
        log.info("off-site: %s lies at %s and was read back", parcel.id, sent.url)
        marks.note_twin(
            parcel.folder,
            replace(
                fresh,
                url=sent.url,
                size=sent.size,
                sha256=sent.sha256,
                verified_wall_s=self._moment().wall_s,
            ),
        )

    def _is_due(self, twin: Twin | None, parcel: Parcel, now_s: float) -> bool:
        if twin is None or twin.place != self._offsite.url:
            return True
        if twin.verified and twin.end_lsn == parcel.end:
            return False
        # A clock that went back must not put it off for ever.
        return not now_s < twin.again_wall_s <= now_s + AGAIN_S_MAX

    def _check(self, size: int) -> None:
        """Give way to the server; raise when the agent ends."""
        if self._end.wait(self._pace.delay_s(size)):
            raise _StoppedError
