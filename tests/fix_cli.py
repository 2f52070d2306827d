"""The command line against an agent that listens on a unix socket.

`agent_for` serves one agent of a simulated cluster on a socket of its own, in a thread.
`splitguard` runs a command in this process, because that is fast; `spawned` runs it
as a process. Neither sees settings of ours from the environment of the tests.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from agent.api.access import LocalDoor
from agent.cli.main import main
from tests.fix_desk import Served, serve
from tests.sim.harness import Simulation

SPLITGUARD = Path(sys.executable).with_name("splitguard")
RUN_LIMIT_S = 60


@dataclass
class Listening:
    """An agent behind its unix socket."""

    socket: Path
    served: Served
    loop: asyncio.AbstractEventLoop
    server: uvicorn.Server

    def happen(self, change: Callable[[Simulation], object]) -> None:
        """Let something happen in its world, and tell whoever waits."""

        async def changed() -> None:
            change(self.served.desk.sim)
            await self.served.desk.bump()

        asyncio.run_coroutine_threadsafe(changed(), self.loop).result(30)


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    words: str


@dataclass
class Command:
    """The installed command."""

    home: Path
    program: tuple[str, ...] = (str(SPLITGUARD),)

    def __call__(self, *arguments: object, **environ: str) -> Ran:
        ran = subprocess.run(
            [*self.program, *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=RUN_LIMIT_S,
            cwd=self.home, env={**self.plain(), **environ}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in ran.stderr + ran.stdout
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def start(self, *arguments: object, **environ: str) -> subprocess.Popen[str]:
        """Start the command; the test ends it."""
        return subprocess.Popen(
            [*self.program, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home,
            env={**self.plain(), **environ}, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def plain(self) -> dict[str, str]:
        """Return an environment without settings of ours."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home)}


@pytest.fixture
def spawned(tmp_path: Path) -> Command:
    """The installed command, as a process."""
    return Command(tmp_path)


@pytest.fixture
def splitguard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """The same command, in this process."""
    for name in list(os.environ):
        if name.startswith("SPLITGUARD_"):
            monkeypatch.delenv(name)

    def run(*arguments: object, **environ: str) -> Ran:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture
def agent_for() -> Iterator[Callable[..., Listening]]:
    """Serve agents on unix sockets until the test ends."""
    with contextlib.ExitStack() as stack:

        def start(sim: Simulation, **options) -> Listening:
            return stack.enter_context(_listening(sim, **options))

        yield start


@contextlib.contextmanager
def _listening(sim: Simulation, **options) -> Iterator[Listening]:
    with tempfile.TemporaryDirectory(prefix="sg-") as folder:
        path = Path(folder) / "agent.sock"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(64)
        ready = threading.Event()
        made: list[Listening] = []

        async def run() -> None:
            served = serve(sim, **options)
            config = uvicorn.Config(
                LocalDoor(served.app), log_level="error", lifespan="off"
            )
            server = uvicorn.Server(config)
            loop = asyncio.get_running_loop()
            made.append(Listening(path, served, loop, server))
            ready.set()
            await server.serve(sockets=[sock])

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            assert ready.wait(10)
            yield made[0]
        finally:
            made[0].server.should_exit = True
            made[0].server.force_exit = True
            made[0].loop.call_soon_threadsafe(made[0].served.options.closing.set)
            thread.join(10)
            sock.close()
