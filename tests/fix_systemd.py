"""What systemd is to the unit: it starts ExecStart, listens, and asks it to stop.

The program comes from the installation of `fix_install`, the rest (user, umask, type)
from deploy/splitguard.service, so that a test runs what a machine would run.
"""

import configparser
import http.client
import queue
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.postgres.owner import Owner, give

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
HEAR_S = 30.0
END_S = 30.0


def service() -> configparser.SectionProxy:
    """The [Service] section of the unit."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keep case
    parser.read(DEPLOY / "splitguard.service", encoding="utf-8")
    return parser["Service"]


@dataclass
class Systemd:
    """What systemd is to one service: it starts, listens, and asks it to stop."""

    prefix: Path
    home: Path
    owner: Owner
    notices: socket.socket
    heard: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    process: "subprocess.Popen[bytes] | None" = None
    listener: threading.Thread | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "NOTIFY_SOCKET": f"{self.home}/notify",
            "SPLITGUARD_CONFIG": f"{self.home}/agent.toml",
            "PYTHONFAULTHANDLER": "1",
        }

    def command(self, line: str) -> list[str]:
        """A command of the unit, as the installation of this test has it."""
        return shlex.split(line.replace("/opt/splitguard", str(self.prefix)))

    def start(self) -> None:
        """Start the unit's program and return when it says that it is ready."""
        assert service()["Type"] == "notify"
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(service()["ExecStart"]),
                env=self.environment, cwd="/", umask=int(service()["UMask"], 8),
                stdin=subprocess.DEVNULL, stderr=log, **self.owner.identity(),
            )  # fmt: skip
        self.hear("READY=1")

    def listen(self) -> None:
        """Take what the service says as it comes, as systemd does."""
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self) -> None:
        while words := self.notices.recv(4096).decode():
            for word in words.splitlines():
                self.heard.put(word)

    def listen_no_more(self) -> None:
        """End the listener: it ends at an empty message."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as out:
            out.sendto(b"", f"{self.home}/notify")
        if self.listener is not None:
            self.listener.join(HEAR_S)

    def hear(self, wanted: str) -> None:
        """Return when the service has said this word to systemd."""
        until = time.monotonic() + HEAR_S
        try:
            while self.heard.get(timeout=max(0.0, until - time.monotonic())) != wanted:
                pass
        except queue.Empty:
            pytest.fail(f"{wanted} did not come: {self.log()}")

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return exit code and seconds."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # its threads go into the log
            self.process.wait(END_S)
            pytest.fail(f"it does not end: {self.log()}")
        self.process = None
        return code, time.monotonic() - began

    def log(self) -> str:
        return (self.home / "log").read_text("utf-8")[-8000:]

    @contextmanager
    def asks_agent(self) -> Iterator[http.client.HTTPConnection]:
        """An HTTP connection through the agent's unix socket."""
        with closing(http.client.HTTPConnection("agent", timeout=10)) as connection:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.connect(f"{self.home}/run/agent.sock")
            yield connection

    def splitguard(self, *arguments: str) -> str:
        """Run the installed command as the same user; return what it prints."""
        ran = subprocess.run(
            [self.prefix / "bin/splitguard", *arguments],
            env=self.environment, cwd="/", check=False, text=True, timeout=60,
            capture_output=True, **self.owner.identity(),
        )  # fmt: skip
        assert ran.returncode == 0, (ran.stdout, ran.stderr, self.log())
        return ran.stdout


@contextmanager
def systemd_of(
    prefix: Path, home: Path, owner: Owner, config: str
) -> Iterator[Systemd]:
    """The unit in a home of its own, not started yet; it is killed at the end."""
    (home / "run").mkdir(parents=True)
    (home / "agent.toml").write_text(config)
    give(home, owner)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notices:
        notices.bind(f"{home}/notify")
        give(home / "notify", owner)
        unit = Systemd(prefix, home, owner, notices)
        unit.listen()
        try:
            yield unit
        finally:
            if unit.process is not None:
                unit.process.kill()
                unit.process.wait(END_S)
            unit.listen_no_more()
