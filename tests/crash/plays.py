"""The split-brain story, played while the agent of the losing node is killed.

Theory of operation. Each play is `splitguard lab story split-brain` as a process of its
own, in a lab of its own; two run at once, the others wait. The crash is either a named
crash point, at which the agent ends itself once, or a SIGKILL to the agent's process at
a drawn moment of the story. When that moment is, the undisturbed play tells: a draw is
a share of one of its stretches. The lab starts the agent again by itself.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.fix_lab import NODES, LabCommand

NODE = "n1"
"""The agent that dies stands beside the primary, which loses."""
AT_ONCE = 2
PLAY_S = 180.0
LOOK_S = 0.01
LOG_LINES = 40
BEGINS = "clients write to the active manager"
HEALS = "the network is whole again"
ENDS = "has won"
SAID = re.compile(r"^ *[\d.]+ s  (.*)$")


@dataclass(frozen=True)
class Draw:
    """A moment of the story: a share of the stretch from one of its lines to ENDS."""

    seed: int
    begins: str
    share: float


@dataclass(frozen=True)
class Case:
    """One play: undisturbed, with a crash point, or with a kill at a drawn moment."""

    name: str
    point: str | None = None
    draw: Draw | None = None


@dataclass
class Played:
    """How a play ended, and when the agent died in it."""

    case: Case
    code: int = -1
    told: Any = None
    words: str = ""
    seconds: float = 0.0
    heard_s: dict[str, float] = field(default_factory=dict)
    """When each line was first said, since the story began."""
    system_id: str = ""
    died_s: float | None = None
    """When the agent died, since the story began."""
    died_after: str = ""
    """The last thing that the story had said then."""
    agents: list[int] = field(default_factory=list)
    """The process ids that the agent of the node has had, in order."""
    logs: dict[str, TextIO] = field(default_factory=dict)
    """The logs of all agents, open: they can be read when their folder is gone."""

    def heard(self, part: str) -> float:
        """When the first line with these words was said."""
        for line, at_s in self.heard_s.items():
            if part in line:
                return at_s
        raise AssertionError(f"{part!r} was not said:\n{self.words}")

    def why(self) -> str:
        """All that was said, for whoever must find out why it went wrong."""
        parts = [self.line, self.words]
        for name, log in self.logs.items():
            log.seek(0)
            parts += [f"--- agent of {name}", *log.read().splitlines()[-LOG_LINES:]]
        return "\n".join(parts)

    @property
    def line(self) -> str:
        """The play in one line, for whoever reads the log."""
        seed = f"seed {self.case.draw.seed}" if self.case.draw else ""
        died = "" if self.died_s is None else f"died at {self.died_s:5.1f} s"
        return (
            f"{self.case.name:24} {seed:14} {died:17} exit {self.code}, "
            f"{self.seconds:5.1f} s  {self.died_after[:60]}"
        )


class Play:
    """One performance, from the outside."""

    def __init__(self, command: LabCommand, case: Case) -> None:
        self._command = command
        self._played = Played(case)
        self._said: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._began_s = 0.0

    def run(self, at: tuple[str, float] | None) -> Played:
        """Play it; `at` gives the line, and the seconds after it, at which to kill."""
        began_s = time.monotonic()
        crash = ["--crash-at", f"{NODE}:{self._played.case.point}"]
        words = ["story", "split-brain", "--output", "json"]
        words += crash if self._played.case.point else []
        with self._command.start(*words) as process:
            self._process = process
            limit = threading.Timer(PLAY_S, process.terminate)
            limit.start()
            listener = threading.Thread(target=self._listen)
            listener.start()
            try:
                self._watch(process, at)
                out = process.stdout.read() if process.stdout else ""
            finally:
                limit.cancel()
                listener.join()
        played = self._played
        played.code = process.returncode
        played.words = "\n".join(self._said)
        played.told = json.loads(out) if out else None
        played.seconds = time.monotonic() - began_s
        return played

    def stop(self) -> None:
        """End it early; the lab cleans up behind itself."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _listen(self) -> None:
        """Note each line of the story with its time."""
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.rstrip())
            said = SAID.match(line)
            if said:
                now_s = time.monotonic()
                self._began_s = self._began_s or now_s
                self._played.heard_s.setdefault(said[1], now_s - self._began_s)

    def _watch(
        self,
        process: "subprocess.Popen[str]",
        due: tuple[str, float] | None,
    ) -> None:
        """Follow the agent's processes until the story ends; kill when it is time."""
        mark = self._command.state_dir / NODE / "crashed"
        while process.poll() is None:
            time.sleep(LOOK_S)
            if not self._began_s:
                continue
            self._look_at_agent()
            if self._played.died_s is None and mark.exists():
                self._note_death()
            if due is not None and self._is_due(*due):
                os.kill(self._played.agents[-1], signal.SIGKILL)
                self._note_death()
                due = None

    def _is_due(self, begins: str, after_s: float) -> bool:
        now_s = time.monotonic() - self._began_s
        return bool(self._played.agents) and any(
            begins in line and now_s >= at_s + after_s
            for line, at_s in list(self._played.heard_s.items())
        )

    def _note_death(self) -> None:
        self._played.died_s = time.monotonic() - self._began_s
        self._played.died_after = next(reversed(self._played.heard_s), "")

    def _look_at_agent(self) -> None:
        """Note the agent's process, and once the cluster's system id."""
        known = self._played.agents
        if known and _is_agent(known[-1], self._command.state_dir):
            return
        for pid in _recorded(self._command.state_dir):
            if pid not in known and _is_agent(pid, self._command.state_dir):
                known.append(pid)
        if not self._played.system_id:
            self._played.system_id = _system_id(self._command.state_dir)
            for name in NODES:
                log = self._command.state_dir / name / "agent.log"
                self._played.logs[name] = log.open(encoding="utf-8", errors="replace")


