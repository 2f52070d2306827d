"""The reserve: space that is kept for the WAL tail and the journal when a disk fills.

Theory of operation. A file of nothing lies in the capture folder, its blocks allocated.
Whoever must write and finds no room gives it back: first the tail, which is what nobody
can bring back, and the journal, without which nobody is told. A full copy never gets
it: it leaves as much free as the reserve lacks. The file is made again once that leaves
room to spare, so that it does not come and go. It takes no more than a twentieth of
its volume, and is never made at the expense of the floor that stays free there.
"""

import errno
import logging
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from agent.snapshot.files import PRIVATE_FILE

log = logging.getLogger(__name__)

NAME = ".reserve"
"""In the capture folder; no snapshot can be called so."""
SHARE = 20
"""It takes no more than one part in so many of its volume."""
SPARE_BYTES = 128 << 20
"""It is made only where so much stays free above the floor."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own is."""


class Reserve:
    """The reserve of one capture folder. For any thread."""

    def __init__(self, folder: Path, wanted_bytes: int) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._asked_bytes = wanted_bytes
        self._lock = threading.Lock()

    @property
    def wanted_bytes(self) -> int:
        """How large it is when it is whole. Raises OSError."""
        volume = shutil.disk_usage(self._folder).total
        return min(self._asked_bytes, volume // SHARE)

    @property
    def held_bytes(self) -> int:
        """How much of it is there."""
        try:
            found = self._path.lstat()
        except OSError:
            return 0
        return min(found.st_size, found.st_blocks * _BLOCK_BYTES)

    @property
    def owed_bytes(self) -> int:
        """How much of it is lacking, which a full copy must leave. Raises OSError."""
        return max(0, self.wanted_bytes - self.held_bytes)

    def is_beside(self, path: Path) -> bool:
        """Whether what is written at `path` profits from it."""
        try:
            return self._folder.stat().st_dev == path.stat().st_dev
        except OSError:
            return False

    def make(self, floor_bytes: int) -> bool:
        """Make it whole where there is room to spare; return whether it is whole.

        Raises OSError.
        """
        with self._lock:
            wanted = self.wanted_bytes
            owed = wanted - self.held_bytes
            if owed < 0 or wanted == 0:
                self._remove()  # the setting has become smaller
                owed = wanted
            if owed == 0:
                return True
            left = shutil.disk_usage(self._folder).free - owed
            if left < floor_bytes + SPARE_BYTES:
                return False
            return self._allocate(wanted)

    def give_back(self, whom: str) -> bool:
        """Let go of it for the sake of `whom`; return whether there was any.

        Never raises: who calls this is in trouble already, and will see.
        """
        with self._lock, suppress(OSError):
            held = self.held_bytes
            if held > 0:
                self._remove()
                log.warning(
                    "the reserve of %d bytes in %s was given back for %s: the volume"
                    " is full", held, self._folder, whom,
                )  # fmt: skip
                return True
        return False

    def _allocate(self, size: int) -> bool:
        """Make the file with its blocks; nothing of it stays where that fails."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._path, flags, PRIVATE_FILE)
        try:
            os.posix_fallocate(handle, 0, size)
            os.fsync(handle)
        except OSError as error:
            self._remove()
            if error.errno in NO_ROOM:
                return False
            raise
        finally:
            os.close(handle)
        log.info("a reserve of %d bytes is held in %s", size, self._folder)
        return True

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
