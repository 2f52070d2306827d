"""Room: whether a copy fits, and below which free space nothing is written.

Theory of operation. A capture must never fill a volume that PostgreSQL needs. On
a volume that also holds the server's files, a floor of free bytes stays free: the
larger of 5 % of the volume and twice max_wal_size, but the latter at most a tenth
of the volume, because on a small disk it would forbid every capture. The WAL tail
may go down to half of that floor: it is small, and it is what nobody can bring
back. On a volume of its own the capture leaves SPARE_BYTES.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import CaptureError

SPARE_BYTES = 64 << 20
"""Left free on a volume that holds none of PostgreSQL's files."""
MAX_WAL_BYTES = 1 << 30
"""PostgreSQL's default max_wal_size, where the server could not be asked."""


@dataclass(frozen=True, slots=True)
class Room:
    """The free space that captures may use, on the capture folder's volume."""

    folder: Path
    floor_bytes: int

    @property
    def left_bytes(self) -> int:
        """What may still be used, the floor taken off; 0 when that is reached."""
        return max(0, self._free() - self.floor_bytes)

    def check(self, needed_bytes: int, what: str) -> None:
        """Raise CaptureError, with the bytes missing, unless so much fits."""
        missing = needed_bytes + self.floor_bytes - self._free()
        if missing > 0:
            raise _no_room(what, missing, self.folder)

    def check_tail(self, needed_bytes: int) -> None:
        """Do the same for the WAL tail, which may use half of the floor."""
        missing = needed_bytes + self.floor_bytes // 2 - self._free()
        if missing > 0:
            raise _no_room("the WAL tail", missing, self.folder)

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free


def _no_room(what: str, missing: int, folder: Path) -> CaptureError:
    return CaptureError(
        f"no room for {what}: {missing} bytes are missing on the volume of {folder}",
        "free space there, or set capture.dir to a larger volume",
    )


def measure(folder: Path, server_paths: Iterable[Path], max_wal_bytes: int) -> Room:
    """Return the room at `folder` beside a server that uses `server_paths`.

    Raises OSError.
    """
    device = folder.stat().st_dev
    shared = any(_device(path) == device for path in server_paths)
    if not shared:
        return Room(folder, SPARE_BYTES)
    volume = shutil.disk_usage(folder).total
    return Room(folder, floor_bytes(volume, max_wal_bytes))


def floor_bytes(volume_bytes: int, max_wal_bytes: int) -> int:
    """Return how much stays free on a volume of PostgreSQL."""
    return max(volume_bytes // 20, min(2 * max_wal_bytes, volume_bytes // 10))


def _device(path: Path) -> int | None:
    try:
        return os.stat(path).st_dev  # noqa: PTH116 - follows links, as the server does
    except OSError:
        return None
