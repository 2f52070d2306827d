"""Sharing blocks: a copy that the file system makes, without reading a byte.

Theory of operation. XFS, btrfs and others let one file begin as a second name for the
blocks of another; whichever of the two is written later gets blocks of its own. Each
file is shared in one instant, many files are not: a running server must be told, as
for any copy. What was shared takes no room at first, and grows up to its whole size
while the server overwrites what it has. Whether a file system can is tried, and not
looked up: it hangs on its options, its version and the attributes of each folder.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.snapshot.files import PRIVATE_FILE, share_blocks

_UNABLE = {
    errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS,
}  # fmt: skip
GROWS_BY = 0.1
"""This share of a shared copy's size must be free beside it: what a server is taken to
overwrite until somebody has looked."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A file to try it with, and the file system that it lies on."""

    path: Path
    device: int


@dataclass(frozen=True, slots=True)
class Shared:
    """What came out of sharing one file."""

    size: int
    mode: int


class UnsharedError(Exception):
    """These two files cannot share blocks; a copy can be made all the same."""


def share_file(source: Path, target: Path) -> Shared:
    """Make `target` share all blocks of `source`; mode and, for root, owner go along.

    The target must not exist yet, and is not fsynced. The kernel writes what of the
    source is only in memory to the disk first. Raises UnsharedError, after which
    there is no target, and OSError.
    """
    reading = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(reading)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        writing = os.open(target, flags, PRIVATE_FILE)
        try:
            _share(writing, reading)
            size = os.fstat(writing).st_size
            mode = found.st_mode & 0o777
            os.fchmod(writing, mode)
            if os.geteuid() == 0:
                os.fchown(writing, found.st_uid, found.st_gid)
        except BaseException:
            target.unlink()
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return Shared(size, mode)


def why_not(samples: Iterable[Sample], folder: Path) -> str:
    """Return why files like these cannot share blocks with `folder`; empty: they can.

    One file of each file system is tried, with a file without a name: nothing is left
    behind. Raises nothing.
    """
    tried: set[int] = set()
    for sample in samples:
        if sample.device in tried:
            continue
        tried.add(sample.device)
        reason = _try(sample.path, folder)
        if reason:
            return reason
    return "" if tried else "there is no file to try it with"


def _try(source: Path, folder: Path) -> str:
    reading = writing = -1
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(folder, os.O_TMPFILE | os.O_WRONLY, PRIVATE_FILE)
        _share(writing, reading)
    except UnsharedError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    finally:
        for handle in (reading, writing):
            with suppress(OSError):
                os.close(handle)
    return ""


def _share(writing: int, reading: int) -> None:
    try:
        share_blocks(writing, reading)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise UnsharedError("it lies on another file system") from error
        if error.errno in _UNABLE:
            raise UnsharedError("its file system shares no blocks") from error
        raise
