"""Files, handled so that what is said to be on disk is on disk.

Theory of operation. A copy is hashed while it is made, from the bytes that were
read, and read back later. Whatever a name promises exists only once the file was
fsynced, renamed into place, and its folder fsynced. Names are kept as Python's
file system strings, so names that are no valid text survive.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISLNK

BLOCK_BYTES = 1 << 18
"""Read at once. Four times as much costs twice the time: each block of that size is
fresh memory, which the kernel has to clear."""
_FICLONE = 0x40049409
"""The kernel's FICLONE, from linux/fs.h."""
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

Spent = Callable[[int], None]
"""Called with the bytes of each block. It raises to end the work."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What came out of copying one file."""

    size: int
    sha256: str
    mode: int


def nothing(_: int) -> None:
    """Take note of nothing."""


def fsync_path(path: Path) -> None:
    """Force a file's or folder's content to disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, and its parents likewise."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        fsync_path(folder.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content: all of it after a crash, or the old one."""
    aside = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    handle = os.open(aside, flags, PRIVATE_FILE)
    with os.fdopen(handle, "wb", buffering=0) as file:
        write_all(handle, memoryview(content))
        os.fsync(file.fileno())
    aside.replace(path)
    fsync_path(path.parent)


def write_all(handle: int, block: memoryview) -> None:
    """Write the whole block at the file's position."""
    while block:
        block = block[os.write(handle, block) :]


def read_blocks(handle: int, limit: int, spent: Spent = nothing) -> Iterator[bytes]:
    """Yield what the file holds from its position on, `limit` bytes at most."""
    left = limit
    while left > 0 and (block := os.read(handle, min(BLOCK_BYTES, left))):
        left -= len(block)
        yield block
        spent(len(block))


def copy_hashed(
    source: Path,
    target: Path,
    spent: Spent = nothing,
    *,
    begin_writing: bool = False,
) -> Copied:
    """Copy one file, no further than it reached when it was opened.

    The target must not exist yet. Mode and, for root, owner go along. The copy is
    not fsynced; with `begin_writing` the kernel is asked to begin to put it on the
    disk at once, and not only when it has to. Raises OSError.
    """
    digest = hashlib.sha256()
    size = 0
    reading = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(reading)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        writing = os.open(target, flags, PRIVATE_FILE)
        try:
            for block in read_blocks(reading, found.st_size, spent):
                write_all(writing, memoryview(block))
                digest.update(block)
                if begin_writing:
                    os.posix_fadvise(writing, size, len(block), os.POSIX_FADV_DONTNEED)
                size += len(block)
            mode = found.st_mode & 0o777
            if mode != PRIVATE_FILE:
                os.fchmod(writing, mode)
            if os.geteuid() == 0:
                os.fchown(writing, found.st_uid, found.st_gid)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return Copied(size, digest.hexdigest(), mode)


def hash_file(path: Path, spent: Spent = nothing) -> str:
    """Return the SHA-256 of a regular file; no link is followed. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _hash(handle, spent)
    finally:
        os.close(handle)


class Growth:
    """How far a file is written, for whoever reads it behind the writer."""

    def __init__(self) -> None:
        self._size = 0
        self._ended = False
        self._news = threading.Condition()

    def grow(self, size: int) -> None:
        """Note that so many bytes more are written."""
        with self._news:
            self._size += size
            self._news.notify_all()

    def end(self) -> None:
        """Note that nothing more will be written, for whatever reason."""
        with self._news:
            self._ended = True
            self._news.notify_all()

    def reaches(self, size: int) -> None:
        """Return once so much is written, or the end of it."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._size >= size)


