"""That nobody else works in a data directory that is about to be changed.

Theory of operation. Two runs would undo each other's work, so a run holds a lock on a
file beside its note until it ends, however it ends. What a killed run has started is
not ended with it: a pg_basebackup or a pg_rewind that names the folder shows in the
list of processes. A server that somebody has started again is known by its pid file,
or, when that was removed, by the folder that its processes work in. All of this is
looked at right before each change, because hours may lie between decision and change.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import GuardError
from agent.guard.processes import processes
from agent.guard.resync_job import Seconds
from agent.postgres.owner import Owner, acting_as
from agent.postgres.postmaster import orphans, running

LOCK = "lock"
_COPIERS = frozenset({"pg_basebackup", "pg_rewind"})
_NAME_WORDS = 3
"""A script's name is at most the third word: interpreter, option, script."""
_FOLDER_OPTIONS = ("--pgdata=", "--target-pgdata=", "-D")
_TRIAL_OPTIONS = frozenset({"--dry-run", "-n"})
ENDING_S = 10.0
"""A process that was told to end, or whose parent ended, gets so long."""
_PAUSE_S = 0.1
_ROOT = Path("/")


@contextmanager
def alone(folder: Path, owner: Owner) -> Iterator[None]:
    """Hold the lock in the folder of the notes, which is made if need be.

    Raises GuardError when another run has it.
    """
    with acting_as(owner):
        number = _opened(folder / LOCK)
    try:
        _hold(number, folder / LOCK)
        yield
    finally:
        os.close(number)


def _opened(place: Path) -> int:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(place, flags, 0o600)
    except OSError as error:
        raise GuardError(
            f"{place} cannot be opened: {error.strerror}",
            "run this as root, or as the owner of the data directory, with room in"
            " state_dir",
        ) from error


def _hold(number: int, place: Path) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise GuardError(
            "another `splitguard resync` is at work here", "wait for it, or end it"
        ) from error
    except OSError as error:
        raise GuardError(
            f"{place} cannot be locked: {error.strerror}",
            "put state_dir on a file system that knows locks",
        ) from error


def copiers(data_dir: Path, root: Path = _ROOT) -> tuple[int, ...]:
    """Return the processes that copy into a data directory, or rewind it."""
    places = {os.path.normpath(data_dir), str(data_dir.resolve())}
    return tuple(
        pid
        for pid, words in processes(root)
        if any(Path(word).name in _COPIERS for word in words[:_NAME_WORDS])
        and _TRIAL_OPTIONS.isdisjoint(words)
        and any(_folder(word) in places for word in words)
    )


def _folder(word: str) -> str:
    for option in _FOLDER_OPTIONS:
        word = word.removeprefix(option)
    return os.path.normpath(word)


def refuse_copiers(data_dir: Path, root: Path = _ROOT) -> None:
    """Raise GuardError while something copies into the folder."""
    for pid in copiers(data_dir, root):
        raise GuardError(
            f"process {pid} still copies into {data_dir}: pg_basebackup or pg_rewind,"
            " of an earlier run or of somebody else",
            f"wait for it, or end it (kill {pid}); then run this once more",
        )


def until_copied(data_dir: Path, now_s: Seconds) -> None:
    """Give what was told to end the time to do so."""
    end = now_s() + ENDING_S
    while copiers(data_dir) and now_s() < end:
        time.sleep(_PAUSE_S)


def refuse_others(data_dir: Path, now_s: Seconds) -> None:
    """Raise GuardError where a server runs in the folder, or something copies into it.

    The last processes of a server that was stopped have a moment to end.
    """
    refuse_copiers(data_dir)
    end = now_s() + ENDING_S
    while running(data_dir) is not None or orphans(data_dir):
        if running(data_dir) is not None or now_s() >= end:
            raise GuardError(
                f"a server was started on {data_dir} again",
                "find out who did it (systemd, HA software); then run this once more",
            )
        time.sleep(_PAUSE_S)
