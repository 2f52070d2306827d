"""What is to be sent off-site: copies of the database, and managers' snapshots.

Theory of operation. Both kinds are folders with a manifest and a mark that says what
became of the archive elsewhere, so one sender serves both. A manager's snapshot goes as
a tar of what lies on the shelf, which is encrypted already where anybody was named to
encrypt it for.
"""

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.daemon.upkeep import MARK
from agent.errors import ManagerError, SnapshotError
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import read_blocks
from agent.snapshot.offsite import Check, Offsite, Sent
from agent.snapshot.retention import end_of
from agent.vnfm.kept import CERTIFICATES, MANIFEST, Kept
from agent.vnfm.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Parcel:
    """One archive that should lie off-site."""

    id: str
    folder: Path
    """Where its mark is."""
    end: str
    """What names its present content in the mark."""
    scheduled: bool
    """Those of incidents go first."""
    created_wall_s: float
    send: Callable[[Check], Sent]
    """Sends it and reads it back. Blocking; raises SnapshotError."""


class Parcels(Protocol):
    """Where parcels come from."""

    def __call__(self) -> Sequence[Parcel]:
        """Return all that are complete. Blocking; raises SnapshotError."""
        ...


def copies(catalogue: Catalogue, offsite: Offsite) -> Parcels:
    """Return what finds the finished snapshots of the server here."""

    def found() -> Sequence[Parcel]:
        return [
            Parcel(
                one.id,
                folder := catalogue.folder(one.id),
                end_of(one),
                MARK in one.id,
                one.created_wall_s,
                _copy(offsite, folder),
            )
            for one in catalogue.list()
            if one.closed
        ]

    return found


def of_managers(shelf: Shelf, offsite: Offsite) -> Parcels:
    """Return what finds the managers' snapshots that are kept here."""

    def found() -> Sequence[Parcel]:
        try:
            kept = shelf.list()
        except ManagerError as error:
            raise SnapshotError(error.message, error.hint) from error
        return [
            Parcel(
                one.id,
                shelf.place / one.id,
                one.stored_sha256,
                one.scheduled,
                one.created_wall_s,
                _kept(offsite, shelf.place / one.id, one),
            )
            for one in kept
        ]

    return found


def _copy(offsite: Offsite, folder: Path) -> Callable[[Check], Sent]:
    return lambda check: offsite.send(folder, check)


def _kept(offsite: Offsite, folder: Path, kept: Kept) -> Callable[[Check], Sent]:
    names = [MANIFEST, kept.file]
    if kept.certificates_sha256:
        names.append(CERTIFICATES)

    def send(check: Check) -> Sent:
        try:
            paths = [folder / name for name in names]
            size = sum(
                _padded(path.stat().st_size) + tarfile.BLOCKSIZE for path in paths
            )
            return offsite.deliver(
                f"{kept.cluster}/{kept.id}",
                _tar(kept.id, paths),
                size + 2 * tarfile.BLOCKSIZE,
                check,
                sealed=kept.sealed,
            )
        except OSError as error:
            raise SnapshotError(
                f"{error.filename or folder} cannot be read: {error.strerror}"
            ) from error

    return send


def _tar(prefix: str, paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield a tar of these files, in a folder of this name. Raises OSError."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            found = os.fstat(handle)
            member = tarfile.TarInfo(f"{prefix}/{path.name}")
            member.size, member.mode = found.st_size, 0o600
            member.mtime = int(found.st_mtime)
            yield member.tobuf(tarfile.GNU_FORMAT)
            left = found.st_size
            for block in read_blocks(handle, found.st_size):
                left -= len(block)
                yield block
            if left:
                raise OSError(5, "it became shorter", str(path))
            yield b"\0" * (_padded(found.st_size) - found.st_size)
        finally:
            os.close(handle)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
