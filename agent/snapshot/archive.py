"""Archives: a snapshot as one plain tar stream, and back.

Theory of operation. `tar x` gives `manifest.json`, `data/`, `wal/`, and what a
stranger needs to open them (see `guide`). The stream is made while it is read;
only what the manifest names goes in. An archive from elsewhere is not trusted: each
member must be a plain file, a folder or a link that stays inside, and all of them
together no larger than the archive, or nothing is unpacked at all. GNU's tar format,
because names may be any bytes.
"""

import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from agent.errors import PostgresError, SnapshotError
from agent.postgres.control import read_control
from agent.snapshot import guide
from agent.snapshot import manifest as manifests
from agent.snapshot.files import BLOCK_BYTES, make_folder, read_blocks, remove_tree
from agent.snapshot.manifest import DATA, Manifest, check_inside, check_link

_END = bytes(2 * tarfile.BLOCKSIZE)
_ENCODING = ("utf-8", "surrogateescape")


def stream(folder: Path) -> Iterator[bytes]:
    """Yield the archive of a snapshot, in blocks of at most a megabyte.

    Raises SnapshotError when a file is not what the manifest says it is.
    """
    manifest = manifests.read(folder)
    now_s = int(manifest.updated_wall_s)
    text = (folder / manifests.NAME).read_bytes()
    yield from _member(manifests.NAME, text, now_s)
    for path, content in _extra(folder, manifest).items():
        yield from _member(path, content, now_s)
    for path in (*_parents(manifest), *manifest.folders):
        yield _folder(folder, path)
    for link in manifest.links:
        yield _header(link.path, tarfile.SYMTYPE, now_s, target=link.target)
    for entry in manifest.files:
        yield from _file(folder, entry.path, entry.size)
    yield _END


def _extra(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    if not manifest.has_copy:
        return {}
    with suppress(PostgresError):
        return guide.texts(manifest, read_control(folder / DATA))
    return {}


def _parents(manifest: Manifest) -> list[str]:
    """Return folders that files are in but the manifest does not name."""
    known = set(manifest.folders)
    needed = {
        str(parent)
        for entry in manifest.files
        for parent in Path(entry.path).parents
        if str(parent) != "."
    }
    return sorted(needed - known, key=lambda path: (path.count("/"), path))


def _header(path: str, kind: bytes, mtime: int, *, target: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.mtime, info.linkname = kind, mtime, target
    info.mode = 0o777 if kind == tarfile.SYMTYPE else 0o700
    return info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)


def _member(path: str, content: bytes, mtime: int) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = len(content), mtime, 0o600
    yield info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)
    yield content
    yield _padding(len(content))


def _folder(folder: Path, path: str) -> bytes:
    info = tarfile.TarInfo(path)
    try:
        found = (folder / path).lstat()
    except OSError as error:
        raise SnapshotError(f"{folder / path} is gone: {error.strerror}") from error
    info.type, info.mode = tarfile.DIRTYPE, found.st_mode & 0o777
    info.mtime = int(found.st_mtime)
    return info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)


def _file(folder: Path, path: str, size: int) -> Iterator[bytes]:
    try:
        handle = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise SnapshotError(
            f"{folder / path} cannot be read: {error.strerror}",
            "verify the snapshot",
        ) from error
    try:
        found = os.fstat(handle)
        info = tarfile.TarInfo(path)
        info.size, info.mode = size, found.st_mode & 0o777
        info.mtime = int(found.st_mtime)
        yield info.tobuf(tarfile.GNU_FORMAT, *_ENCODING)
        sent = 0
        for block in read_blocks(handle, size):
            sent += len(block)
            yield block
        if sent != size:
            raise SnapshotError(
                f"{folder / path} has {sent} bytes, the manifest says {size}",
                "verify the snapshot",
            )
        yield _padding(size)
    finally:
        os.close(handle)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into the new folder `target`.

    Raises SnapshotError: it is no archive, it ends too early, or a member would
    leave the folder; then nothing of it remains.
    """
    make_folder(target)
    try:
        _check_end(archive)
        with tarfile.open(archive, "r:", errors="surrogateescape") as tar:
            left = archive.stat().st_size
            for member in tar:
                left -= max(0, member.size)
                _check_size(member, left)
                _unpack_one(tar, member, target)
    except (tarfile.TarError, EOFError) as error:
        remove_tree(target)
        raise SnapshotError(
            f"{archive} is no whole archive: {error}",
            "fetch it again; it must be the plain tar that the agent gave",
        ) from error
    except OSError as error:
        remove_tree(target)
        raise SnapshotError(f"{archive} cannot be unpacked: {error}") from error
    except SnapshotError:
        remove_tree(target)
        raise


def _check_end(archive: Path) -> None:
    """See that the archive has its end mark: a cut may fall between two members."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_END)))
        if file.read() != _END:
            raise tarfile.ReadError("its end is missing")


def _check_size(member: tarfile.TarInfo, left: int) -> None:
    """See that what is unpacked is in the archive; holes and overlaps are not."""
    if member.issparse() or left < 0:
        raise SnapshotError(
            f"the archive would unpack to more than it holds: {member.name!r:.200}"
        )


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
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
        _unpack_file(tar, member, place)
    else:
        raise SnapshotError(
            f"the archive holds something else than files: {name!r:.200}"
        )


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = tar.extractfile(member) or BytesIO()
    left = member.size
    with place.open("xb") as file:
        while left > 0 and (block := source.read(min(BLOCK_BYTES, left))):
            file.write(block)
            left -= len(block)
    if left:
        raise SnapshotError(f"the archive ends within {member.name!r:.200}")
    place.chmod(member.mode & 0o777 | 0o600)
