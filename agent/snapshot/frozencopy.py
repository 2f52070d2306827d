"""The full copy from frozen file systems: frozen in a moment, copied at leisure.

Theory of operation. The server is told that its files are copied, `capture.exec`
freezes them, the server is told that this is over: from then on it may be promoted,
stopped or wiped, the copy goes on. So the frozen state needs no common instant, and
is recovered by its label. A server that cannot be asked (it hangs, it refuses, nobody
granted) is frozen without; then it must be one instant's state, and opens as after a
crash, with the WAL that the tail has up to then. The snapshot is removed as soon as its
files are copied, before they are read back.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core.lsn import Lsn
from agent.errors import CaptureError, PostgresError
from agent.postgres import wal
from agent.postgres.control import read_control
from agent.snapshot.attempt import Attempt, RestartError
from agent.snapshot.backup import Ended
from agent.snapshot.copying import How
from agent.snapshot.frozen import Frozen, accept, folders_of
from agent.snapshot.manifest import Contents
from agent.snapshot.plan import Plan, make_plan
from agent.snapshot.program import MARK, ProgramError, SnapshotProgram
from agent.snapshot.record import FROZEN, FullCopy
from agent.snapshot.server import LocalServer
from agent.snapshot.sharing import why_not

log = logging.getLogger(__name__)

AddLabel = Callable[[Attempt, Contents, Ended], Contents]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A frozen state, and what its copy needs to be recovered."""

    frozen: Frozen
    copy_lsn: Lsn
    needed_lsn: Lsn
    timeline: int
    ended: Ended | None
    """None where the server was not told: then it opens as after a crash."""


def copy_frozen(attempt: Attempt, add_label: AddLabel) -> FullCopy:
    """Copy a running server from what `capture.exec` froze.

    Raises ProgramError and CaptureError when another method is to be tried;
    NoRoomError, RestartError, StoppedError.
    """
    named = attempt.source.snapshot_program
    if named is None:
        raise ProgramError("no program is configured")
    program = SnapshotProgram(named, attempt.stopped, attempt.source.snapshot_timeout_s)
    data_dir = attempt.source.data_dir
    attempt.begin(make_plan(data_dir, hot=True))
    living = folders_of(data_dir)
    with _removed(attempt, program):
        taken = _take(attempt, program, living)
        plan, how = _plan(attempt, taken.frozen)
        contents = attempt.copy(plan, how)
    if taken.ended is not None:
        contents = add_label(attempt, contents, taken.ended)
    contents = attempt.settle(contents)
    told = "" if taken.ended else ", without asking the server, in one instant"
    return FullCopy(
        contents,
        FROZEN,
        taken.copy_lsn,
        taken.needed_lsn,
        taken.timeline,
        has_backup_label=taken.ended is not None,
        wal_link=plan.wal_link,
        note=f"frozen by {named}{told}",
    )


def _plan(attempt: Attempt, frozen: Frozen) -> tuple[Plan, How]:
    try:
        plan = make_plan(frozen.data_dir, hot=True, tablespaces=frozen.tablespaces)
    except CaptureError as error:
        raise ProgramError(f"in the snapshot {error.message}", error.hint) from error
    shared = not why_not(plan.samples, attempt.partial)
    return plan, How(gentle=True, still=True, shared=shared)


@contextmanager
def _removed(attempt: Attempt, program: SnapshotProgram) -> Iterator[None]:
    """See that no snapshot of ours is there before, or stays behind."""
    name, folder = attempt.record.order.capture_id, attempt.record.folder
    if (folder / MARK).exists():
        program.remove(name, folder)
    try:
        yield
    finally:
        try:
            program.remove(name, folder)
        except (ProgramError, OSError) as error:
            log.warning(
                "snapshot %s was not removed and takes up room: %s", name, error
            )


def _take(attempt: Attempt, program: SnapshotProgram, living: Sequence[Path]) -> _Taken:
    dsn = attempt.source.find_dsn()
    if dsn is not None and _answers(attempt):
        try:
            return _take_told(attempt, program, living, dsn)
        except PostgresError as error:
            log.warning("the server is frozen without being told: %s", error)
    return _take_untold(attempt, program, living)


def _take_told(
    attempt: Attempt, program: SnapshotProgram, living: Sequence[Path], dsn: str
) -> _Taken:
    record = attempt.record
    with attempt.backup(dsn) as (session, begun):
        places = program.create(record.order.capture_id, living, record.folder)
        frozen = accept(living, places, _system_id(attempt), begun.start_lsn)
        ended = session.end()
    return _Taken(frozen, begun.start_lsn, ended.stop_lsn, ended.timeline, ended)


def _take_untold(
    attempt: Attempt, program: SnapshotProgram, living: Sequence[Path]
) -> _Taken:
    record = attempt.record
    if record.start_lsn is None:
        raise RestartError("no WAL is kept yet")
    places = program.create(record.order.capture_id, living, record.folder)
    frozen = accept(living, places, _system_id(attempt), record.start_lsn)
    if frozen.doubt:
        raise ProgramError(
            "the server cannot be asked, so all of it has to be frozen in one instant,"
            f" and nothing shows that it was: {frozen.doubt}",
            "the program has to show one read-only file system with all of it",
        )
    control = frozen.control
    if control.shut_down:
        raise RestartError("the server was stopped")
    end = max(_end(attempt, frozen), control.min_recovery_lsn)
    return _Taken(frozen, control.redo_lsn, end, control.timeline, None)


def _end(attempt: Attempt, frozen: Frozen) -> Lsn:
    """Return a position that the frozen pages cannot be past: the end of WAL now."""
    source, control = attempt.source, frozen.control
    if source.programs is None:
        raise ProgramError(
            "the end of WAL cannot be found without PostgreSQL's programs",
            "set local.bin_dir to the folder that holds pg_waldump",
        )
    try:
        return wal.end_of_wal(
            source.programs,
            source.data_dir / "pg_wal",
            control.timeline,
            control.redo_lsn,
            control.wal_segment_bytes,
        )
    except PostgresError as error:
        raise ProgramError(
            f"the end of WAL cannot be found: {error.message}", error.hint
        ) from error


def _answers(attempt: Attempt) -> bool:
    server = LocalServer(attempt.source.data_dir, attempt.source.find_dsn)
    try:
        return server.position() is not None
    except PostgresError:
        return False
    finally:
        server.close()


def _system_id(attempt: Attempt) -> str:
    known = attempt.record.identity
    if known is not None:
        return known.system_id
    return read_control(attempt.source.data_dir).system_id
