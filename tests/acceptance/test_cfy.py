"""The managers' own client, `cfy` 7.0.5 as PyPI has it, at the stand-in managers.

What a real client takes for a manager is one: it lists, creates, downloads, deletes,
uploads and restores, and each time the stand-in has what the client says.
"""

import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fix_manager import Manager

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAM = Path(__file__).parents[2] / ".venv/cfy/bin/cfy"
COMMAND_S = 120
EXECUTION = re.compile(r"The execution's id is ([0-9a-f-]{36})")


@dataclass(frozen=True)
class Cfy:
    """The client with a home of its own, and a profile for one manager."""

    home: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert PROGRAM.exists(), "run: make .venv/.cfy"
        home = str(self.home)
        environ = {
            "HOME": home, "CFY_WORKDIR": home, "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore", "NO_PROXY": "*",
        }  # fmt: skip
        return subprocess.run(
            [PROGRAM, *words], env=environ, cwd=home, capture_output=True, text=True,
            check=False, timeout=COMMAND_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def done(self, *words: str) -> str:
        """Run a command that has to succeed; what it says."""
        ran = self(*words)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def refused(self, *words: str) -> str:
        """Run a command that has to fail; what it says."""
        ran = self(*words)
        assert ran.returncode != 0, ran.stdout
        return ran.stdout + ran.stderr

    def snapshots(self) -> list[dict[str, Any]]:
        """What `cfy snapshots list` lists."""
        listed: list[dict[str, Any]] = json.loads(
            self.done("snapshots", "list", "--json")
        )
        return listed


Use = Callable[[Manager], Cfy]


@pytest.fixture
def use(tmp_path: Path) -> Use:
    """Makes a client that uses a manager."""

    def make(manager: Manager) -> Cfy:
        cfy = Cfy(tmp_path)
        cfy.done("init")
        host, _, port = manager.url.removeprefix("http://").partition(":")
        login = ("-u", manager.username, "-p", manager.password)
        cfy.done(
            "profiles", "use", host, *login, "-t", manager.tenant, "--rest-port", port
        )
        return cfy

    return make


def ended(manager: Manager, said: str) -> Any:
    """Wait for the execution that a command has started."""
    found = EXECUTION.search(said)
    assert found, said
    return manager.ended(found[1])


def test_cfy_makes_fetches_deletes_sends_and_restores_on_a_manager_of_7(
    manager_7: Manager, use: Use, tmp_path: Path
):
    cfy = use(manager_7)
    manager_7.put("deployments", "web")
    assert cfy.snapshots() == []
    made = ended(manager_7, cfy.done("snapshots", "create", "s1", "--no-legacy"))
    assert made["status"] == "terminated"
    [listed] = cfy.snapshots()
    assert (listed["id"], listed["status"]) == ("s1", "created")
    cfy.done("snapshots", "download", "s1", "-o", "out.zip")
    kept = tmp_path / "out.zip"
    assert kept.read_bytes() == (manager_7.folder / "snapshots/s1/s1.zip").read_bytes()
    cfy.done("snapshots", "delete", "s1")
    assert manager_7.query("SELECT id FROM snapshots") == []
    manager_7.query("DELETE FROM deployments")
    assert "id is s2" in cfy.done("snapshots", "upload", "out.zip", "-s", "s2")
    said = cfy.done("snapshots", "restore", "s2")
    assert ended(manager_7, said)["status"] == "terminated"
    assert manager_7.names("deployments") == ["web"]
    assert "No snapshot is currently being restored" in cfy.done("snapshots", "status")
    assert re.search(r"RabbitMQ +\| Active", cfy.done("status"))
    assert "status is OK" in cfy.done("cluster", "status")


def test_cfy_makes_fetches_and_deletes_on_a_manager_of_4(
    manager_4: Manager, use: Use, tmp_path: Path
):
    cfy = use(manager_4)
    manager_4.put("deployments", "web")
    made = ended(manager_4, cfy.done("snapshots", "create", "s1"))
    assert made["status"] == "terminated"
    cfy.done("snapshots", "download", "s1", "-o", "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert b"web" in archive.read("pg_data")
    # What the client of 7.x sends is not always what a manager of 4.x wants.
    refused = cfy.refused("snapshots", "restore", "s1", "--force")
    assert "Missing recreate_deployments_envs in json request body" in refused
    assert "/license-check" in cfy.refused("snapshots", "upload", "out.zip")
    cfy.done("snapshots", "delete", "s1")
    assert cfy.snapshots() == []


def test_cfy_says_what_the_manager_says_when_it_refuses(
    manager_7: Manager, use: Use, tmp_path: Path
):
    cfy = use(manager_7)
    manager_7.make("s1")
    assert "already exists on <Tenant" in cfy.refused("snapshots", "create", "s1")
    assert "`zzz` was not found" in cfy.refused("snapshots", "delete", "zzz")
    manager_7.faults.worker_dead = True
    cfy.done("snapshots", "create", "s2")  # of the legacy format, as cfy's default is
    refused = cfy.refused("snapshots", "create", "s3")
    assert "there are other executions running" in refused


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--include-credentials", "s1"),
        ("create", "--include-metrics", "s1"),
        ("restore", "--tenant-name", "t", "s1"),
    ],
    ids=" ".join,
)
def test_cfy_knows_no_such_option_as_the_guide_names(
    words: tuple[str, ...], manager_7: Manager, use: Use
):
    assert "no such option" in use(manager_7).refused("snapshots", *words).lower()
