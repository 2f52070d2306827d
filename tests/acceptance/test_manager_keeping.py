"""Managers' snapshots kept by real agents: after a split, by the clock, and by hand."""

import json
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyrage
import pytest

from agent.api.tokens import Scope, create
from agent.vnfm.shelf import Shelf
from tests.fix_cli import SPLITGUARD
from tests.fix_lab import Cluster, until
from tests.fix_manager import Manager, StartManager, manager_pair
from tests.fix_postgres import Stage, eventually, free_port

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

ASKED = "/v1/manager-snapshots"
WITHIN_S = 60.0
ENDS_S = 20.0


def test_a_split_leaves_the_losers_manager_snapshot_beside_its_capture(
    lab_cluster: Cluster,
):
    lab = lab_cluster.command
    shelf = Shelf(lab.state_dir / "n1" / "manager-snapshots")
    until(60, lambda: (care(lab_cluster) or {}).get("version"))
    lab.done("partition", "n1")
    until(60, lambda: follows(lab_cluster) or None)
    assert shelf.list() == ()  # a clean side is left clean
    assert care(lab_cluster)["running"] is None
    lab.done("write", "--node", "n1", "--count", "3")
    kept = until(60, lambda: next(iter(shelf.list()), None))
    lab.done("heal")
    assert shelf.check(kept.id) == ()
    assert kept.capture_id
    beside = until(
        30, lambda: lab_cluster.agent("n1", f"/v1/snapshots/{kept.capture_id}")
    )
    assert kept.id in beside["manager_snapshots"]
    assert set(kept.incident_ids) & set(beside["incidents"])
    assert zipfile.ZipFile(shelf.archive(kept.id)).testzip() is None
    assert Shelf(lab.state_dir / "n3" / "manager-snapshots").list() == ()
    for words in (["show", kept.capture_id], ["list"]):
        shown = subprocess.run(
            [SPLITGUARD, "snapshots", *words,
             "--socket", lab.state_dir / "n1" / "agent.sock"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert kept.id in shown.stdout
    lab_cluster.until_healthy()


def test_a_manager_that_hangs_delays_no_capture(lab_cluster: Cluster):
    lab = lab_cluster.command
    until(90, lambda: at_rest(lab_cluster) or None)  # else it goes on with that one
    known = {one["id"] for one in captures(lab_cluster)}
    lab.done("manager", "fault", "n1", "worker-dead")
    lab.done("partition", "n1")
    until(60, lambda: follows(lab_cluster) or None)
    lab.done("write", "--node", "n1", "--count", "3")
    hanging = until(60, lambda: (care(lab_cluster) or {}).get("running") or None)

    def complete() -> Any:
        new = [one for one in captures(lab_cluster) if one["id"] not in known]
        return next((one for one in new if one["grade"] == "complete"), None)

    until(60, complete)
    assert (care(lab_cluster) or {})["running"] == hanging
    lab.done("manager", "fault", "n1", "none")
    lab.done("heal")
    lab_cluster.until_healthy()


def captures(cluster: Cluster) -> list[Any]:
    """What n1 keeps of its database."""
    found = cluster.agent("n1", "/v1/snapshots") or {"snapshots": []}
    return list(found["snapshots"])


def at_rest(cluster: Cluster) -> bool:
    """Whether every capture of n1 is over."""
    phases = [(one["capture"] or {}).get("phase") for one in captures(cluster)]
    return all(phase in (None, "closed", "failed") for phase in phases)


def care(cluster: Cluster) -> Any:
    """What the agent of n1 says of its manager."""
    return (cluster.agent("n1", "/v1/managers") or {}).get("here")


def follows(cluster: Cluster) -> bool:
    """Whether n1 is called isolated, and its WAL is kept."""
    listed = cluster.agent("n1", "/v1/snapshots") or {"snapshots": []}
    phases = [(one["capture"] or {}).get("phase") for one in listed["snapshots"]]
    codes = [code for code, _ in cluster.verdicts("n1")]
    return "following" in phases and "observer-isolated" in codes


@dataclass
class Agent:
    """A real agent beside one of two managers."""

    folder: Path
    port: int
    tokens: dict[Scope, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder / "kept")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SPLITGUARD, "run", "--config", self.folder / "agent.toml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(ENDS_S)
            self.process = None

    def ask(
        self, method: str, path: str, scope: Scope = Scope.READ, **more: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[scope]}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, **more)

    def here(self) -> Any:
        """What it says of its manager; None before it says anything."""
        try:
            return self.ask("GET", "/v1/managers").json()["here"]
        except httpx.HTTPError:
            return None

    def says(self) -> str:
        return (self.folder / "log").read_text()


@dataclass
class Pair:
    """Two managers of the 4.x line, the first active, each with an agent."""

    managers: tuple[Manager, Manager]
    agents: tuple[Agent, Agent]
    key: Any

    def write(self, *, schedule: str = "", password: str = "") -> None:
        """Write both configurations."""
        for number, agent in enumerate(self.agents):
            lines = []
            for scope in (Scope.READ, Scope.OPERATE, Scope.DATA):
                agent.tokens[scope], line = create(scope.value, scope)
                lines.append(line)
            (agent.folder / "tokens").write_text("\n".join(lines) + "\n")
            secret = agent.folder / "password"
            secret.write_text(password or self.managers[0].password)
            secret.chmod(0o600)
            lines = [
                f'cluster = "c"\nnode = "n{number + 1}"',
                f'listen = "127.0.0.1:{agent.port}"',
                f'socket = "{agent.folder}/agent.sock"',
                f'state_dir = "{agent.folder}/state"',
                f'[auth]\ntokens_file = "{agent.folder}/tokens"',
                f'[capture]\nreserve = 0\nrecipients = ["{self.key.to_public()}"]',
                f'[vnfm]\npassword_file = "{secret}"\ndir = "{agent.folder}/kept"',
                f'certificates = ["{agent.folder}/ssl"]\nlook_s = 5\njitter_s = 0',
                schedule,
            ]
            for node, manager in enumerate(self.managers, 1):
                lines.append(
                    f'[[nodes]]\nname = "n{node}"\nmanager = "{manager.url}"\n'
                    f'agent = "http://127.0.0.1:{self.agents[node - 1].port}"\n'
                    f'postgres = "host=127.0.0.1 port={manager.server.port}'
                    ' dbname=postgres user=postgres"\nlocal = false'
                )
            (agent.folder / "agent.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def pair(stage16: Stage, start_manager: StartManager, tmp_path: Path) -> Iterator[Pair]:
    """Both are configured; neither agent runs yet."""
    primary, standby = manager_pair(stage16, audited=False, tcp=True)
    first = start_manager("4.5.5", server=primary)
    second = start_manager("4.5.5", server=primary)
    second.server = standby
    second.office.active = False
    agents = []
    for name in ("n1", "n2"):
        folder = tmp_path / name
        (folder / "ssl").mkdir(parents=True)
        (folder / "ssl" / "ca.pem").write_text(f"the CA of {name}")
        agents.append(Agent(folder, free_port()))
    made = Pair(
        (first, second),
        (agents[0], agents[1]),
        pyrage.x25519.Identity.generate(),
    )
    made.write()
    yield made
    for agent in agents:
        agent.stop()


def test_a_missed_run_is_made_up_once_and_by_the_active_managers_agent_alone(
    pair: Pair, tmp_path: Path
):
    pair.write(schedule='schedule = "30 2 * * *"\ntime_zone = "Europe/Berlin"')
    first, second = pair.agents
    long_ago = time.time() - 3 * 86_400
    for agent in pair.agents:
        (agent.folder / "kept").mkdir(mode=0o700)
        notes = {"since_wall_s": long_ago, "done_wall_s": long_ago}
        (agent.folder / "kept" / "rota.json").write_text(json.dumps(notes))
        agent.start()
    kept = eventually("it is made up for", first.shelf.list, WITHIN_S)[0]
    assert kept.scheduled
    assert (kept.reason, kept.incident_ids) == ("schedule", ())
    assert kept.sealed
    assert [one.path for one in kept.certificates] == [str(first.folder / "ssl/ca.pem")]
    target = tmp_path / "out.zip"
    first.shelf.take_out(kept.id, target, (pair.key,))
    assert zipfile.ZipFile(target).testzip() is None

    def told() -> Any:
        here = first.here() or {}
        return here if here.get("last_good") else None

    assert eventually("it tells of it", told, WITHIN_S)["scheduled"]
    assert not (second.here() or {}).get("scheduled")
    first.stop()
    first.start()
    eventually("it looks again", lambda: (first.here() or {}).get("version"), WITHIN_S)
    assert len(first.shelf.list()) == 1
    assert second.shelf.list() == ()


def test_a_wrong_password_is_sent_once_and_the_right_one_needs_no_restart(pair: Pair):
    first, manager = pair.agents[0], pair.managers[0]
    pair.write(password="wrong")
    first.start()
    refused = eventually(
        "it says so", lambda: (first.here() or {}).get("refused_login"), WITHIN_S
    )
    assert "unauthorized_error" in refused
    answer = first.ask("POST", ASKED, Scope.OPERATE, json={})
    assert answer.status_code == 409
    assert "refused the login" in answer.json()["detail"]
    assert manager.wrong_passwords() == 1
    (first.folder / "password").write_text(manager.password)
    eventually("it looks again", lambda: (first.here() or {}).get("version"), WITHIN_S)

    begun = first.ask("POST", ASKED, Scope.OPERATE, json={"reason": "a trial"})
    assert begun.status_code == 202
    where = begun.headers["location"]
    eventually(
        "it is kept", lambda: first.ask("GET", where).status_code == 200, WITHIN_S
    )
    found = first.ask("GET", where).json()
    assert (found["reason"], found["sealed"]) == ("a trial", True)
    assert found["certificates"][0]["path"].endswith("ssl/ca.pem")
    assert first.ask("GET", f"{where}/archive").status_code == 403
    assert first.ask("POST", ASKED, json={}).status_code == 403
    archive = first.ask("GET", f"{where}/archive", Scope.DATA)
    assert len(archive.content) == found["stored_bytes"]
    assert archive.headers["etag"] == f'"{found["stored_sha256"]}"'
    assert first.ask("GET", f"{where}x").status_code == 404
    listed = first.ask("GET", ASKED).json()
    assert [one["id"] for one in listed["snapshots"]] == [found["id"]]
    assert manager.password not in first.says()
    assert manager.database_password not in first.says()


def test_a_manager_that_makes_none_is_told_with_what_hangs_there_until_one_is_good(
    pair: Pair,
):
    first, manager = pair.agents[0], pair.managers[0]
    pair.write(schedule="wait_s = 10")
    first.start()
    eventually("it looks", lambda: (first.here() or {}).get("version"), WITHIN_S)
    manager.faults.worker_dead = True
    first.ask("POST", ASKED, Scope.OPERATE, json={})
    failed = eventually(
        "it says so", lambda: (first.here() or {}).get("failed"), WITHIN_S
    )
    assert "has not ended within 10 s" in failed
    told = eventually("on-call is told", lambda: verdict(first), WITHIN_S)
    assert (told["subject"], told["severity"]) == ("n1", "warning")
    execution = failed.partition("execution ")[2].split()[0]
    assert execution in told["evidence"]["reason"]
    assert first.shelf.list() == ()

    manager.faults.worker_dead = False
    with manager.http() as client:
        client.post(f"/executions/{execution}", json={"action": "kill"})
    manager.ended(execution)
    first.ask("POST", ASKED, Scope.OPERATE, json={})
    eventually("one is good", first.shelf.list, WITHIN_S)
    eventually("it is over", lambda: not verdict(first), WITHIN_S)
    assert (first.here() or {})["failed"] is None


def verdict(agent: Agent) -> Any:
    """The verdict about the manager's snapshots; None when there is none."""
    found = agent.ask("GET", "/v1/status").json()["verdicts"]
    return next((one for one in found if one["rule"] == 881), None)
