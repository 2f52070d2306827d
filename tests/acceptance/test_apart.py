"""A manager on a machine of its own: a real agent that has no PostgreSQL beside it.

The databases stand apart and are real; the manager is a stand-in of 7.0.5 over one of
them. The agent sees and tells, counts in no majority and has nothing to protect.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import SPLITGUARD
from tests.fix_manager import Manager, StartManager, manager_pair
from tests.fix_postgres import Server, Stage, eventually, free_port

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

WITHIN_S = 60.0


@pytest.fixture
def apart(
    stage16: Stage, start_manager: StartManager, tmp_path: Path
) -> Iterator[tuple[Manager, Path]]:
    primary, standby = manager_pair(stage16, audited=True, tcp=True)
    manager = start_manager("7.0.5", server=primary)
    secret = tmp_path / "password"
    secret.write_text(manager.password)
    secret.chmod(0o600)
    (tmp_path / "agent.toml").write_text(config(tmp_path, manager, primary, standby))
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(
            [SPLITGUARD, "run", "--config", tmp_path / "agent.toml"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    yield manager, tmp_path
    agent.terminate()
    agent.wait(20)


def config(home: Path, manager: Manager, *servers: Server) -> str:
    lines = [
        f'cluster = "c"\nnode = "m1"\nlisten = "127.0.0.1:{free_port()}"',
        f'socket = "{home}/agent.sock"\nstate_dir = "{home}/state"',
        '[capture]\nwinner_rule = "highest-timeline"',
        f'[vnfm]\npassword_file = "{home}/password"\nlook_s = 5\ncertificates = []',
        f'[[nodes]]\nname = "m1"\nmanager = "{manager.url}"',
    ]
    lines += [
        f'[[nodes]]\nname = "d{number}"\nlocal = false\npostgres = "host=127.0.0.1'
        f' port={server.port} dbname=postgres user=postgres"'
        for number, server in enumerate(servers, start=1)
    ]
    return "\n".join(lines) + "\n"


def told(home: Path) -> dict[str, Any]:
    """What `splitguard status` says, as JSON; empty while nobody answers."""
    ran = subprocess.run(
        [SPLITGUARD, "status", "-o", "json", "--socket", home / "agent.sock"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return json.loads(ran.stdout) if ran.stdout.strip() else {}


def line_of(home: Path, node: str) -> str:
    for one in told(home).get("nodes", ()):
        if one["name"] == node:
            return one["manager_line"] or ""
    return ""


def test_an_agent_beside_a_manager_alone_sees_and_tells(
    apart: tuple[Manager, Path],
):
    manager, home = apart
    line = eventually(
        "it has asked its manager",
        lambda: line_of(home, "m1") if "cluster" in line_of(home, "m1") else None,
        WITHIN_S,
    )
    assert line.startswith("active, version 7.0.5, cluster OK")
    status = told(home)
    nodes = {one["name"]: one for one in status["nodes"]}
    assert {name: one["role"] for name, one in nodes.items()} == {
        "m1": "manager", "d1": "primary", "d2": "standby",
    }  # fmt: skip
    assert [name for name, one in nodes.items() if one["voter"]] == ["d1", "d2"]
    assert nodes["m1"]["protection"] == "nothing to protect: no PostgreSQL on this node"
    assert status["headline"]["verdict"] == "healthy", status["headline"]
    manager.faults.switch({"html": True})
    eventually(
        "it says what ails the manager",
        lambda: "REST service behind it does not" in line_of(home, "m1"),
        WITHIN_S,
    )
    manager.faults.switch({"html": False})
    eventually(
        "it is well again", lambda: line_of(home, "m1").startswith("active"), WITHIN_S
    )
