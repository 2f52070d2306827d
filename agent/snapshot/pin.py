"""The pin: a second name for every file of the server, on the server's own disks.

Theory of operation. A farm of hard links beside PGDATA costs milliseconds and no
space. It keeps the files when somebody deletes them (a re-clone, a wipe), not when
somebody overwrites them (pg_rewind, recycled WAL): it is no snapshot, and goes as
soon as a complete copy is there. While the server runs the farm is made anew aside
and swapped in, so it never lacks a file that it had; once the server stands still
it is only ever added to, and a folder that is no longer the one that was pinned is
left alone. Links cannot leave a file system: where PGDATA is a mount point there
is no pin. Where farms are is noted in the capture's folder before they are made: a
wiped PGDATA no longer tells where its tablespaces were.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.snapshot.files import PRIVATE_FOLDER, remove_tree, tree, write_atomically

HELD = "held"
PREFIX = ".splitguard-pin-"
NOTES = "pin.json"
MAP = "pg_filenode.map"
"""The file in a capture's folder that says which folders have farms in them."""


class PinError(Exception):
    """There can be no pin, for the reason given."""


@dataclass(slots=True)
class Pin:
    """The farms of one capture: PGDATA's, and one for each folder linked from it."""

    data_dir: Path
    capture_id: str
    folder: Path
    """The capture's own."""
    identity: str = field(default="")
    """The incarnation that was pinned (see `incarnation`)."""

    def hold(self) -> str:
        """Make or renew the farm of a running server. Returns `held` or a reason."""
        try:
            if not self._same_server():
                return HELD
            for source, farm in self._farms():
                aside = farm.with_name(farm.name + ".new")
                remove_tree(aside)
                _link_all(source, aside)
                self._swap(aside, farm)
        except PinError as reason:
            return f"none: {reason}"
        except OSError as error:
            return f"none: {error.strerror or error}"
        return HELD

    def add(self) -> str:
        """Add what is new to the farm of a stopped server; nothing is taken away."""
        try:
            if self._same_server():
                for source, farm in self._farms():
                    _link_all(source, farm)
        except PinError as reason:
            return f"none: {reason}"
        except OSError as error:
            return f"none: {error.strerror or error}"
        return HELD

    def release(self) -> str:
        """Remove the farms. Returns `none`, or why they are still there."""
        try:
            parents = {farm.parent for _, farm in self._sources()}
            for parent in parents | self._noted():
                for left in parent.glob(f"{PREFIX}{self.capture_id}@*"):
                    remove_tree(left)
            (self.folder / NOTES).unlink(missing_ok=True)
        except OSError as error:
            return f"held: it could not be removed: {error.strerror or error}"
        return "none"

    def outlived(self) -> bool:
        """Whether the server that was pinned is gone from its place."""
        try:
            return bool(self.identity) and incarnation(self.data_dir) != self.identity
        except OSError:
            return True

    def _same_server(self) -> bool:
        found = incarnation(self.data_dir)
        self.identity = self.identity or found
        return self.identity == found

    def _swap(self, aside: Path, farm: Path) -> None:
        """Put the new farm in place, unless the server was wiped meanwhile."""
        if not self._same_server() or not (self.data_dir / "postmaster.pid").exists():
            if farm.exists():
                remove_tree(aside)
                return
        elif farm.exists():
            old = farm.with_name(farm.name + ".old")
            remove_tree(old)
            farm.rename(old)
            aside.rename(farm)
            remove_tree(old)
            return
        aside.rename(farm)

    def _sources(self) -> list[tuple[Path, Path]]:
        """Return each folder of the server with the place of its farm."""
        home = self.data_dir.resolve()
        found = [(home, "data")]
        wal = home / "pg_wal"
        if wal.is_symlink():
            found.append((wal.resolve(), "wal"))
        with suppress(FileNotFoundError):
            found += [
                (link.resolve(), link.name)
                for link in sorted((home / "pg_tblspc").iterdir())
                if link.is_symlink()
            ]
        return [
            (source, source.parent / f"{PREFIX}{self.capture_id}@{name}")
            for source, name in found
        ]

    def _noted(self) -> set[Path]:
        return _noted(self.folder)

    def _note(self, sources: list[tuple[Path, Path]]) -> None:
        """Write down where farms are about to be made, besides where they were."""
        known = self._noted()
        wanted = known | {farm.parent for _, farm in sources}
        if wanted != known:
            text = json.dumps(sorted(str(place) for place in wanted))
            write_atomically(self.folder / NOTES, text.encode("ascii"))

    def _farms(self) -> list[tuple[Path, Path]]:
        """Return the same, once it is known that all farms can be had."""
        sources = self._sources()
        for source, _ in sources:
            if source.stat().st_dev != source.parent.stat().st_dev:
                raise PinError(f"{source} is a mount point")
            why = closed(source.parent)
            if why:
                raise PinError(f"{source.parent} is {why}")
        self._note(sources)
        return sources


