"""The rounds in the journal's file: a ring of chunks, bounded in bytes.

Theory of operation. Chunks are rows with rising numbers; a new one is followed by the
removal of as many of the oldest as are beyond the limit. SQLite uses the freed pages
again, so the file does not grow. A chunk is written in a transaction of its own: when
there is no room for it, the ledger's next commit is none the worse. A file can also be
read while its agent is dead: then it is copied first, with what SQLite has not folded
into it yet, so that nothing beside it is written or changed.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from agent.errors import JournalError
from agent.ports import Chunk
from agent.store import opening, rounds, schema

T = TypeVar("T")

ROUNDS_SINCE = 2
"""The journal's format that first had rounds."""
_COLUMNS = "seq, starts, from_wall_s, to_wall_s, lines, body"


def put(db: sqlite3.Connection, chunk: Chunk) -> None:
    """Write a chunk and remove the oldest beyond the limit."""
    db.execute(
        "INSERT INTO rounds (starts, from_wall_s, to_wall_s, lines, size, body)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            chunk.starts,
            chunk.from_wall_s,
            chunk.to_wall_s,
            chunk.lines,
            len(chunk.body),
            chunk.body,
        ),
    )
    (kept,) = db.execute("SELECT sum(size) FROM rounds").fetchone()
    surplus = kept - rounds.LIMIT_BYTES
    while surplus > 0:
        seq, size = db.execute(
            "SELECT seq, size FROM rounds ORDER BY seq LIMIT 1"
        ).fetchone()
        db.execute("DELETE FROM rounds WHERE seq = ?", (seq,))
        surplus -= size


def get(db: sqlite3.Connection, after: int) -> Chunk | None:
    """Return the chunk that follows number `after`."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM rounds WHERE seq > ? ORDER BY seq LIMIT 1",  # noqa: S608 - a constant
        (after,),
    ).fetchone()
    return None if row is None else Chunk(row[0], bool(row[1]), *row[2:])


def begin(db: sqlite3.Connection, wall_s: float) -> int:
    """Return the number after which to read so that all since `wall_s` is there."""
    (early,) = db.execute(
        "SELECT max(seq) FROM rounds WHERE starts = 1 AND from_wall_s <= ?", (wall_s,)
    ).fetchone()
    if early is None:
        (early,) = db.execute("SELECT min(seq) FROM rounds WHERE starts = 1").fetchone()
    return (1 if early is None else int(early)) - 1


class RoundsFile:
    """Implements ports.Rounds for reading, over a journal that is not one's own."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def record(self, chunk: Chunk) -> None:
        """Raise JournalError: this journal is another one's."""
        del chunk
        raise JournalError(f"{self._path}: is only read", "the agent writes it")

    def recorded(self, after: int) -> Chunk | None:
        """Return the chunk that follows number `after`; None when there is none."""
        return self._asked(lambda: get(self._db, after))

    def recorded_from(self, wall_s: float) -> int:
        """Return the number after which to read so that all since then is there."""
        return self._asked(lambda: begin(self._db, wall_s))

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except sqlite3.Error as error:
            raise opening.named(error, self._path) from error


@contextmanager
def reading(path: Path) -> Iterator[RoundsFile]:
    """Open the journal at `path`, whose agent may be dead, and leave it as it is.

    Raises JournalError with what to do.
    """
    try:
        with path.open("rb"):
            pass
        alive = _is_held(path)
    except OSError as error:
        raise JournalError(
            f"{path}: {error.strerror or error}",
            "run this as the agent's user or as root, on the agent's machine",
        ) from error
    with tempfile.TemporaryDirectory(prefix="splitguard-") as folder:
        file = path if alive else _copied(path, Path(folder))
        try:
            db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise opening.named(error, path) from error
        with closing(db):
            _check(db, path)
            yield RoundsFile(db, path)


def _is_held(path: Path) -> bool:
    """Whether an agent has the journal open."""
    lock = path.with_name(path.name + ".lock")
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _copied(path: Path, folder: Path) -> Path:
    """Copy the journal of a dead agent, with what SQLite holds beside it."""
    copy = folder / opening.JOURNAL_FILE
    try:
        shutil.copyfile(path, copy)
        beside = path.with_name(path.name + "-wal")
        if beside.exists():
            shutil.copyfile(beside, folder / f"{opening.JOURNAL_FILE}-wal")
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be copied to be read: {error.strerror or error}",
            "make room in the folder for temporary files, or set TMPDIR to another one",
        ) from error
    return copy


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError unless this version knows what is in the file."""
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise opening.named(error, path) from error
    if version > len(schema.MIGRATIONS):
        raise JournalError(
            f"{path}: the journal has format {version}, this splitguard knows"
            f" {len(schema.MIGRATIONS)}",
            "run the newer splitguard",
        )
    if version < ROUNDS_SINCE:
        raise JournalError(
            f"{path}: was written by an older splitguard, which kept no rounds",
            "start the agent with this version; it keeps them from then on",
        )
