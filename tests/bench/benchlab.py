"""The lab as a bench drives it: by the installed command, and by what is on the disk.

Nothing is mocked and nothing is asked of the agents but what anybody may ask. Peers
(pg_basebackup) run beside them on the same server, disk and machine.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config import load
from agent.lab.plan import HOST, Plan, load_plan

COMMAND = Path(sys.executable).with_name("splitguard")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB = 1024


def splitguard_lab(*arguments: str | Path, timeout_s: float = 180) -> Any:
    """Run `splitguard lab …`; return what it prints as JSON."""
    ran = subprocess.run(
        [COMMAND, "lab", *arguments],
        check=False, text=True, capture_output=True, timeout=timeout_s,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return json.loads(ran.stdout) if ran.stdout.strip() else None


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for one lab, with a short path; the lab in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="sgb-") as name:
        Path(name).chmod(0o755)
        state_dir = Path(name, "lab")
        try:
            yield state_dir
        finally:
            splitguard_lab("down", "--state-dir", state_dir)


@dataclass(frozen=True)
class Agent:
    """One agent of a running lab."""

    uds: Path
    round_s: float

    @property
    def pid(self) -> int:
        """Who listens on its socket: the kernel knows."""
        with self._connected() as connection:
            told = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
        return int(struct.unpack("3i", told)[0])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request through the agent's unix socket."""
        connection = http.client.HTTPConnection("agent", timeout=30)
        with self._connected() as connection.sock:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text)

    def at_rest(self, seconds: float) -> tuple[float, float]:
        """Return its share of one core (per cent) and its resident MiB."""
        pid = self.pid
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(seconds)
        used, took = cpu_s(pid) - before, time.monotonic() - began
        return 100 * used / took, resident_mib(pid)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(str(self.uds))
            yield connection


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, all its threads and the children that it waited for."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / KIB**2


def agent_of(plan: Plan, name: str) -> Agent:
    """The agent of one node."""
    layout = plan.layout.node(name)
    settings = load(layout.agent_config, {})
    return Agent(settings.socket, settings.probe.round_s)


def plan_in(state_dir: Path) -> Plan:
    """What a lab is made of."""
    return load_plan(state_dir)


def base_backup(plan: Plan, name: str) -> float:
    """Take pg_basebackup -c fast of a node onto the file system of the captures.

    It is removed; returns how long it took.
    """
    layout = plan.layout.node(name)
    target = layout.captures / "basebackup"
    environment = dict(os.environ, PGPASSFILE=str(layout.server_home / "pgpass"))
    try:
        return seconds_of(
            Path(plan.bin_dir) / "pg_basebackup", "-c", "fast", "-h", HOST,
            "-U", "replicator", "-p", str(plan.node(name).postgres_port), "-D", target,
            env=environment,
        )  # fmt: skip
    finally:
        shutil.rmtree(target, ignore_errors=True)


def seconds_of(*command: str | Path, env: dict[str, str]) -> float:
    """Run a program; return how long it took."""
    began = time.monotonic()
    ran = subprocess.run(
        command, check=False, env=env, text=True, timeout=300, cwd="/",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return time.monotonic() - began
