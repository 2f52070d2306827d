"""One node's PostgreSQL: its process, its files, and its part in replication.

Theory of operation. The postmaster runs as a direct child of the machine process,
never as a daemon, so that it dies with the machine. Starting means: write the
configuration, start the program, ask until it answers. Everything that changes the
data folder happens while no postmaster runs on it. Methods that wait are
coroutines; `connect` and what uses a connection block, and are called in threads.
"""

import asyncio
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from agent.errors import LabError
from agent.lab.account import Account
from agent.lab.plan import Layout, NodeLayout, Plan
from agent.lab.processes import Launch, end, launch

READY_S = 60.0
FAST_STOP_S = 30.0
PROGRAM_S = 120.0
LOOK_S = 0.05
CONNECT_S = 3
STATEMENT_MS = 5000
START_TRIES = 20
"""A server killed a moment ago may still hold its shared memory."""
STANDBY_SIGNAL = "standby.signal"
RECOVERY_SIGNAL = "recovery.signal"


@dataclass(frozen=True, slots=True)
class Installed:
    """What a server needs to know of its surroundings."""

    layout: Layout
    node: NodeLayout
    bin_dir: Path
    account: Account
    port: int


def installed(plan: Plan, name: str) -> Installed:
    """Return what a node's server needs to know."""
    return Installed(
        layout=plan.layout,
        node=plan.layout.node(name),
        bin_dir=Path(plan.bin_dir),
        account=plan.account,
        port=plan.node(name).postgres_port,
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """How one of PostgreSQL's programs ended."""

    code: int
    output: str


class Server:
    """The PostgreSQL of one node."""

    def __init__(self, installed: Installed) -> None:
        self.data_dir = installed.node.data_dir
        self._at = installed
        self._child: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the postmaster runs."""
        return self._child is not None and self._child.returncode is None

    @property
    def is_standby_on_disk(self) -> bool:
        """Whether the data folder would start as a standby."""
        return (self.data_dir / STANDBY_SIGNAL).exists()

    def connect(
        self, user: str = "postgres", dbname: str = "postgres", at: str | None = None
    ) -> psycopg.Connection:
        """Connect through the unix socket, or by the connection string `at`.

        Blocking; raises psycopg.Error.
        """
        own = make_conninfo(
            host=str(self._at.node.socket_dir),
            port=self._at.port,
            user=user,
            dbname=dbname,
        )
        return psycopg.connect(
            at or own,
            connect_timeout=CONNECT_S,
            options=f"-c statement_timeout={STATEMENT_MS}",
            autocommit=True,
        )

    def write(self, name: str, text: str) -> None:
        """Write a file of the data folder as the server's user would."""
        path = self.data_dir / name
        path.write_text(text)
        path.chmod(0o600)
        self._at.account.own(path)

    def remove(self, *names: str) -> None:
        """Remove files of the data folder, where they are there."""
        for name in names:
            (self.data_dir / name).unlink(missing_ok=True)

    async def start(self) -> None:
        """Start the server as its files say; return when it answers.

        Raises LabError when it does not.
        """
        for _ in range(START_TRIES):
            self._child = await launch(
                self._at.layout,
                Launch(
                    argv=[str(self._at.bin_dir / "postgres"), "-D", str(self.data_dir)],
                    cwd=self.data_dir,
                    log=self._at.node.log("postgres"),
                    env=_ENVIRONMENT,
                    account=self._at.account,
                ),
            )
            if await self._answers():
                return
            await asyncio.sleep(LOOK_S * 5)
        raise LabError(
            f"the server in {self.data_dir} does not start: {self.last_words()}",
            f"see {self._at.node.log('postgres')}",
        )

    async def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: fast by default, at once with SIGQUIT."""
        if self._child is not None:
            await end(self._child, by, FAST_STOP_S)

    async def promoted(self) -> None:
        """Return when the recovery that was asked for by a signal file is over.

        Raises LabError when it takes too long.
        """
        until = time.monotonic() + READY_S
        while (self.data_dir / RECOVERY_SIGNAL).exists():
            if time.monotonic() > until or not self.running:
                raise LabError(f"recovery does not end: {self.last_words()}")
            await asyncio.sleep(LOOK_S)

    async def run(self, program: str, *arguments: str) -> Ran:
        """Run one of PostgreSQL's programs as the server's user, to its end."""
        child = await asyncio.create_subprocess_exec(
            str(self._at.bin_dir / program),
            *arguments,
            cwd=self._at.node.server_home,
            env=_ENVIRONMENT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **self._at.account.popen,
        )
        try:
            async with asyncio.timeout(PROGRAM_S):
                output, _ = await child.communicate()
        except (TimeoutError, asyncio.CancelledError):
            child.kill()
            await child.wait()
            raise
        return Ran(child.returncode or 0, output.decode("utf-8", "replace"))

    def forget_postmaster(self) -> None:
        """Remove what a killed postmaster left; only while none runs."""
        self.remove("postmaster.pid")
        shutil.rmtree(self._at.node.socket_dir, ignore_errors=True)
        make_private(self._at.node.socket_dir, self._at.account)

    def last_words(self, lines: int = 3) -> str:
        """Return the end of the server's log."""
        try:
            text = self._at.node.log("postgres").read_text("utf-8", "replace")
        except OSError:
            return "no log"
        return " | ".join(text.strip().splitlines()[-lines:])

    async def _answers(self) -> bool:
        """Wait until the server answers; whether it does before it ends."""
        deadline = time.monotonic() + READY_S
        while self.running and time.monotonic() < deadline:
            try:
                await asyncio.to_thread(self._ask)
            except psycopg.Error:
                await asyncio.sleep(LOOK_S)
            else:
                return True
        return False

    def _ask(self) -> None:
        with self.connect() as connection:
            connection.execute("SELECT 1")


_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def make_private(folder: Path, account: Account) -> None:
    """Make a folder that only the servers' user (and root) can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    account.own(folder)


def write_private(path: Path, lines: Iterable[str], account: Account | None) -> None:
    """Write a file that one user alone can read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in lines))
    if account is not None:
        account.own(path)
