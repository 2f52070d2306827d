"""Opens the journal's file and makes sure that it can be read and written.

Theory of operation. One process at a time: a lock on a file beside the journal is
held as long as it is open, because two agents with one memory would each undo the
other's. One writing connection, as SQLite's write-ahead log has a bug with more
(3.7.0 to 3.51.2). `synchronous=FULL` makes a commit outlive a power cut. Pages
are checked once at the start, and one row is written, so that a damaged, read-only
or full medium is named before anything depends on it.
"""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from agent.errors import JournalError, JournalFullError
from agent.store import schema

JOURNAL_FILE = "journal.sqlite"
"""The journal's name in the state directory."""
BUSY_S = 5.0
"""How long a reader elsewhere (a backup) may hold us up."""


def lock(path: Path) -> int:
    """Take the lock beside `path`; return its file descriptor.

    Raises JournalError when the folder cannot be used or another agent holds it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = path.with_name(path.name + ".lock")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise named(error, path) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise JournalError(
            f"{path}: another agent has this journal open",
            "stop it, or give this agent a state_dir of its own",
        ) from error
    return handle


def connect(path: Path) -> sqlite3.Connection:
    """Open and check the file, and bring it to this version's tables.

    Raises JournalError with what to do.
    """
    try:
        # SQLite gives its side files the mode of the file itself.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise named(error, path) from error
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
    except JournalError as error:
        connection.close()
        raise JournalError(f"{path}: {error.message}", error.hint) from error
    except sqlite3.Error as error:
        connection.close()
        raise named(error, path) from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    checked = connection.execute("PRAGMA quick_check(1)").fetchone()
    if checked is None or checked[0] != "ok":
        raise JournalError("the journal is damaged", _MOVE_AWAY)
    schema.migrate(connection)
    # Takes the write lock and writes a page: read-only and full show themselves.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO flips (wall_s, incident_id, revision, status, body)"
        " VALUES (0, '', 0, '', '')"
    )
    connection.execute("DELETE FROM flips WHERE incident_id = ''")
    connection.execute("COMMIT")


_MOVE_AWAY = (
    "move it away with its -wal and -shm files; the agent begins a new one and"
    " learns the present state anew"
)

_HINTS = {
    "SQLITE_FULL": "make room on the file system of state_dir",
    "SQLITE_READONLY": "make state_dir writable for the agent's user",
    "SQLITE_CANTOPEN": "give the agent's user a state_dir that it can write",
    "SQLITE_NOTADB": _MOVE_AWAY,
    "SQLITE_CORRUPT": _MOVE_AWAY,
    "SQLITE_IOERR": "check the disk under state_dir and the kernel's log",
    "SQLITE_BUSY": "stop the other program that writes to the journal",
}

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ERRNO_HINTS = {
    errno.EDQUOT: "make room for the agent's user on the file system of state_dir",
    errno.ENOSPC: "make room on the file system of state_dir",
    errno.EROFS: "the file system of state_dir is read-only: remount it writable",
    errno.EACCES: "make state_dir belong to the agent's user, mode 0700",
    errno.EPERM: "make state_dir belong to the agent's user, mode 0700",
    errno.ENOTDIR: "state_dir must be a folder",
    errno.EEXIST: "state_dir must be a folder",
    errno.EISDIR: "there is a folder in the journal's place: move it away",
}


def named(error: Exception, path: Path) -> JournalError:
    """Return the error with the file's name and what to do."""
    if isinstance(error, OSError):
        hint = _ERRNO_HINTS.get(error.errno or 0, "see that state_dir can be written")
        kind = JournalFullError if error.errno in _FULL else JournalError
        return kind(f"{path}: {error.strerror or error}", hint)
    code = getattr(error, "sqlite_errorname", "") or ""
    base = "_".join(code.split("_")[:2])
    hint = _HINTS.get(base, "see that state_dir can be written")
    kind = JournalFullError if base == "SQLITE_FULL" else JournalError
    return kind(f"{path}: {error}", hint)
