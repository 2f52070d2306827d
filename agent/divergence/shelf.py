"""Where the losing side's rows lie: the folder `loss` inside the snapshot's own.

Theory of operation. What belongs to a snapshot lies in its folder and goes when that
goes; the manifest does not name it, so that it may come later, and an archive leaves it
out: it can be made again from what the archive holds. The folder is made anew beside
the old one and takes its place when it is whole, so what rests on an extraction never
loses it to one that fails. A file is good when it has the size and the hash that the
record says. Who reads here never trusts a path: what leads elsewhere is refused.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent import codec
from agent.divergence import kept
from agent.divergence.extracted import FORMAT, Extraction, TableRows
from agent.divergence.rowfiles import read_back
from agent.errors import SnapshotError
from agent.snapshot.files import (
    PRIVATE_FOLDER,
    clone_file,
    clone_tree,
    fsync_path,
    remove_tree,
    write_atomically,
)

FOLDER = "loss"
EXTRACTION = "extraction.json"
ROWS = "rows"
DIFFERENCES = "differences"
RECORD = ("rescues.jsonl", "rescues")
"""What rescues left: who ordered them, and what they refused and renumbered."""
_NEW, _OLD = FOLDER + ".new", FOLDER + ".old"
_FILE = re.compile(rf"{ROWS}/[0-9]+-[0-9]+\.jsonl\.zst")
_AGAIN = "have the rows extracted again from the snapshot"


def folder_of(snapshot: Path) -> Path:
    """Return where a snapshot's rows lie, or would lie."""
    return snapshot / FOLDER


def rows_name(database_oid: int, table_oid: int) -> str:
    """Return the file of a table's rows, below the folder."""
    return f"{ROWS}/{database_oid}-{table_oid}.jsonl.zst"


def differences_name(database_oid: int, table_oid: int) -> str:
    """Return the file of a table's differences, below the folder."""
    return f"{DIFFERENCES}/{database_oid}-{table_oid}.jsonl.zst"


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, who is its parent's, also where root writes.

    Nothing happens when it is there. Raises OSError.
    """
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    own(path)
    fsync_path(path.parent)


def own(path: Path) -> None:
    """Give to the folder's owner what root has made in it. Raises OSError."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def alone(snapshot: Path) -> Iterator[None]:
    """Hold the snapshot for whoever writes into its folder of rows.

    Two that read out, or compare, at one time would take each other's files away. The
    lock ends with its process. Raises SnapshotError when somebody else holds it.
    """
    try:
        handle = os.open(snapshot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SnapshotError(f"{snapshot} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise SnapshotError(
            f"the rows of snapshot {snapshot.name} are being read out or compared by"
            " another process",
            "wait for it, and ask again: what it finds is kept",
        ) from error
    except OSError:
        # A file system without locks: the agent alone works there.
        pass
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def renewed(snapshot: Path) -> Iterator[Path]:
    """Give an empty folder to extract into; it becomes the snapshot's at the end.

    After an error nothing has changed. Raises SnapshotError when it cannot be written.
    """
    mend(snapshot)
    made, now, old = snapshot / _NEW, snapshot / FOLDER, snapshot / _OLD
    try:
        make_folder(made)
        make_folder(made / ROWS)
        try:
            yield made
            _keep_record(now, made)
            if now.exists():
                now.rename(old)
            made.rename(now)
            fsync_path(snapshot)
        finally:
            remove_tree(made)
        remove_tree(old)
    except OSError as error:
        raise SnapshotError(
            f"the rows cannot be kept in {snapshot}: {error.filename or ''}"
            f" {error.strerror}",
            "make room, or run this as the user that the agent runs as",
        ) from error


def _keep_record(now: Path, made: Path) -> None:
    """Copy what tells of rescues: they were, whatever is read out again."""
    for name in RECORD:
        source, target = now / name, made / name
        if source.is_dir():
            clone_tree(source, target)
        elif source.exists():
            clone_file(source, target)


def mend(snapshot: Path) -> None:
    """Finish, or undo, what a killed process left. Raises SnapshotError."""
    made, now, old = snapshot / _NEW, snapshot / FOLDER, snapshot / _OLD
    try:
        if not now.exists() and old.exists():
            old.rename(now)
        remove_tree(old)
        remove_tree(made)
    except OSError as error:
        raise SnapshotError(
            f"what was left in {snapshot} cannot be removed: {error.strerror}",
            "run this as the user that the agent runs as",
        ) from error


def write_extraction(folder: Path, extraction: Extraction) -> None:
    """Put the record into the folder, atomically and durably. Raises OSError."""
    path = folder / EXTRACTION
    write_atomically(path, codec.to_json(extraction).encode("ascii"))
    own(path)


def read_extraction(folder: Path) -> Extraction | None:
    """Return the record of a folder; None where nothing was extracted yet.

    Raises SnapshotError when it is not what we wrote.
    """
    path = folder / EXTRACTION
    extraction = kept.read(path, Extraction, FORMAT, _AGAIN)
    if extraction is None:
        return None
    for table in _tables(extraction):
        if _FILE.fullmatch(table.file) is None:
            raise SnapshotError(f"{path} names a foreign file: {table.file!r:.200}")
    return extraction


def problems(folder: Path, extraction: Extraction) -> tuple[str, ...]:
    """Read every file of rows; return what is not as the record says, a sentence each.

    Empty when all is well.
    """
    found = []
    for table in _tables(extraction):
        try:
            written = read_back(folder / table.file)
        except SnapshotError as error:
            found.append(error.message)
            continue
        if written != table.written:
            found.append(f"{table.file} is not what was written: it was changed")
    return tuple(found)


def _tables(extraction: Extraction) -> Iterator[TableRows]:
    for database in extraction.databases:
        yield from database.tables
