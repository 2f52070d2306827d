"""The full copy: what belongs to it, copied or shared by threads, and read back.

Theory of operation. A plan lists every file of the data directory and of the
tablespaces, as seen at one moment. Of a running server what pg_basebackup leaves
out is left out here too; of a stopped one everything is taken but what says that a
server runs. pg_control goes last, because a copy of a standby needs it so. Every
file is hashed from the bytes that were read from the server, fsynced, and then
read back from the disk and hashed again: only then is the copy `captured`. A file
that shares the server's blocks (see `sharing`) is not read from the server at all:
its hash is that of what lies on the disk.
Tablespaces lie beside the copy, and the links to them are relative.
Source of the exclusions: PostgreSQL's basebackup.c, excludeDirContents.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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
from agent.snapshot.sharing import Sample, UnsharedError, share_file

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
    """A file that stands still was gone when it was to be copied."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to copy."""

    path: str
    """Relative to the snapshot's folder."""
    source: Path
    size: int
    device: int
    """The file system that it lies on, by its number."""


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

    @property
    def samples(self) -> Iterator[Sample]:
        """Files that hold something, to try on what their file systems can."""
        return (Sample(item.source, item.device) for item in self.items if item.size)


def make_plan(
    data_dir: Path, *, hot: bool, tablespaces: Mapping[str, Path] | None = None
) -> Plan:
    """Look at the data directory and its tablespaces. Raises CaptureError.

    `tablespaces`: where they are, by object id, if not where the links lead.
    """
    plan = Plan()
    home = data_dir.resolve()
    try:
        _add_folder(plan, DATA, home)
        _add_tree(plan, DATA, home, hot=hot)
        if (home / "pg_wal").is_symlink():
            plan.wal_link = str((home / "pg_wal").readlink())
        for link in plan.links:
            oid = Path(link.path).name
            location = (tablespaces or {}).get(oid)
            if location is None:
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
            # A link in a snapshot of the server may lead nowhere.
            source = Path(entry.path) if entry.is_dir() else root
            _add_folder(plan, path, source)
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
            found = entry.stat(follow_symlinks=False)
            item = Item(path, Path(entry.path), found.st_size, found.st_dev)
            plan.items.append(item)
    except FileNotFoundError:
        return  # dropped while we looked; a stopped server has nothing that vanishes


def _add_link(plan: Plan, path: str, link: Path) -> None:
    """Take a link for what it leads to: a tablespace, a file, a folder of logs."""
    if Path(path).parent.name == "pg_tblspc" and link.name.isdigit():
        target = f"../../{TABLESPACES}/{link.name}"
        plan.links.append(LinkEntry(path, target, str(link.readlink())))
    elif link.is_file():
        found = link.stat()
        plan.items.append(Item(path, link, found.st_size, found.st_dev))
    elif link.is_dir():
        # A folder elsewhere, such as one of logs: the server needs it to be there.
        _add_folder(plan, path, link)


@dataclass(frozen=True, slots=True)
class How:
    """In which way a plan is carried out."""

    gentle: bool
    """A server runs on the same machine and comes first."""
    still: bool
    """Nothing changes there: a file that is gone is an error, and not one dropped."""
    shared: bool = False
    """Files are to share blocks with their sources, where they can."""


class Copier:
    """Carries out one plan below `root`."""

    def __init__(
        self,
        plan: Plan,
        root: Path,
        spent: Spent,
        crash: Callable[[str], None],
        how: How,
    ) -> None:
        self._plan = plan
        self._root = root
        self._spent = spent
        self._crash = crash
        self._how = how
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

    def settle(self, contents: Contents) -> Contents:
        """Force all of it to disk, then read it back; return it with every hash.

        Raises CaptureError, OSError, and what `spent` raises.
        """
        self._each(self._settle_one, contents.files)
        for path in contents.folders:
            fsync_path(self._root / path)
        entries = self._each(self._read_back, contents.files)
        return replace(contents, files=tuple(entries))

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
        begin = step_back if self._how.gentle else None
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
            return self._make(item)
        except FileNotFoundError as error:
            if not self._how.still:
                return None
            raise VanishedError(item.path) from error
        except OSError as error:
            raise CaptureError(
                f"{item.source} cannot be copied: {error.strerror}"
            ) from error

    def _make(self, item: Item) -> FileEntry:
        target = self._root / item.path
        if self._how.shared:
            self._watch(0)
            try:
                shared = share_file(item.source, target)
            except UnsharedError:
                pass  # this one only: another file system, or other attributes
            else:
                return FileEntry(item.path, shared.size, None, shared.mode)
        copied = copy_hashed(item.source, target, self._watch)
        return FileEntry(item.path, copied.size, copied.sha256, copied.mode)

    def _settle_one(self, entry: FileEntry) -> None:
        self._watch(0)
        fsync_path(self._root / entry.path)

    def _read_back(self, entry: FileEntry) -> FileEntry:
        path = self._root / entry.path
        found = hash_file(path, self._watch, from_disk=True)
        if entry.sha256 is None:  # it was not read before: it shares the blocks
            return replace(entry, sha256=found)
        if found != entry.sha256:
            raise CaptureError(
                f"{path} does not read back as it was written",
                "the volume of the capture folder is not to be trusted",
            )
        return entry

    def _watch(self, size: int) -> None:
        if self._failed.is_set():
            raise OtherFailedError
        self._spent(size)
