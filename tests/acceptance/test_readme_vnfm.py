"""The README's way from nothing to kept snapshots of a manager, and its table."""

import getpass
import os
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_cli import SPLITGUARD
from tests.fix_manager import Manager, StartManager, manager_database
from tests.fix_postgres import Stage, eventually, free_port

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(240)]

PAGE = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
SECTION = PAGE.partition("\n## VNF Manager\n")[2].partition("\n## ")[0]
STEPS = SECTION.partition("```sh\n")[2].partition("```")[0].splitlines()
GUIDE = tomllib.loads(Path(__file__).with_name("guide_lines.toml").read_text("utf-8"))
WITHIN_S = 120


@pytest.fixture
def manager(stage16: Stage, start_manager: StartManager) -> Manager:
    """A manager of the 4.x line beside a PostgreSQL that agents can reach."""
    server = stage16.server("m1", tcp=True).start()
    manager_database(server, audited=False)
    return start_manager("4.5.5", server=server)


@pytest.fixture
def etc(tmp_path: Path, manager: Manager) -> Path:
    """What stands in for /etc/splitguard: an agent's configuration without managers."""
    (tmp_path / "agent.toml").write_text(
        f'cluster = "c"\nnode = "n1"\nlisten = "127.0.0.1:{free_port()}"\n'
        f'socket = "{tmp_path}/agent.sock"\nstate_dir = "{tmp_path}/state"\n'
        f"[capture]\nreserve = 0\n"
        f'[[nodes]]\nname = "n1"\nmanager = "{manager.url}"\nlocal = false\n'
        f'postgres = "host=127.0.0.1 port={manager.server.port} dbname=postgres'
        ' user=postgres"\n'
    )
    return tmp_path


class Machine:
    """A shell on the manager's machine, whose systemctl starts the agent."""

    def __init__(self, etc: Path) -> None:
        self.etc = etc
        self.agent: subprocess.Popen[bytes] | None = None
        self.env = {
            "PATH": f"{SPLITGUARD.parent}:{os.environ['PATH']}",
            "HOME": str(etc),
            "SPLITGUARD_CONFIG": str(etc / "agent.toml"),
        }

    def run(self, step: str, typed: str = "") -> str:
        """Run one line of the README as it stands, but for places and the user."""
        if step.startswith("systemctl restart splitguard"):
            return self.restart()
        line = step.replace("/etc/splitguard/", f"{self.etc}/")
        line = line.replace("-o postgres", f"-o {getpass.getuser()}")
        ran = subprocess.run(
            ["/bin/bash", "-c", line], input=typed, env=self.env, cwd=self.etc,
            capture_output=True, text=True, check=False, timeout=WITHIN_S,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def restart(self) -> str:
        """Start the agent, and return when it answers."""
        with (self.etc / "log").open("wb") as log:
            self.agent = subprocess.Popen(
                [SPLITGUARD, "run"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
            )  # fmt: skip
        eventually("it listens", (self.etc / "agent.sock").exists, WITHIN_S)
        return ""

    def stop(self) -> None:
        """End the agent."""
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait(WITHIN_S)


@pytest.fixture
def machine(etc: Path) -> Iterator[Machine]:
    """The manager's machine."""
    found = Machine(etc)
    yield found
    found.stop()


def test_five_commands_lead_from_nothing_to_a_snapshot_that_was_read_back(
    machine: Machine, manager: Manager
):
    assert len(STEPS) == 5
    manager.put("blueprints", "kept")
    outputs = [machine.run(step, manager.password + "\n") for step in STEPS]
    [header, row] = outputs[-1].splitlines()[:2]
    assert header.split()[0] == "ID"
    assert row.startswith("sg-n1-2")
    assert row.split()[-1] == "yes"
    assert row.split()[0] in outputs[-2]
    told = tomllib.loads((machine.etc / "agent.toml").read_text())
    assert told["vnfm"]["schedule"] == "30 2 * * *"
    password = machine.etc / "manager.password"
    assert password.stat().st_mode & 0o777 == 0o600
    log = (machine.etc / "log").read_text()
    assert manager.password not in log
    manager.faults.html = True
    failed = machine.run("! splitguard vnfm snapshots keep --reason 'a try' 2>&1")
    assert "is not kept" in failed
    assert "502" in failed
    nobody = machine.run("! splitguard vnfm snapshots keep --socket /no.sock 2>&1")
    assert "/no.sock" in nobody


def test_its_table_maps_every_command_line_of_the_guide():
    table = SECTION.partition("<!-- The guide's lines. -->")[2]
    rows = [row.split("|")[1].strip() for row in table.splitlines() if "|" in row]
    for each in GUIDE["commands"]:
        first, last = each["lines"][0], each["lines"][-1]
        assert (str(first) if first == last else f"{first} to {last}") in rows
