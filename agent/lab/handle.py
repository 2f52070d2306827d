"""How a command holds a lab: starts one, asks it, ends it. Blocking.

Theory of operation. `started` starts the supervisor as a child that dies with the
command, passes on what it says, and ends it when the block ends, whatever happened
in it. `detached` starts one that stays. Both read the child's JSON lines until it
is ready; the lab's own answer decides, not the clock.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.codec import to_plain
from agent.errors import LabError
from agent.lab.control import ask
from agent.lab.plan import Layout, Options, Plan, load_plan
from agent.lab.processes import die_with, kill_leftovers
from agent.lab.setup import check_ours
from agent.lab.sharedmem import remove_orphans
from agent.lab.supervisor import answers

STOP_S = 20.0
LOOK_S = 0.05
Say = Callable[[str], None]


class Lab:
    """A running lab, as a command sees it."""

    def __init__(self, state_dir: Path) -> None:
        self.kept = False
        self.layout = Layout(state_dir)
        self.plan: Plan = load_plan(state_dir)

    def status(self) -> dict[str, Any]:
        """Return what `lab status --output json` prints. Raises LabError."""
        found: dict[str, Any] = self.ask("status")
        return found

    def keep(self) -> None:
        """Let a lab that was `started` outlive this command."""
        self.ask("keep")
        self.kept = True

    def ask(self, do: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Ask the supervisor to do something. Raises LabError."""
        return ask(self.layout.control, do, **arguments)


def find(state_dir: Path) -> Lab:
    """Return the lab that runs in this folder. Raises LabError."""
    if not answers(Layout(state_dir)):
        raise LabError(
            f"no lab runs in {state_dir}", "start one with: splitguard lab up --detach"
        )
    return Lab(state_dir)


@contextlib.contextmanager
def started(state_dir: Path, options: Options, say: Say) -> Iterator[Lab]:
    """Run a lab while the block runs. Raises LabError when it cannot come up."""
    lab: Lab | None = None
    child: subprocess.Popen[bytes] | None = None
    try:
        child = _spawn(state_dir, options)
        _until_ready(child, say)
        lab = Lab(state_dir)
        yield lab
    finally:
        if child is not None and not (lab is not None and lab.kept):
            _stop(child)


def detached(state_dir: Path, options: Options, say: Say) -> Lab:
    """Start a lab that outlives this command. Raises LabError."""
    with started(state_dir, options, say) as lab:
        lab.keep()
    return lab


def down(state_dir: Path) -> bool:
    """End the lab in this folder and remove the folder; whether there was one.

    Raises LabError when something of it does not end.
    """
    layout = Layout(state_dir)
    check_ours(state_dir)
    if not layout.mark.exists():
        return False
    if answers(layout):
        ask(layout.control, "down")
        until = time.monotonic() + STOP_S
        while layout.mark.exists() and time.monotonic() < until:
            time.sleep(LOOK_S)
    clear(layout)
    return True


def clear(layout: Layout) -> None:
    """Remove what is left of a lab whose supervisor does not answer.

    One that was only slow may be removing it at the same time.
    """
    kill_leftovers(layout)
    remove_orphans(layout.state_dir)
    if layout.mark.exists():
        shutil.rmtree(layout.state_dir, onerror=_unless_gone)


def _unless_gone(_: object, path: str, failure: tuple[object, object, object]) -> None:
    """Raise why something cannot be removed, unless it is not there any more."""
    cause = failure[1]
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise LabError(
            f"{path} cannot be removed: {cause.strerror}",
            "remove what is left of the lab by hand, as its owner",
        ) from cause


def _spawn(state_dir: Path, options: Options) -> "subprocess.Popen[bytes]":
    wanted = {"state_dir": str(state_dir), "options": to_plain(options)}
    return subprocess.Popen(
        [sys.executable, "-m", "agent.lab.supervisor", json.dumps(wanted)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - no thread has been started yet
    )


def _until_ready(child: "subprocess.Popen[bytes]", say: Say) -> None:
    if child.stdout is None:
        return
    for line in child.stdout:
        told = _told(line)
        if "say" in told:
            say(told["say"])
        elif "ready" in told:
            return
        else:
            raise LabError(told["error"], told["hint"])
    raise LabError(f"the lab ended while it came up (exit code {child.wait()})")


def _told(line: bytes) -> dict[str, str]:
    """Return what the supervisor said; what is no JSON is a warning in words."""
    try:
        found: dict[str, str] = json.loads(line)
    except ValueError:
        return {"say": line.decode("utf-8", "replace").rstrip()}
    return found


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End the lab in order; a second interrupt must not leave it half ended."""
    child.terminate()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
