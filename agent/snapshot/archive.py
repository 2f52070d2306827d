"""Archives: a snapshot as one plain tar stream.

Theory of operation. `tar x` gives `manifest.json`, `data/`, `wal/`, and what a
stranger needs to open them (see `guide`). Only what the manifest names goes in, and
every header is made of the manifest alone: so the archive's size is known before it is
read, the same snapshot always gives the same bytes, and a transfer that broke off goes
on at any byte. The stream is made while it is read. GNU's tar format, because names
may be any bytes.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent import codec
from agent.errors import PostgresError, SnapshotError
from agent.postgres.control import read_control
from agent.snapshot import guide, withheld
from agent.snapshot import manifest as manifests
from agent.snapshot.files import read_blocks
from agent.snapshot.manifest import DATA, WAL, Manifest

END = bytes(2 * tarfile.BLOCKSIZE)
"""What every whole archive ends with."""
_ENCODING = ("utf-8", "surrogateescape")
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class _Member:
    """One member: its header, then its content, from memory or from a file."""

    info: tarfile.TarInfo
    header_size: int
    content: bytes | None = None
    """None: it is a file of the snapshot."""

    @property
    def size(self) -> int:
        """Bytes in the archive."""
        return self.header_size + self.info.size + _padding(self.info.size)


class Archive:
    """The archive of one snapshot's folder, as the folder is now.

    Passwords and keys in configuration go along only where there are `recipients` (age
    public keys), in a member of their own that is encrypted for them. Raises
    SnapshotError when the folder has no usable manifest.
    """

    def __init__(self, folder: Path, recipients: Sequence[str] = ()) -> None:
        self._folder = folder
        self._exported = withheld.export(folder, manifests.read(folder), recipients)
        self.manifest = self._exported.manifest
        self._mtime = int(self.manifest.updated_wall_s)
        self._members = tuple(self._plan())
        self.size = sum(member.size for member in self._members) + len(END)
        """Bytes of the whole archive."""

    @property
    def tag(self) -> str:
        """What names these bytes: another archive of the snapshot has another one."""
        digest = hashlib.sha256()
        for member in self._members:
            digest.update(member.info.tobuf(tarfile.GNU_FORMAT, *_ENCODING))
            digest.update(member.content or b"")
        return digest.hexdigest()[:32]

    def stream(self, start: int = 0) -> Iterator[bytes]:
        """Yield the archive from byte `start` on, in blocks of at most a megabyte.

        Raises SnapshotError when a file is not what the manifest says it is.
        """
        skip = start
        for member in self._members:
            if skip >= member.size:
                skip -= member.size
                continue
            yield from self._read(member, skip)
            skip = 0
        yield END[skip:]

    def _plan(self) -> Iterator[_Member]:
        """Yield what goes in, in its order."""
        manifest = self.manifest
        yield self._made(manifests.NAME, codec.to_json(manifest).encode("ascii"))
        for path, content in self._extra().items():
            yield self._made(path, content)
        for path in (*_parents(manifest), *manifest.folders):
            yield self._entry(path, tarfile.DIRTYPE, _FOLDER_MODE)
        for link in manifest.links:
            yield self._entry(link.path, tarfile.SYMTYPE, 0o777, target=link.target)
        for file in manifest.files:
            instead = self._exported.replaced.get(file.path)
            if instead is None:
                yield self._entry(file.path, tarfile.REGTYPE, file.mode, size=file.size)
            else:
                yield self._made(file.path, instead)

    def _extra(self) -> dict[str, bytes]:
        made: dict[str, bytes] = {}
        if self._exported.secrets is not None:
            made[withheld.MEMBER] = self._exported.secrets
        if self.manifest.has_copy:
            with suppress(PostgresError):
                control = read_control(self._folder / DATA)
                sent = self._exported.secrets is not None
                made |= guide.texts(self.manifest, control, with_secrets=sent)
        return made

    def _made(self, path: str, content: bytes) -> _Member:
        entry = self._entry(path, tarfile.REGTYPE, _FILE_MODE, size=len(content))
        return _Member(entry.info, entry.header_size, content)

    def _entry(
        self, path: str, kind: bytes, mode: int, *, size: int = 0, target: str = ""
    ) -> _Member:
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size = kind, mode, size
        info.mtime, info.linkname = self._mtime, target
        return _Member(info, len(info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)))

    def _read(self, member: _Member, skip: int) -> Iterator[bytes]:
        """Yield one member from its byte `skip` on."""
        header = member.info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)
        yield header[skip:]
        skip = max(0, skip - member.header_size)
        if member.content is not None:
            yield member.content[skip:]
        elif member.info.isreg():
            yield from self._content(member.info, min(skip, member.info.size))
        yield bytes(_padding(member.info.size))[max(0, skip - member.info.size) :]

    def _content(self, info: tarfile.TarInfo, skip: int) -> Iterator[bytes]:
        place = self._folder / info.name
        try:
            handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise SnapshotError(
                f"{place} cannot be read: {error.strerror}", "verify the snapshot"
            ) from error
        try:
            os.lseek(handle, skip, os.SEEK_SET)
            sent = skip
            for block in read_blocks(handle, info.size - skip):
                sent += len(block)
                yield block
        finally:
            os.close(handle)
        if sent != info.size:
            raise SnapshotError(
                f"{place} has {sent} bytes, the manifest says {info.size}",
                "verify the snapshot",
            )


def stream(folder: Path) -> Iterator[bytes]:
    """Yield the whole archive of a snapshot's folder; see Archive."""
    yield from Archive(folder).stream()


def _parents(manifest: Manifest) -> list[str]:
    """Return folders that are needed but not named by the manifest.

    `wal` is always one, also without a file in it: the guide's commands name it.
    """
    known = set(manifest.folders)
    needed = {
        str(parent)
        for entry in manifest.files
        for parent in Path(entry.path).parents
        if str(parent) != "."
    }
    return sorted((needed | {WAL}) - known, key=lambda path: (path.count("/"), path))


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
