"""Marks: small files beside a manifest that say what became of the snapshot later.

Theory of operation. A manifest says what was captured, and is not written again for
what people decide afterwards. So a pin is a file of its own, and so is the note of
incidents that were over and acknowledged when somebody looked: the journal forgets
old incidents, and a forgotten one must not read like an open one for ever. Each file
is written aside and renamed. A mark that cannot be read counts as the careful case:
kept, nothing settled, no twin off-site.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent import codec
from agent.errors import CodecError, SnapshotError
from agent.snapshot.files import fsync_path, write_atomically

KEPT = "kept.json"
SETTLED = "settled.json"
OFFSITE = "offsite.json"
BYTES_MAX = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """Somebody wants the snapshot kept, whatever the retention says."""

    who: str
    reason: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Twin:
    """What became of the snapshot's archive off-site."""

    place: str
    """The configured place that this is about."""
    end_lsn: str
    """How far the snapshot went that was sent."""
    url: str = ""
    """Where the archive lies; empty until it was read back."""
    size: int = 0
    sha256: str = ""
    verified_wall_s: float | None = None
    """When it was read back and was what had been sent; None: not yet."""
    attempts: int = 0
    """That failed in a row."""
    error: str = ""
    """Why the last one failed."""
    again_wall_s: float = 0.0
    """Not tried again before."""

    @property
    def verified(self) -> bool:
        """Whether there is a twin that was read back."""
        return self.verified_wall_s is not None


UNREADABLE = Kept("somebody", "the mark in its folder cannot be read", 0.0)


@dataclass(frozen=True, slots=True)
class _Settled:
    incidents: tuple[str, ...]


def kept(folder: Path) -> Kept | None:
    """Return who keeps the snapshot in this folder, and why; None when nobody does."""
    try:
        return _read(folder / KEPT, Kept)
    except (OSError, CodecError):
        return UNREADABLE


def keep(folder: Path, mark: Kept) -> None:
    """Keep the snapshot from now on. Raises SnapshotError."""
    _write(folder / KEPT, mark)


def release(folder: Path) -> bool:
    """Keep it no longer; return whether it was kept. Raises SnapshotError."""
    try:
        (folder / KEPT).unlink()
        fsync_path(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SnapshotError(
            f"{folder / KEPT} cannot be removed: {error.strerror}"
        ) from error
    return True


def settled(folder: Path) -> frozenset[str]:
    """Return its incidents that were seen to be over and acknowledged."""
    with suppress(OSError, CodecError):
        found = _read(folder / SETTLED, _Settled)
        return frozenset(found.incidents) if found is not None else frozenset()
    return frozenset()


def settle(folder: Path, incidents: Iterable[str]) -> None:
    """Note that these incidents are over and acknowledged. Raises SnapshotError."""
    _write(folder / SETTLED, _Settled(tuple(sorted(incidents))))


def twin(folder: Path) -> Twin | None:
    """Return what is known of its archive off-site; None when nothing is."""
    with suppress(OSError, CodecError):
        return _read(folder / OFFSITE, Twin)
    return None


def note_twin(folder: Path, mark: Twin) -> None:
    """Note what became of its archive off-site. Raises SnapshotError."""
    _write(folder / OFFSITE, mark)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX)
    except FileNotFoundError:
        return None
    return codec.from_json(text, kind)


def _write(path: Path, mark: object) -> None:
    """Write a mark, for root as the folder's owner: the agent has to read it."""
    try:
        write_atomically(path, codec.to_json(mark).encode("ascii"))
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise SnapshotError(
            f"{path} cannot be written: {error.strerror}",
            "run this as the user that the agent runs as",
        ) from error
