"""Unpacking an archive from elsewhere, which is not trusted.

Theory of operation. Each member must be a plain file, a folder or a link that stays
inside, or nothing is unpacked at all. All of them together may be no larger than a
plain archive's own file; a compressed one says in its manifest, which must come first,
how much it holds, and gets no more room than that, if there is so much. A cut archive
is found by its missing end mark, because a cut may fall between two members. Whether
the content is what the manifest says is for `verify` to find.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.archive import END
from agent.snapshot.files import BLOCK_BYTES, make_folder, remove_tree
from agent.snapshot.manifest import check_inside, check_link
from agent.snapshot.sealing import Identity, Reader, is_plain, unsealed
from agent.snapshot.verify import Seen
from agent.snapshot.withheld import put_back

SPARE_BYTES = 64 << 20
"""Stay free on the volume, and stand for what an archive has beside the snapshot."""
RATIO_MAX = 100
"""So many times an archive's own size a compressed manifest may have."""
_MAGIC_AT = 257
"""Where in its first header a tar says what it is (POSIX 1003.1, ustar)."""
_MAGIC = b"ustar"
_MARK_BYTES = 1 << 20
"""No more than this may follow the end mark: tar fills its last block up."""


def unpack(
    archive: Path,
    target: Path,
    identities: Sequence[Identity] = (),
    progress: Seen | None = None,
) -> None:
    """Unpack an archive, sealed or plain, into the new folder `target`.

    With `identities` (private keys of age) an encrypted one is read, and the passwords
    and keys of the configuration are put back. `progress` is called with the bytes
    done and in all. Raises SnapshotError: it is no archive, it ends too early, no key
    fits, there is no room, or a member would leave the folder; then nothing of it
    remains.
    """
    with _cleaned(archive, target):
        make_folder(target)
        plain = is_plain(archive)
        if plain:
            _check_beginning(archive)
            _check_end(archive)
            check_room(archive.stat().st_size, target)
        with unsealed(archive, identities) as source:
            watched = _Watched(source)
            budget = _Budget(archive.stat().st_size, plain, target, progress)
            _unpack_all(watched, target, budget)
            watched.drain()
        if identities:
            put_back(target, identities)


@contextmanager
def _cleaned(archive: Path, target: Path) -> Iterator[None]:
    """Leave nothing behind when anything goes wrong, and say what did."""
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        remove_tree(target)
        raise SnapshotError(
            f"{archive} is no whole archive: {error}",
            "fetch it again; it must be the archive that the agent gave",
        ) from error
    except OSError as error:
        remove_tree(target)
        where = str(error.filename or archive)
        at = "" if where == str(archive) else f" at {where}"
        raise SnapshotError(
            f"{archive} cannot be unpacked{at}: {error.strerror or error}"
        ) from error
    except BaseException:
        remove_tree(target)
        raise


def _check_beginning(archive: Path) -> None:
    """Tell what never was an archive from one that is not whole."""
    with archive.open("rb") as file:
        head = file.read(_MAGIC_AT + len(_MAGIC))
    if head[_MAGIC_AT:] != _MAGIC:
        raise SnapshotError(
            f"{archive} is no archive: it begins neither as tar nor as zstd or age do",
            "name the archive that the agent gave, or a snapshot's folder",
        )


def _check_end(archive: Path) -> None:
    """See at once whether a plain archive has its end mark."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(END)))
        if file.read() != END or size % tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its end is missing")


@dataclass
class _Watched:
    """Reads, and remembers how the stream ended."""

    source: Reader
    last: bytes = b""

    def read(self, size: int, /) -> bytes:
        block = self.source.read(size)
        self.last = (self.last + block[-len(END) :])[-len(END) :]
        return block

    def drain(self) -> None:
        """Read to the end; raise ReadError when the end mark is missing."""
        left = _MARK_BYTES
        while block := self.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0 or block.strip(b"\0"):
                raise tarfile.ReadError("something follows its end")
        if self.last != END:
            raise tarfile.ReadError("its end is missing")


@dataclass
class _Budget:
    """How much may still be unpacked."""

    archive_bytes: int
    plain: bool
    target: Path
    progress: Seen | None
    left: int = field(init=False)
    done: int = 0
    total: int = 0
    """Of what the manifest announces; 0 before it was read."""

    def __post_init__(self) -> None:
        ratio = 1 if self.plain else RATIO_MAX
        self.left = self.archive_bytes * ratio + (0 if self.plain else SPARE_BYTES)

    def take(self, member: tarfile.TarInfo) -> None:
        """See that what is unpacked is in the archive; holes and overlaps are not."""
        self.left -= max(0, member.size)
        if member.issparse() or self.left < 0:
            raise SnapshotError(
                f"the archive would unpack to more than it holds: {member.name!r:.200}"
            )

    def announced(self) -> None:
        """Allow what the manifest of a compressed archive announces, if it fits."""
        manifest = manifests.read(self.target)
        size = sum(file.size for file in (*manifest.files, *manifest.withheld))
        self.total = size
        if not self.plain:
            check_room(size, self.target)
            self.left = size + SPARE_BYTES

    def written(self, size: int) -> None:
        """Tell how far it is."""
        self.done += size
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def check_room(needed_bytes: int, folder: Path) -> None:
    """Raise SnapshotError unless so much, and a little more, is free there."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise SnapshotError(
            f"no room on the volume of {folder}: {needed_bytes + SPARE_BYTES} bytes"
            f" are needed, {free} are free; nothing was written",
            "use a folder on a larger volume",
        )


def _unpack_all(source: _Watched, target: Path, budget: _Budget) -> None:
    stream = cast("BinaryIO", source)
    first = True
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for member in tar:
            budget.take(member)
            if first and not budget.plain and member.name != manifests.NAME:
                raise SnapshotError(
                    f"the archive does not begin with {manifests.NAME}",
                    "it must be an archive that the agent gave",
                )
            _unpack_one(tar, member, target, budget)
            if first and member.name == manifests.NAME:
                budget.announced()
            first = False


def _unpack_one(
    tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, budget: _Budget
) -> None:
    name = member.name.rstrip("/")
    if name != manifests.NAME:
        check_inside(name, "the archive")
    place = target / name
    for parent in place.relative_to(target).parents:
        if (target / parent).is_symlink():
            raise SnapshotError(f"the archive writes through a link: {name!r:.200}")
    make_folder(place.parent)
    if member.isdir():
        place.mkdir(mode=0o700, exist_ok=True)
        place.chmod(member.mode & 0o777 | 0o700)
    elif member.issym():
        check_link(name, member.linkname, "the archive")
        place.symlink_to(member.linkname)
    elif member.isreg():
        _unpack_file(tar, member, place, budget)
    else:
        raise SnapshotError(
            f"the archive holds something else than files: {name!r:.200}"
        )


def _unpack_file(
    tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path, budget: _Budget
) -> None:
    source = tar.extractfile(member) or BytesIO()
    left = member.size
    with place.open("xb") as file:
        while left > 0 and (block := source.read(min(BLOCK_BYTES, left))):
            file.write(block)
            left -= len(block)
            budget.written(len(block))
    if left:
        raise SnapshotError(f"the archive ends within {member.name!r:.200}")
    place.chmod(member.mode & 0o777 | 0o600)
