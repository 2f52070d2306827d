"""Unpacking an archive from elsewhere, which is not trusted.

Theory of operation. Each member must be a plain file, a folder or a link that stays
inside, and all of them together no larger than the archive, or nothing is unpacked at
all. A cut archive is found by its missing end mark, because a cut may fall between two
members. Whether the content is what the manifest says is for `verify` to find.
"""

import os
import tarfile
from io import BytesIO
from pathlib import Path

from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.archive import END
from agent.snapshot.files import BLOCK_BYTES, make_folder, remove_tree
from agent.snapshot.manifest import check_inside, check_link


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
        file.seek(max(0, size - len(END)))
        if file.read() != END:
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
