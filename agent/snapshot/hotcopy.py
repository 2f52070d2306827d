"""The full copy of a running server, by the first method that goes.

Theory of operation. First the program that freezes its file systems, if one is
configured: see `frozencopy`. Then, where the capture folder is on a file system that
shares blocks with the server's, all files are shared within moments; they are read, and
hashed, from the copy. Else they are read and written. Either way the server is told
by pg_backup_start and pg_backup_stop, and the copy is recovered by its label and the
WAL of the tail. Why an earlier method was not taken is noted in the copy.
"""

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.errors import CaptureError, NoRoomError, PostgresError
from agent.snapshot.attempt import Attempt, RestartError
from agent.snapshot.backup import Ended
from agent.snapshot.copying import How, VanishedError
from agent.snapshot.files import PRIVATE_FILE, hash_file, write_atomically
from agent.snapshot.frozencopy import copy_frozen
from agent.snapshot.manifest import DATA, Contents, FileEntry
from agent.snapshot.plan import make_plan
from agent.snapshot.record import HOT, HOT_SHARED, FullCopy
from agent.snapshot.server import LocalServer
from agent.snapshot.sharing import why_not

log = logging.getLogger(__name__)

REFUSED_MAX = 50
"""Questions that a running server may refuse, SETTLE_S apart."""
SETTLE_S = 0.2


def copy_hot(attempt: Attempt) -> FullCopy:
    """Copy a running server.

    Raises RestartError, StoppedError, CaptureError, PostgresError, OSError.
    """
    note = ""
    if attempt.source.snapshot_program is not None:
        try:
            return copy_frozen(attempt, add_label)
        except NoRoomError:
            raise
        except (CaptureError, VanishedError, OSError) as error:
            attempt.check_stopped()
            note = f"capture.exec gave nothing: {_reason(error)}"
            log.warning("%s: %s", attempt.record.order.capture_id, note)
            attempt.clear()
    dsn = attempt.source.find_dsn()
    if dsn is None:
        raise CaptureError(
            "a running server cannot be copied without local.dsn"
            + (f"; {note}" if note else ""),
            "set local.dsn, or stop the server for a cold copy",
        )
    return _copy(attempt, dsn, note)


def _copy(attempt: Attempt, dsn: str, note: str) -> FullCopy:
    data_dir = attempt.source.data_dir
    plan = make_plan(data_dir, hot=True)
    unshared = why_not(plan.samples, attempt.partial)
    how = How(gentle=True, still=False, shared=not unshared)
    attempt.begin(plan, shared=how.shared)
    _wait_for_sql(attempt)
    with attempt.backup(dsn) as (session, begun):
        plan = make_plan(data_dir, hot=True)
        contents = attempt.copy(plan, how)
        ended = session.end()
    contents = attempt.settle(add_label(attempt, contents, ended))
    notes = [note, f"no blocks are shared: {unshared}" if unshared else ""]
    return FullCopy(
        contents,
        HOT_SHARED if how.shared else HOT,
        begun.start_lsn,
        ended.stop_lsn,
        ended.timeline,
        has_backup_label=True,
        wal_link=plan.wal_link,
        note="; ".join(filter(None, notes)),
    )


def add_label(attempt: Attempt, contents: Contents, ended: Ended) -> Contents:
    """Put the label that the server gave into the copy. Raises OSError."""
    label = attempt.partial / DATA / "backup_label"
    write_atomically(label, ended.label)
    entry = FileEntry(
        f"{DATA}/backup_label", len(ended.label), hash_file(label), PRIVATE_FILE
    )
    _own_like(label, attempt.partial / DATA)
    return replace(contents, files=(*contents.files, entry))


def _wait_for_sql(attempt: Attempt) -> None:
    """Return once the server answers; its backends may just be starting again.

    Raises RestartError when it is gone, PostgresError when it goes on refusing.
    """
    source = attempt.source
    server = LocalServer(source.data_dir, source.find_dsn)
    refused = PostgresError("the server did not answer")
    for _ in range(REFUSED_MAX):
        try:
            if server.position() is not None:
                server.close()
                return
        except PostgresError as error:
            refused = error
        if not server.runs():
            raise RestartError("the server was stopped")
        attempt.wait(SETTLE_S)
    server.close()
    raise refused


def _own_like(path: Path, folder: Path) -> None:
    """Give a file to the owner of the folder, where only root can."""
    found = folder.stat()
    with suppress(PermissionError):
        path.chmod(PRIVATE_FILE)
        os.chown(path, found.st_uid, found.st_gid)


def _reason(error: Exception) -> str:
    if isinstance(error, CaptureError):
        return error.message
    if isinstance(error, VanishedError):
        return f"{error} was gone"
    return f"{getattr(error, 'filename', '') or 'the disk'}: {error}"
