"""The full copy of a server that stands still.

Theory of operation. No postmaster comes, nobody rewinds it, and pg_control stays as it
was, from the first file to the last: then the files belong together. Where the file
system can share blocks that takes a moment, and the server may be started while the
copy is read back. The end of its WAL is what the tail has found.
"""

from agent.core.lsn import Lsn
from agent.errors import CaptureError
from agent.postgres.control import ControlData, read_control
from agent.postgres.postmaster import orphans, running
from agent.snapshot.attempt import Attempt, RestartError
from agent.snapshot.copying import How, VanishedError
from agent.snapshot.pin import being_rewritten
from agent.snapshot.plan import make_plan
from agent.snapshot.record import COLD, COLD_SHARED, FullCopy
from agent.snapshot.sharing import why_not

TAIL_S = 120.0
"""How long a finished copy waits for its WAL."""


def copy_cold(attempt: Attempt) -> FullCopy:
    """Copy a stopped server.

    Raises RestartError, StoppedError, CaptureError, PostgresError, OSError.
    """
    data_dir = attempt.source.data_dir
    before = _standing(attempt)
    attempt.basis = data_dir
    plan = make_plan(data_dir, hot=False)
    unshared = why_not(plan.samples, attempt.partial)
    how = How(gentle=False, still=True, shared=not unshared)
    attempt.begin(plan, shared=how.shared)
    try:
        contents = attempt.copy(plan, how)
    except VanishedError as error:
        raise RestartError(f"{error} vanished") from error
    if _standing(attempt) != before:
        raise RestartError("the stopped server was started")
    attempt.basis = None
    contents = attempt.settle(contents)
    return FullCopy(
        contents,
        COLD_SHARED if how.shared else COLD,
        before.redo_lsn,
        _settled_end(attempt),
        before.timeline,
        has_backup_label=False,
        wal_link=plan.wal_link,
        note=f"no blocks are shared: {unshared}" if unshared else "",
    )


def _standing(attempt: Attempt) -> ControlData:
    """Return pg_control of the server, which must be stopped."""
    data_dir = attempt.source.data_dir
    if running(data_dir) is not None:
        raise RestartError("the stopped server was started")
    if orphans(data_dir):
        raise RestartError("processes of the killed server are still there")
    if being_rewritten(data_dir):
        raise CaptureError(
            "a rewind or a clone is at work in the data directory, or was left undone"
        )
    return read_control(data_dir)


def _settled_end(attempt: Attempt) -> Lsn:
    """Return the end of the stopped server's WAL, once the tail has all of it."""
    record = attempt.record
    with record.lock:
        if not record.lock.wait_for(
            lambda: record.settled_lsn is not None or attempt.stopped.is_set(),
            TAIL_S,
        ):
            raise RestartError("its WAL did not come to an end")
        attempt.check_stopped()
        if record.settled_lsn is None:
            raise RestartError("the stopped server was started")
        return record.settled_lsn