def settle_and_hash(
    path: Path, spent: Spent = nothing, growth: Growth | None = None
) -> str:
    """Force a file to disk, then return the SHA-256 of what lies there.

    It is read around the kernel's cache where the file system can do that, else after
    the kernel was asked to forget what it has of the file. With `growth` it is read
    behind its writer: the kernel then puts on the disk what is about to be read from
    there. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        handle = os.open(path, flags)
    try:
        direct = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT
        if growth is not None and not direct:
            growth.reaches(sys.maxsize)
            growth = None
        if growth is None:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        found = _hash_aligned(handle, spent, growth)
        if growth is not None:
            growth.reaches(sys.maxsize)
            os.fsync(handle)
        if found is not None:
            return found
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return _hash(handle, spent)
    finally:
        os.close(handle)


def _hash(handle: int, spent: Spent) -> str:
    digest = hashlib.sha256()
    for block in read_blocks(handle, os.fstat(handle).st_size, spent):
        digest.update(block)
    return digest.hexdigest()


_ALIGNED = 4096
"""Direct reading begins at multiples of it; larger than any usual sector."""
_ALIGNED_BLOCK_BYTES = 1 << 20
_buffers = threading.local()


def _hash_aligned(
    handle: int, spent: Spent, growth: Growth | None = None
) -> str | None:
    """Hash in a way that suits direct reading; None where the file does not let us.

    The handle's position stays where it is.
    """
    if not hasattr(_buffers, "block"):  # of each thread; it begins with a page
        _buffers.block = memoryview(mmap.mmap(-1, _ALIGNED_BLOCK_BYTES))
    block: memoryview = _buffers.block
    digest, offset = hashlib.sha256(), 0
    while offset < _reached(handle, offset + _ALIGNED_BLOCK_BYTES, growth):
        try:
            count = os.preadv(handle, [block], offset)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise
        digest.update(block[:count])
        offset += count
        spent(count)
        if count == 0 or (count % _ALIGNED and offset < _reached(handle, 0, growth)):
            return None
    return digest.hexdigest()


def _reached(handle: int, wanted: int, growth: Growth | None) -> int:
    """Return how large the file is, once it has the size that is wanted, or its end."""
    if growth is not None:
        growth.reaches(wanted)
    return os.fstat(handle).st_size


def tree(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all entries below `root` with their paths relative to it.

    Folders come before what is in them; links are not followed. What vanishes
    meanwhile is left out.
    """
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in entries:
            relative = prefix + entry.name
            yield relative, entry
            if entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry.path), relative + "/"))


def remove_tree(path: Path) -> None:
    """Remove a folder, a file or a link with all below it, if it is there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if S_ISLNK(kind) or not path.is_dir():
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def clone_tree(source: Path, target: Path, spent: Spent = nothing) -> None:
    """Copy a folder with everything in it; `target` must not exist.

    Links stay links. Where the file system can, blocks are shared, and nothing is
    copied until one side is written. Raises OSError.
    """
    target.mkdir(mode=PRIVATE_FOLDER)
    _keep_owner(source, target)
    for relative, entry in tree(source):
        copy = target / relative
        if entry.is_symlink():
            copy.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir(follow_symlinks=False):
            copy.mkdir(mode=PRIVATE_FOLDER)
            _keep_owner(Path(entry.path), copy)
        elif entry.is_file(follow_symlinks=False):
            clone_file(Path(entry.path), copy, spent)


def _keep_owner(source: Path, target: Path) -> None:
    found = source.stat()
    target.chmod(found.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(target, found.st_uid, found.st_gid)


def clone_file(source: Path, target: Path, spent: Spent = nothing) -> None:
    """Copy one file, sharing its blocks where the file system can."""
    with source.open("rb") as reader, target.open("xb", buffering=0) as writer:
        found = os.fstat(reader.fileno())
        if not _reflink(reader.fileno(), writer.fileno()):
            for block in read_blocks(reader.fileno(), found.st_size):
                write_all(writer.fileno(), memoryview(block))
        os.fchmod(writer.fileno(), found.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(writer.fileno(), found.st_uid, found.st_gid)
        spent(found.st_size)


def share_blocks(writing: int, reading: int) -> None:
    """Let an open file begin with all blocks of another. Raises OSError."""
    fcntl.ioctl(writing, _FICLONE, reading)


def _reflink(reading: int, writing: int) -> bool:
    """Whether the second file now shares the first one's blocks."""
    try:
        share_blocks(writing, reading)
    except OSError:
        return False  # the file system cannot, and the bytes are copied
    return True