def left_behind(folder: Path) -> tuple[Path, ...]:
    """Return the farms of the capture in this folder, PGDATA's first. Raises OSError.

    Only what its notes speak of: a snapshot that came from elsewhere has none here.
    """
    return tuple(
        sorted(
            (
                farm
                for parent in _noted(folder)
                for farm in parent.glob(f"{PREFIX}{folder.name}@*")
                if farm.is_dir() and not farm.is_symlink()
            ),
            key=lambda farm: (not farm.name.endswith("@data"), farm),
        )
    )


def _noted(folder: Path) -> set[Path]:
    """Return the folders that farms were made in, as far as they are noted."""
    try:
        noted = json.loads((folder / NOTES).read_bytes())
    except (FileNotFoundError, ValueError):
        return set()
    places = noted if isinstance(noted, list) else []
    return {Path(place) for place in places if isinstance(place, str)}


def closed(folder: Path) -> str:
    """Return why no farm can be made in a folder; empty if one can. Raises OSError."""
    if os.access(folder, os.W_OK | os.X_OK):
        return ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "on a read-only file system"
    return "not writable for the agent"


def incarnation(data_dir: Path) -> str:
    """Return what changes when somebody clones the data directory anew.

    A clone writes PG_VERSION; neither the server nor pg_rewind does. Raises OSError.
    """
    found = (data_dir / "PG_VERSION").stat()
    return f"{found.st_dev}:{found.st_ino}:{found.st_mtime_ns}"


def being_rewritten(data_dir: Path) -> bool:
    """Whether a rewind or a clone is at work there, or was left in the middle.

    Both write every pg_filenode.map before pg_control, which is their very last file; a
    server writes pg_control again and again, and never the map of template0. Raises
    OSError. Source: `decide_file_action` and `perform_rewind` in pg_rewind.
    """
    maps = [found.stat().st_mtime_ns for found in data_dir.glob("base/*/" + MAP)]
    control = (data_dir / "global" / "pg_control").stat().st_mtime_ns
    return bool(maps) and min(maps) > control


def _link_all(source: Path, farm: Path) -> None:
    """Link every regular file below `source` that `farm` does not have yet."""
    farm.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    _own_like(source, farm)
    for relative, entry in tree(source):
        target = farm / relative
        with suppress(FileExistsError, FileNotFoundError):
            if entry.is_symlink():
                target.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir(follow_symlinks=False):
                target.mkdir(mode=PRIVATE_FOLDER)
                _own_like(Path(entry.path), target)
            elif entry.is_file(follow_symlinks=False):
                os.link(entry.path, target, follow_symlinks=False)


def _own_like(source: Path, target: Path) -> None:
    """Give a folder of the farm its owner, where only root can: it may go back."""
    if os.geteuid() == 0:
        found = source.stat()
        os.chown(target, found.st_uid, found.st_gid)
