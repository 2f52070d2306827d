"""The lab as its user has it: the installed command, run as a process.

Each lab lives in a short folder of its own under the folder for temporary files,
because unix sockets have short names. Whatever a test leaves running is ended, and
makes the test red.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.fix_postgres import fast_place

SPLITGUARD = Path(sys.executable).with_name("splitguard")
COMMAND_S = 170
T = TypeVar("T")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    words: str

    @property
    def json(self) -> Any:
        assert self.out, self.words
        return json.loads(self.out)


@dataclass(frozen=True)
class LabCommand:
    """`splitguard lab` on one state folder."""

    state_dir: Path

    def argv(self, *words: object) -> list[str]:
        state = ["--state-dir", str(self.state_dir)]
        return [str(SPLITGUARD), "lab", *map(str, words), *state]

    def __call__(self, *words: object, timeout_s: float = COMMAND_S) -> Ran:
        ran = subprocess.run(
            self.argv(*words), capture_output=True, text=True, check=False,
            timeout=timeout_s, cwd="/", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in ran.stderr + ran.stdout, ran.stderr
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def done(self, *words: object) -> Ran:
        """Run a command that has to succeed."""
        ran = self(*words)
        assert ran.code == 0, ran.words
        return ran

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command; the test ends it."""
        return subprocess.Popen(
            self.argv(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def status(self) -> Any:
        return self.done("status", "--output", "json").json

    def processes(self) -> list[str]:
        """Every process that names the folder, or works in it."""
        return list(_processes_of(self.state_dir))

    def until_nothing_is_left(self) -> None:
        """Wait until neither a process nor the folder is there."""
        until(10, lambda: not self.processes() or None, self.processes)
        assert not self.state_dir.exists()


def _processes_of(folder: Path) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            cwd = str((entry / "cwd").readlink())
            dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if not dead and (str(folder) in words or cwd.startswith(str(folder))):
            yield f"{entry.name} {words}"


def until(
    seconds: float, look: Callable[[], T | None], why: Callable[[], object] = str
) -> T:
    """What `look` finds within so many seconds."""
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end, why()
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session")
def make_lab() -> Iterator[Callable[[], LabCommand]]:
    """Makes the command for a lab of its own; ends all of them."""
    home = Path(tempfile.mkdtemp(prefix="sgl", dir=fast_place()))
    home.chmod(0o711)
    made: list[LabCommand] = []

    def make() -> LabCommand:
        made.append(LabCommand(home / str(len(made))))
        return made[-1]

    yield make
    for lab in made:
        if lab.state_dir.exists():
            lab("down")
    left = [process for lab in made for process in lab.processes()]
    shutil.rmtree(home)
    assert not left


@pytest.fixture
def lab(make_lab: Callable[[], LabCommand]) -> LabCommand:
    """A command for a lab that is not there yet."""
    return make_lab()


@dataclass(frozen=True)
class Cluster:
    """A running lab, asked over HTTP as anybody would."""

    command: LabCommand
    found: Any

    def node(self, name: str) -> Any:
        return next(node for node in self.found["nodes"] if node["name"] == name)

    def agent(self, name: str, path: str) -> Any:
        """An agent's answer; None when it gives none."""
        headers = {"Authorization": f"Bearer {self.found['tokens']['read']}"}
        try:
            answer = httpx.get(
                self.node(name)["agent_url"] + path,
                headers=headers, timeout=5, trust_env=False,
            )  # fmt: skip
        except httpx.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def incidents(self) -> list[Any]:
        """All incidents of all agents that answer, each with who tells it."""
        told = []
        for node in self.found["nodes"]:
            listed = self.agent(node["name"], "/v1/incidents") or {"incidents": []}
            told += [{"agent": node["name"], **one} for one in listed["incidents"]]
        return told

    def verdicts(self, observer: str) -> set[tuple[str, str]]:
        """Verdict and subject of everything that an agent says now."""
        status = self.agent(observer, "/v1/status") or {"verdicts": []}
        return {(one["verdict"], one["subject"]) for one in status["verdicts"]}

    def acknowledge_all(self) -> None:
        headers = {"Authorization": f"Bearer {self.found['tokens']['operate']}"}
        for one in self.incidents():
            if one["sticky"] and one["status"] == "open":
                url = f"{self.node(one['agent'])['agent_url']}/v1/incidents/{one['id']}"
                httpx.post(f"{url}/ack", headers=headers, timeout=5, trust_env=False)

    def healthy(self) -> bool | None:
        """Whether all agents call it healthy; what waits for a person is taken."""
        names = [node["name"] for node in self.found["nodes"]]
        told = [self.agent(name, "/v1/status") for name in names]
        if all(one and one["headline"]["verdict"] == "healthy" for one in told):
            return True
        self.acknowledge_all()
        return None

    def until_healthy(self, seconds: float = 60) -> None:
        until(seconds, self.healthy, lambda: [self.verdicts(n) for n in NODES])

    def notices(self) -> list[Any]:
        """What the receiver took, each message once."""
        path = self.command.state_dir / "notices.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line["accepted"] and not line["repeated"]]


NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def lab_cluster(make_lab) -> Iterator[Cluster]:
    """A healthy lab for a whole module; each test leaves it healthy."""
    command = make_lab()
    command.done("up", "--detach")
    yield Cluster(command, command.status())
    command.done("down")
    command.until_nothing_is_left()
