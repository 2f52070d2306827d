"""Notices that a snapshot was removed, whoever removed it.

Theory of operation. Every removal is written into the capture folder's record before
anything is touched. Once a second the record is looked at (one `stat`); when it has
grown, the ids in it are kept in mind. What the ledger still holds of them, and what is
no longer on the disk, is then told to the core, which forgets it. An id that is in the
record and on the disk again was used anew.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from agent.core.event import Event, SnapshotsRemoved
from agent.core.removal import forgettable
from agent.core.state import State
from agent.ports import Clock
from agent.snapshot.removal import RECORD, RECORD_BYTES_MAX

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Removals:
    """Reads the record of one capture folder."""

    def __init__(self, capture_dir: Path) -> None:
        self._folder = capture_dir
        self._read_at: tuple[int, int] | None = None
        self._ids: frozenset[str] = frozenset()

    async def watch(
        self,
        node: str,
        state: Callable[[], State],
        clock: Clock,
        post: Callable[[Event], None],
    ) -> None:
        """Tell the core of removals until cancelled."""
        while True:
            known = forgettable(state(), node)
            if known:
                gone = await asyncio.to_thread(self.gone, known)
                if gone:
                    log.info("removed for good: %s", ", ".join(gone))
                    post(SnapshotsRemoved(clock.moment(), gone))
            await clock.sleep(LOOK_S)

    def gone(self, known: frozenset[str]) -> tuple[str, ...]:
        """Return which of these were removed and are not there. Blocking."""
        try:
            self._refresh()
        except OSError as error:
            log.warning("%s: %s", self._folder / RECORD, error.strerror)
            return ()
        return tuple(
            sorted(
                name for name in known & self._ids if not (self._folder / name).exists()
            )
        )

    def _refresh(self) -> None:
        """Read the record if it is another one than before. Raises OSError."""
        path = self._folder / RECORD
        try:
            found = path.stat()
        except FileNotFoundError:
            return
        mark = (found.st_mtime_ns, found.st_size)
        if mark == self._read_at:
            return
        with path.open("rb") as file:
            lines = file.read(2 * RECORD_BYTES_MAX).splitlines()
        self._ids = frozenset(filter(None, map(_id, lines)))
        self._read_at = mark


def _id(line: bytes) -> str:
    """Return whose removal a line records; empty for what is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    name = found.get("id") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""
