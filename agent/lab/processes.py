"""Processes of the lab, none of which may outlive it.

Theory of operation. Every child asks the kernel to be killed when its parent dies
(PR_SET_PDEATHSIG, set last thing before the program starts, because a change of
user clears it). So kill -9 of any process takes everything below it along. What
could still be left, or still be dying, is found when the next lab wants the same
state folder: by the recorded process ids with their start times, and by servers
whose working folder lies in it.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import LabError
from agent.lab.account import Account
from agent.lab.plan import Layout

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_STARTED_FIELD = 19
"""Of /proc/PID/stat after the name: start time in ticks since boot."""
GONE_S = 30.0
"""A killed process that waits for a slow disk ends only after it."""
LOOK_S = 0.02


def die_with(parent: int, *, by: int = signal.SIGKILL) -> Callable[[], None]:
    """Return what a new child must call so that it ends when `parent` does."""

    def arm() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def outlive_parent() -> None:
    """Take back what `die_with` arranged, for this process."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a child."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    env: Mapping[str, str]
    account: Account | None = None


async def launch(layout: Layout, what: Launch) -> asyncio.subprocess.Process:
    """Start a child that cannot outlive this process, and record it.

    Call it from the main thread only: the kernel ties a child to the thread that
    started it. Raises OSError when the program cannot be started.
    """
    with what.log.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *what.argv,
            cwd=what.cwd,
            env=dict(what.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
            **(what.account.popen if what.account else {}),
        )
    record(layout, child.pid)
    return child


def record(layout: Layout, pid: int) -> None:
    """Note a process of this lab."""
    started = started_at(pid)
    if started is not None:
        (layout.pids / str(pid)).write_text(started)


def started_at(pid: int) -> str | None:
    """Return a process's start time in ticks; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in ("Z", "X") else fields[_STARTED_FIELD]


def leftovers(layout: Layout) -> frozenset[int]:
    """Find every process of the lab in this state folder that still runs."""
    found = set(_servers_in(layout.state_dir))
    with contextlib.suppress(OSError):
        for entry in layout.pids.iterdir():
            if entry.name.isdigit() and started_at(int(entry.name)) == _read(entry):
                found.add(int(entry.name))
    return frozenset(found - {os.getpid()})


def kill_leftovers(layout: Layout) -> int:
    """Kill everything that a lab left in this state folder; return how many.

    Raises LabError when some of it does not end.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + GONE_S
    while running := leftovers(layout):
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {sorted(running)} of the lab in {layout.state_dir} "
                "do not end",
                "look at them with ps; they may belong to another user",
            )
        for pid in running - killed:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= running
        time.sleep(LOOK_S)
    return len(killed)


def kill_leftovers_in(folder: Path) -> None:
    """Kill servers that still work in `folder`; return when they are gone.

    Raises LabError when they do not end.
    """
    deadline = time.monotonic() + GONE_S
    while running := set(_servers_in(folder)):
        if time.monotonic() > deadline:
            raise LabError(f"servers {sorted(running)} in {folder} do not end")
        for pid in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


async def end(
    child: asyncio.subprocess.Process, by: signal.Signals, within_s: float
) -> None:
    """Ask a child to end; kill it when it takes longer."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(by)
    try:
        async with asyncio.timeout(within_s):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _servers_in(folder: Path) -> Iterator[int]:
    """Yield PostgreSQL processes whose working folder is in `folder`."""
    inside = f"{folder.resolve()}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if not f"{(entry / 'cwd').readlink()}/".startswith(inside):
                continue
            if _read(entry / "comm").startswith(("postgres", "pg_")):
                yield int(entry.name)
