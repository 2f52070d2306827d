"""The gate as its user has it: the shim on disk, and an agent beside a real server.

`gate` writes shims into a folder that the servers' user may enter, and runs them as
that user: pg_rewind refuses root. `agent_beside` runs the installed agent beside a
server of a test, as its owner.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.guard.shim import PROGRAM, Shim, write
from agent.postgres.owner import give, unprivileged
from agent.transport import Request, TransportError, request_sync
from tests.fix_postgres import Server, eventually, free_port

LIMIT_S = 60
SHELLS = {"sh": ["/bin/sh"], "bash": ["bash", "--posix"]}
REAL = """#!/bin/sh
# Stands for PostgreSQL's pg_rewind: says how it was called, and ends as it is told.
case ${1-} in
    --help | -\\?) echo "usage: pg_rewind" && exit 0 ;;
    --version | -V) echo "pg_rewind (PostgreSQL) 15.0" && exit 0 ;;
esac
printf '%s\\n' "$@" >>"$CALLS"
exit 7
"""


@dataclass
class Running:
    """A shim at work; what it says goes into a file."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def says(self, text: str, within_s: float = 30) -> None:
        """Return when it has said this."""
        eventually(
            f"it says {text!r}; so far: {self.said}",
            lambda: text in self.said or self.process.poll() is not None,
            within_s,
        )
        assert text in self.said, self.said

    def ends(self, within_s: float = 30) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it still waits: {self.said}")

    @property
    def waits(self) -> bool:
        return self.process.poll() is None


@dataclass
class Gate:
    """A folder with shims, and the means to run them."""

    folder: Path
    started: list[Running] = field(default_factory=list)

    @property
    def rescue(self) -> Path:
        return self.folder / "rescue"

    @property
    def calls(self) -> Path:
        """What the stand-in for the real program was called with."""
        return self.folder / "calls"

    @property
    def rewound(self) -> bool:
        return self.calls.exists()

    @property
    def rescued(self) -> list[Path]:
        """Finished copies of WAL."""
        return sorted(self.rescue.glob("[0-9]*")) if self.rescue.exists() else []

    def program(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def shim(self, script: str = PROGRAM, **paths: Path) -> Path:
        """Write a script; what is not given is a stand-in, or not there.

        It asks again sooner than the shim of a user.
        """
        known = {
            "real": self.folder / "real_pg_rewind",
            "splitguard": self.folder / "no-splitguard",
            "socket": self.folder / "agent.sock",
            "rescue": self.rescue,
            "controldata": self.folder / "no-controldata",
        }
        place = self.folder / "shim dir" / script
        write(place, Shim(**{**known, **paths}), script)
        text = place.read_text()
        for slow, fast in (("\nAGAIN_S=2 ", "\nAGAIN_S=0.1 "), ("_S=10 ", "_S=0.5 ")):
            assert text.count(slow) == 1
            text = text.replace(slow, fast)
        place.write_text(text)
        return place

    def start(self, command: list[Path | str], **environ: str) -> Running:
        """Start a command as the servers' user."""
        log = self.folder / f"said-{len(self.started)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                env={"PATH": os.environ["PATH"], "CALLS": str(self.calls), **environ},
                start_new_session=True, **unprivileged().identity(),
            )  # fmt: skip
        self.started.append(Running(process, log))
        return self.started[-1]

    def data(self, name: str = "data") -> Path:
        """Make what looks like the data directory of a stopped server."""
        folder = self.folder / name
        (folder / "global").mkdir(parents=True)
        (folder / "global/pg_control").write_bytes(b"control")
        (folder / "pg_wal/archive_status").mkdir(parents=True)
        (folder / "pg_wal/000000010000000000000001").write_bytes(b"wal" * 1000)
        (folder / "pg_wal/00000002.history").write_text("1\t0/3000000\tno reason\n")
        give(folder, unprivileged())
        return folder

    def close(self) -> None:
        for running in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait(10)


@pytest.fixture
def gate(postgres_home: Path) -> Iterator[Gate]:
    folder = Path(tempfile.mkdtemp(prefix="gate", dir=postgres_home))
    folder.chmod(0o755)
    give(folder, unprivileged())
    made = Gate(folder)
    made.program("real_pg_rewind", REAL)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Agent:
    """The installed agent beside one server."""

    prefix: Path
    home: Path
    server: Server
    others: tuple[Server, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> Path:
        return self.home / "agent.sock"

    @property
    def command(self) -> Path:
        return self.prefix / "bin/splitguard"

    @property
    def config(self) -> Path:
        return self.home / "agent.toml"

    @property
    def captures(self) -> Path:
        return self.home / "state/snapshots"

    def configure(self) -> None:
        server = self.server
        nodes = "".join(
            f'[[nodes]]\nname = "n{number}"\npostgres = "{each.dsn}"\n'
            for number, each in enumerate((server, *self.others), start=1)
        )
        self.config.write_text(
            f'cluster = "gate"\nnode = "n1"\nlisten = "127.0.0.1:{free_port()}"\n'
            f'state_dir = "{self.home}/state"\nsocket = "{self.socket}"\n'
            f'{nodes}[local]\ndata_dir = "{server.data_dir}"\n'
            f'bin_dir = "{server.programs.bin_dir}"\n'
        )

    def start(self) -> "Agent":
        with (self.home / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.command, "run", "--config", self.config], cwd="/",
                env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, **unprivileged().identity(),
            )  # fmt: skip
        eventually("the agent is ready", self.ready, 60)
        return self

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "agent.log").read_text()
        return self.get("/readyz") is not None

    def get(self, path: str) -> Any:
        """The agent's answer; None when it gives none."""
        request = Request("GET", f"http://agent{path}", {})
        try:
            answer = request_sync(request, 5, uds=self.socket)
        except TransportError:
            return None
        return json.loads(answer.body) if answer.ok else None

    def permits(self) -> list[Any]:
        found: list[Any] = self.get("/v1/guard/permits")["permits"]
        return found

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as the agent's user, for this agent."""
        return subprocess.run(
            [self.command, *words, "--config", self.config], cwd="/", check=False,
            env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S,
            **unprivileged().identity(),
        )  # fmt: skip

    def stop(self, signum: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signum)
            self.process.wait(20)
            self.process = None


@pytest.fixture
def agent_beside(installed: Path) -> Iterator[Callable[..., Agent]]:
    """Run agents until the test ends: beside the first server, watching all."""
    with contextlib.ExitStack() as stack:

        def beside(server: Server, *others: Server) -> Agent:
            home = Path(tempfile.mkdtemp(prefix="agent", dir=installed.parents[1]))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            agent = Agent(installed, home, server, others)
            agent.configure()
            give(home, unprivileged())
            stack.callback(agent.stop)
            return agent.start()

        yield beside
