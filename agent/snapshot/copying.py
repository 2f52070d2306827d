"""The full copy: what belongs to it, copied by two threads and read back.

Theory of operation. A plan lists every file of the data directory and of the
tablespaces, as seen at one moment. Of a running server what pg_basebackup leaves
out is left out here too; of a stopped one everything is taken but what says that a
server runs. pg_control goes last, because a copy of a standby needs it so. Every
file is hashed from the bytes that were read from the server, fsynced, and then
read back from the disk and hashed again: only then is the copy `captured`.
Tablespaces lie beside the copy, and the links to them are relative.
Source of the exclusions: PostgreSQL's basebackup.c, excludeDirContents.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.errors import CaptureError
from agent.snapshot.files import (
    PRIVATE_FOLDER,
    Spent,
    copy_hashed,
    fsync_path,
    hash_file,
    make_folder,
    tree,
)
from agent.snapshot.manifest import (
    DATA,
    TABLESPACES,
    Contents,
    FileEntry,
    LinkEntry,
)
from agent.snapshot.pace import step_back

T = TypeVar("T")
R = TypeVar("R")

THREADS = 2
CONTROL = f"{DATA}/global/pg_control"
_EMPTIED_HOT = {
    "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots",
    "pg_stat_tmp", "pg_subtrans", "pg_wal",
}  # fmt: skip
_EMPTIED_COLD = {"pg_dynshmem", "pg_stat_tmp", "pg_wal"}
_LEFT_OUT_HOT = {
    "backup_label", "backup_label.old", "backup_manifest", "current_logfiles.tmp",
    "postgresql.auto.conf.tmp", "postmaster.opts", "postmaster.pid", "tablespace_map",
    "tablespace_map.old",
}  # fmt: skip
_LEFT_OUT_COLD = {"postmaster.pid"}


class OtherFailedError(Exception):
    """Another thread has failed, and its error is the one to tell."""


class VanishedError(Exception):
    """A file of a stopped server was gone when it was to be copied."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to copy."""

    path: str
    """Relative to the snapshot's folder."""
    source: Path
    size: int


@dataclass(slots=True)
class Plan:
    """What a full copy consists of, at the moment of looking."""

    items: list[Item] = field(default_factory=list)
    folders: list[tuple[str, int]] = field(default_factory=list)
    """Paths and modes, parents first."""
    links: list[LinkEntry] = field(default_factory=list)
    wal_link: str = ""
    """Where pg_wal leads, if it is a link."""
    owners: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """The bytes to copy."""
        return sum(item.size for item in self.items)


def make_plan(data_dir: Path, *, hot: bool) -> Plan:
    """Look at the data directory and its tablespaces. Raises CaptureError."""
    plan = Plan()
    home = data_dir.resolve()
    try:
        _add_folder(plan, DATA, home)
        _add_tree(plan, DATA, home, hot=hot)
        if (home / "pg_wal").is_symlink():
            plan.wal_link = str((home / "pg_wal").readlink())
        for link in plan.links:
            oid = Path(link.path).name
            location = (home / "pg_tblspc" / oid).resolve(strict=True)
            _add_folder(plan, f"{TABLESPACES}/{oid}", location)
            _add_tree(plan, f"{TABLESPACES}/{oid}", location, hot=hot)
    except OSError as error:
        raise CaptureError(
            f"the data directory cannot be read: {error.filename}: {error.strerror}",
            "run the agent as the owner of the data directory",
        ) from error
    plan.items.sort(key=lambda item: (item.path == CONTROL, -item.size))
    return plan


def _add_folder(plan: Plan, path: str, source: Path) -> None:
    found = source.stat()
    plan.folders.append((path, found.st_mode & 0o777))
    plan.owners[path] = (found.st_uid, found.st_gid)


def _add_tree(plan: Plan, prefix: str, root: Path, *, hot: bool) -> None:
    emptied = _EMPTIED_HOT if hot else _EMPTIED_COLD
    left_out = _LEFT_OUT_HOT if hot else _LEFT_OUT_COLD
    skipped: list[str] = []
    for relative, entry in tree(root):
        name = relative.rpartition("/")[2]
        if any(relative.startswith(folder) for folder in skipped):
            continue
        path = f"{prefix}/{relative}"
        if relative in left_out or name.startswith(("pgsql_tmp", "pg_internal.init")):
            skipped.append(relative + "/")
        elif relative in emptied:
            _add_folder(plan, path, Path(entry.path))
            skipped.append(relative + "/")
        elif entry.is_symlink():
            _add_link(plan, path, Path(entry.path))
        else:
            _add_entry(plan, path, entry)


