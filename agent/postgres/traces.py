"""What changes in a data directory when it is cloned, restored or rewound.

Theory of operation. A clone writes PG_VERSION anew, in a folder of its own. pg_rewind
writes a backup label when all files were copied, and a base backup brings one along
(createBackupLabel in pg_rewind, do_pg_backup_stop in the server); the server renames it
when it starts, which changes neither inode nor time. A promotion writes a history file
and, where the server archives, a mark for the archiver. A standby that restores from an
archive writes the history file anew at each start, and leaves the mark as it is.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from agent.core.lsn import Lsn
from agent.core.prints import START, Beginning, Label, Marks
from agent.postgres import history
from agent.postgres.control import ControlData

_NEW, _USED = "backup_label", "backup_label.old"
_LABEL_BYTES = 4096
_BEGINS = re.compile(
    rb"^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) ", re.MULTILINE
)
_METHOD = re.compile(rb"^BACKUP METHOD: (\S+)", re.MULTILINE)
_REWIND, _EXCLUSIVE = b"pg_rewind", b"pg_start_backup"


def marks(
    data_dir: Path, wal_dir: Path, control: ControlData, timelines: Iterable[int]
) -> Marks:
    """Return the marks of a data directory whose lineage has these timelines.

    The first one of all, 1, has no beginning. Raises OSError.
    """
    version = _trace(data_dir / "PG_VERSION")
    labels = (_label(data_dir / name) for name in (_NEW, _USED))
    return Marks(
        folder=f"{data_dir.stat().st_ino:x}/{version}",
        labels=tuple(one for one in labels if one is not None),
        beginnings=tuple(_beginning(wal_dir, timeline) for timeline in timelines),
        checkpoint_lsn=control.checkpoint_lsn,
        redo_lsn=control.redo_lsn,
    )


def _beginning(wal_dir: Path, timeline: int) -> Beginning:
    name = history.file_name(timeline)
    status = wal_dir / "archive_status" / name
    paths = (wal_dir / name, status.with_suffix(".history.ready"),
             status.with_suffix(".history.done"))  # fmt: skip
    found = [_trace(path) for path in paths]
    return Beginning(timeline, tuple(sorted({one for one in found if one})))


def _label(path: Path) -> Label | None:
    mark = _trace(path)
    return Label(mark, _undone_from(path)) if mark else None


def _undone_from(path: Path) -> Lsn | None:
    """Return from where on what had been there was undone; None where nothing was.

    An exclusive backup leaves its label in the very server that it is taken of, under
    the first name, until it ends; versions before 15 know it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LABEL_BYTES)
    except OSError:
        return None
    method, begins = _METHOD.search(text), _BEGINS.search(text)
    if method is None or begins is None:
        return None
    if method[1] == _REWIND:
        return Lsn.parse(begins[1].decode("ascii"))
    return None if method[1] == _EXCLUSIVE and path.name == _NEW else START


def _trace(path: Path) -> str:
    """Return what changes when a file is written anew; empty when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}"
