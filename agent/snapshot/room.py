"""Room: whether a copy fits, below which free space nothing is written, what makes way.

Theory of operation. A capture must never fill a volume that PostgreSQL needs. On
a volume that also holds the server's files, a floor of free bytes stays free: the
larger of 5 % of the volume and twice max_wal_size, but the latter at most a tenth
of the volume, because on a small disk it would forbid every capture. The WAL tail
may go down to half of that floor: it is small, and it is what nobody can bring
back. On a volume of its own the capture leaves SPARE_BYTES.

Who finds no room gets some before it is refused. The tail gets the reserve, at once.
Then whoever keeps the snapshots is asked to give up the least worthy ones that nothing
holds. What is still missing after that is an error that names the bytes.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import NoRoomError
from agent.snapshot.reserve import Reserve

SPARE_BYTES = 64 << 20
"""Left free on a volume that holds none of PostgreSQL's files."""
MAX_WAL_BYTES = 1 << 30
"""PostgreSQL's default max_wal_size, where the server could not be asked."""
WATCH_S = 1.0
"""While a copy is made, the floor is looked at at least so often."""

GiveUp = Callable[[int], None]
"""Asked to free so many bytes on the volume of the capture folder. Blocking; it may
free less, or nothing. Never raises."""


def nothing_to_give(_: int) -> None:
    """Give nothing up."""


@dataclass(frozen=True, slots=True)
class Room:
    """The free space that captures may use, on the capture folder's volume."""

    folder: Path
    floor_bytes: int
    reserve: Reserve | None = None
    give_up: GiveUp = nothing_to_give
    _turn: threading.Lock = field(
        default_factory=threading.Lock, repr=False, compare=False
    )

    @property
    def left_bytes(self) -> int:
        """What a copy may still use, floor and reserve taken off; 0 at the least."""
        return max(0, -self._missing(0))

    def check(self, needed_bytes: int, what: str, *, ahead_bytes: int = 0) -> None:
        """Raise NoRoomError, with the bytes missing, unless so much fits.

        `ahead_bytes` will be needed later: who gives way for the one now gives way for
        both, and not once more each second.
        """
        if self._missing(needed_bytes) <= 0:
            return
        with self._turn:  # who comes second finds the room that the first one made
            missing = self._missing(needed_bytes)
            if missing > 0:
                self.give_up(missing + ahead_bytes)
                missing = self._missing(needed_bytes)
        if missing > 0:
            raise no_room(what, missing, self.folder)

    def check_tail(self, needed_bytes: int) -> None:
        """Do the same for the WAL tail; it may use the reserve and half the floor."""
        missing = self._missing_tail(needed_bytes)
        if missing > 0 and self.reserve is not None:
            self.reserve.give_back("the WAL tail")
            missing = self._missing_tail(needed_bytes)
        if missing > 0:
            with self._turn:
                missing = self._missing_tail(needed_bytes)
                if missing > 0:
                    self.give_up(missing)
                    missing = self._missing_tail(needed_bytes)
        if missing > 0:
            raise no_room("the WAL tail", missing, self.folder)

    def with_give_up(self, give_up: GiveUp) -> "Room":
        """Return the same room, where this makes way."""
        return replace(self, give_up=give_up)

    def _missing(self, needed_bytes: int) -> int:
        owed = self.reserve.owed_bytes if self.reserve is not None else 0
        return needed_bytes + self.floor_bytes + owed - self._free()

    def _missing_tail(self, needed_bytes: int) -> int:
        return needed_bytes + self.floor_bytes // 2 - self._free()

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free


def no_room(what: str, missing_bytes: int, folder: Path) -> NoRoomError:
    """Return the error for what does not fit on the volume of `folder`."""
    return NoRoomError(
        f"no room for {what}: {missing_bytes} bytes are missing on the volume of"
        f" {folder}",
        "free space there, or set capture.dir to a larger volume",
        missing_bytes=missing_bytes,
    )


def missing_in(error: Exception) -> int:
    """Return the bytes that an error says are missing; 0 when it is about others."""
    return error.missing_bytes if isinstance(error, NoRoomError) else 0


def measure(
    folder: Path,
    server_paths: Iterable[Path],
    max_wal_bytes: int,
    reserve: Reserve | None = None,
) -> Room:
    """Return the room at `folder` beside a server that uses `server_paths`.

    Raises OSError.
    """
    device = folder.stat().st_dev
    shared = any(_device(path) == device for path in server_paths)
    if not shared:
        return Room(folder, SPARE_BYTES, reserve)
    volume = shutil.disk_usage(folder).total
    return Room(folder, floor_bytes(volume, max_wal_bytes), reserve)


def server_paths(data_dir: Path) -> tuple[Path, ...]:
    """Return where a server keeps its files: each may be on a volume of its own."""
    tablespaces = (data_dir / "pg_tblspc").glob("*")
    return (data_dir, data_dir / "pg_wal", *tablespaces)


def floor_bytes(volume_bytes: int, max_wal_bytes: int) -> int:
    """Return how much stays free on a volume of PostgreSQL."""
    return max(volume_bytes // 20, min(2 * max_wal_bytes, volume_bytes // 10))


def _device(path: Path) -> int | None:
    try:
        return os.stat(path).st_dev  # noqa: PTH116 - follows links, as the server does
    except OSError:
        return None
