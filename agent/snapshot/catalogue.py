"""The catalogue: the manifests on disk, and nothing else.

Theory of operation. There is no index that could disagree with the folders. A
folder without a usable manifest is not listed; `unusable` names it and says why.
An id is a folder's name and never a path: anything that could lead elsewhere is
refused before the disk is touched. Nothing in here needs the agent.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import CatalogueError, SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.manifest import Manifest

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LISTED_MAX = 10_000
"""More folders than this are not looked at."""


def check_id(snapshot_id: str) -> str:
    """Return the id if it can be a snapshot's; raise SnapshotError otherwise."""
    if ID.fullmatch(snapshot_id) is None:
        raise SnapshotError(
            f"not a snapshot id: {snapshot_id[:80]!r}",
            "ids are listed by `splitguard snapshots list`",
        )
    return snapshot_id


class Catalogue:
    """The snapshots below one capture folder."""

    def __init__(self, capture_dir: Path) -> None:
        self._dir = capture_dir
        self._kept: dict[str, tuple[tuple[int, int, int], Manifest]] = {}

    @property
    def place(self) -> Path:
        """The capture folder."""
        return self._dir

    def list(self) -> tuple[Manifest, ...]:
        """Return all snapshots, newest first. Raises CatalogueError."""
        found = []
        for name in self._names():
            try:
                found.append(self._read(name))
            except SnapshotError:
                continue
        found.sort(key=lambda each: (each.created_wall_s, each.id), reverse=True)
        return tuple(found)

    def unusable(self) -> tuple[tuple[str, str], ...]:
        """Return folders that are no snapshots, each with the reason.

        Raises CatalogueError.
        """
        reasons = []
        for name in self._names():
            try:
                self._read(name)
            except SnapshotError as error:
                reasons.append((name, error.message))
        return tuple(reasons)

    def show(self, snapshot_id: str) -> Manifest:
        """Return one snapshot's manifest. Raises SnapshotError."""
        self.folder(snapshot_id)
        return self._read(snapshot_id)

    def folder(self, snapshot_id: str) -> Path:
        """Return one snapshot's folder.

        Raises SnapshotError when there is none of this id, CatalogueError when that
        cannot be said because the capture folder cannot be read.
        """
        folder = self._dir / check_id(snapshot_id)
        self._look()
        if not _has_manifest(folder):
            raise SnapshotError(
                f"there is no snapshot {snapshot_id} in {self._dir}",
                "ids are listed by `splitguard snapshots list`",
            )
        return folder

    def _names(self) -> tuple[str, ...]:
        with self._readable():
            entries = [entry for entry in self._dir.iterdir() if _is_folder(entry)]
        return tuple(sorted(entry.name for entry in entries)[:LISTED_MAX])

    def _look(self) -> None:
        """See that the capture folder is there and can be read."""
        with self._readable(), os.scandir(self._dir):
            return

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise CatalogueError(
                f"there is no capture folder {self._dir}",
                "name the right one with --dir or capture.dir; the agent makes it when"
                " it starts",
            ) from error
        except OSError as error:
            raise CatalogueError(
                f"the capture folder {self._dir} cannot be read: {error.strerror}",
                "run this as the user that the agent runs as",
            ) from error

    def _read(self, name: str) -> Manifest:
        """Return a manifest, read again only when its file is another one."""
        path = self._dir / name / manifests.NAME
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise SnapshotError(
                f"{name} has no manifest: it was never finished"
            ) from error
        except OSError as error:
            raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        kept = self._kept.get(name)
        if kept is not None and kept[0] == mark:
            return kept[1]
        manifest = manifests.read(self._dir / name)
        if manifest.id != name:
            raise SnapshotError(f"{name} holds the manifest of {manifest.id!r:.100}")
        self._kept[name] = (mark, manifest)
        return manifest


def _has_manifest(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and (folder / manifests.NAME).is_file()
    except OSError as error:
        raise CatalogueError(
            f"the snapshot's folder {folder} cannot be read: {error.strerror}",
            "run this as the user that the agent runs as",
        ) from error


def _is_folder(path: Path) -> bool:
    return (
        ID.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()
    )
