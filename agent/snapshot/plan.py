"""What belongs to a full copy: every file, folder and link, seen at one moment.

Theory of operation. Of a running server what pg_basebackup leaves out is left out
here too; of a stopped one everything is taken but what says that a server runs.
Tablespaces lie beside the copy, and the links to them are made relative.
Source of the exclusions: PostgreSQL's basebackup.c, excludeDirContents.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import CaptureError
from agent.snapshot.files import tree
from agent.snapshot.manifest import DATA, TABLESPACES, LinkEntry
from agent.snapshot.sharing import Sample

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