def _add_entry(plan: Plan, path: str, entry: os.DirEntry[str]) -> None:
    try:
        if entry.is_dir(follow_symlinks=False):
            _add_folder(plan, path, Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            size = entry.stat(follow_symlinks=False).st_size
            plan.items.append(Item(path, Path(entry.path), size))
    except FileNotFoundError:
        return  # dropped while we looked; a stopped server has nothing that vanishes


def _add_link(plan: Plan, path: str, link: Path) -> None:
    """Take a link for what it leads to: a tablespace, a file, a folder of logs."""
    if Path(path).parent.name == "pg_tblspc" and link.name.isdigit():
        target = f"../../{TABLESPACES}/{link.name}"
        plan.links.append(LinkEntry(path, target, str(link.readlink())))
    elif link.is_file():
        plan.items.append(Item(path, link, link.stat().st_size))
    elif link.is_dir():
        # A folder elsewhere, such as one of logs: the server needs it to be there.
        _add_folder(plan, path, link)


class Copier:
    """Carries out one plan below `root`."""

    def __init__(
        self,
        plan: Plan,
        root: Path,
        spent: Spent,
        crash: Callable[[str], None],
        *,
        hot: bool,
    ) -> None:
        self._plan = plan
        self._root = root
        self._spent = spent
        self._crash = crash
        self._hot = hot
        self._failed = threading.Event()

    def copy(self) -> Contents:
        """Copy everything but pg_control, then pg_control; nothing is fsynced yet.

        Raises CaptureError, VanishedError, and what `spent` raises.
        """
        self._make_folders()
        last = [item for item in self._plan.items if item.path == CONTROL]
        rest = [item for item in self._plan.items if item.path != CONTROL]
        entries = [*self._each(self._copy_one, rest), *map(self._copy_one, last)]
        for link in self._plan.links:
            (self._root / link.path).symlink_to(link.target)
        return Contents(
            tuple(entry for entry in entries if entry is not None),
            tuple(path for path, _ in self._plan.folders),
            tuple(self._plan.links),
        )

    def settle(self, contents: Contents) -> None:
        """Force all of it to disk, then read it back and compare.

        Raises CaptureError, OSError, and what `spent` raises.
        """
        self._each(self._settle_one, contents.files)
        for path in contents.folders:
            fsync_path(self._root / path)
        self._each(self._read_back, contents.files)

    def _make_folders(self) -> None:
        for path, mode in self._plan.folders:
            folder = self._root / path
            make_folder(folder.parent)
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            folder.chmod(mode | PRIVATE_FOLDER)
            if os.geteuid() == 0:
                os.chown(folder, *self._plan.owners[path])

    def _each(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Do the work for each item in THREADS threads; the first error ends all."""

        def guarded(item: T) -> R:
            try:
                return work(item)
            except BaseException:
                self._failed.set()
                raise

        # A stopped server has nobody to give way to, and somebody waits for its copy.
        begin = step_back if self._hot else None
        with ThreadPoolExecutor(THREADS, "splitguard-copy", begin) as pool:
            futures = [pool.submit(guarded, item) for item in items]
        failures = [
            failure for future in futures if (failure := future.exception()) is not None
        ]
        for failure in failures:
            if not isinstance(failure, OtherFailedError):
                raise failure
        return [future.result() for future in futures]

    def _copy_one(self, item: Item) -> FileEntry | None:
        self._crash("during-copy")
        try:
            copied = copy_hashed(item.source, self._root / item.path, self._watch)
        except FileNotFoundError as error:
            if self._hot:
                return None
            raise VanishedError(item.path) from error
        except OSError as error:
            raise CaptureError(
                f"{item.source} cannot be copied: {error.strerror}"
            ) from error
        return FileEntry(item.path, copied.size, copied.sha256, copied.mode)

    def _settle_one(self, entry: FileEntry) -> None:
        self._watch(0)
        fsync_path(self._root / entry.path)

    def _read_back(self, entry: FileEntry) -> None:
        path = self._root / entry.path
        if hash_file(path, self._watch, from_disk=True) != entry.sha256:
            raise CaptureError(
                f"{path} does not read back as it was written",
                "the volume of the capture folder is not to be trusted",
            )

    def _watch(self, size: int) -> None:
        if self._failed.is_set():
            raise OtherFailedError
        self._spent(size)