def _recorded(state_dir: Path) -> Iterator[int]:
    """The processes that the lab has noted as its own."""
    with contextlib.suppress(OSError):
        for entry in (state_dir / "pids").iterdir():
            if entry.name.isdigit():
                yield int(entry.name)


def _is_agent(pid: int, state_dir: Path) -> bool:
    """Whether this process is the node's agent, and alive."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(state_dir / NODE / "agent.toml").encode() in words


def _system_id(state_dir: Path) -> str:
    """PostgreSQL's name of the cluster: the first eight bytes of pg_control."""
    control = state_dir / NODE / "pgdata/global/pg_control"
    return str(int.from_bytes(control.read_bytes()[:8], "little"))


class Theatre:
    """Plays all cases, `AT_ONCE` at a time, in the order in which they were given."""

    def __init__(self, cases: list[Case], make: Callable[[], LabCommand]) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._plays: list[Play] = []
        self.played: list[Played] = []
        self._futures: dict[str, Future[Played]] = {}
        for case in cases:
            play = Play(make(), case)
            self._plays.append(play)
            self._futures[case.name] = self._pool.submit(self._run, play, case)

    def result(self, name: str) -> Played:
        """Wait for a play's end."""
        return self._futures[name].result()

    def close(self) -> None:
        """End what still runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for play in self._plays:
            play.stop()
        self._pool.shutdown(wait=True)
        for played in self.played:
            for log in played.logs.values():
                log.close()

    def _run(self, play: Play, case: Case) -> Played:
        draw = case.draw
        # The moment first: it is known only when the undisturbed play is over.
        played = play.run(None if draw is None else self._moment(draw))
        self.played.append(played)
        return played

    def _moment(self, draw: Draw) -> tuple[str, float]:
        """The line, and the seconds after it, that the draw stands for."""
        calm = self.result(UNDISTURBED.name)
        stretch_s = calm.heard(ENDS) - calm.heard(draw.begins)
        return draw.begins, draw.share * stretch_s


UNDISTURBED = Case("undisturbed")
