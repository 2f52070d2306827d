"""The life of a cluster of managers: what an operator's hands do, end to end.

Real servers, real agents. The managers are asked over HTTP as the vendor's client asks.
"""

import json
import shutil
from typing import Any

import httpx
import psycopg
import pytest

from tests.fix_lab import NODES, Cluster, LabCommand, until

pytestmark = pytest.mark.slow


ARCHIVE = "snapshots/daily/archive"


class Hands:
    """An operator: commands, and the managers' API."""

    def __init__(self, lab: LabCommand, *words: object) -> None:
        lab.done("up", "--detach", *words)
        self.lab = lab
        self.cluster = Cluster(lab, lab.status())
        plan = json.loads((lab.state_dir / "lab.json").read_text())
        self.password = plan["secrets"]["manager"]

    def do(self, *words: object) -> str:
        return self.lab.done("manager", *words).words

    def refused(self, *words: object) -> str:
        ran = self.lab("manager", *words)
        assert ran.code == 1, ran.words
        return ran.words

    def ask(self, node: str, method: str, path: str, **more: Any) -> httpx.Response:
        url = f"{self.cluster.node(node)['manager_url']}/api/v3.1/{path}"
        return httpx.request(
            method, url, auth=("admin", self.password), trust_env=False, timeout=60,
            headers={"Tenant": "default_tenant"}, **more,
        )  # fmt: skip

    def nodes(self, asked: str) -> dict[str, Any]:
        items = self.ask(asked, "GET", "cluster/nodes").json()["items"]
        return {one["name"]: one for one in items}

    def rows(self, node: str) -> int:
        return self._number(node, "SELECT count(*) FROM blueprints")

    def system(self, node: str) -> int:
        wanted = "SELECT system_identifier FROM pg_control_system()"
        return self._number(node, wanted)

    def _number(self, node: str, statement: str) -> int:
        with psycopg.connect(self.cluster.node(node)["postgres_dsn"]) as session:
            found = session.execute(statement).fetchone()
        assert found is not None
        return int(found[0])

    def roles(self) -> dict[str, str]:
        return {one["name"]: one["role"] for one in self.lab.status()["nodes"]}


def removed_node_is_left_out(hands: Hands) -> None:
    """`DELETE /cluster/nodes/n3`: it hears of it, and nobody counts it."""
    gone = hands.ask("n1", "DELETE", "cluster/nodes/n3")
    assert gone.json()["name"] == "n3"
    assert set(hands.nodes("n1")) == {"n1", "n2"}
    assert hands.ask("n1", "DELETE", "cluster/nodes/n3").status_code == 404
    assert hands.ask("n1", "DELETE", "cluster/nodes/n1").status_code == 400

    def heard() -> bool | None:
        answer = hands.ask("n3", "GET", "status")
        return answer.json().get("error_code") == "removed_from_cluster" or None

    until(20, heard)
    refusal = hands.ask("n3", "GET", "cluster/nodes")
    assert refusal.json()["error_code"] == "removed_from_cluster"
    assert "was removed from its cluster" in hands.refused("join", "n3", "n1")


def machine_without_manager_keeps_its_agent(hands: Hands) -> None:
    """`cfy_manager remove`: what the manager had is gone, and the agent tells it."""
    home = hands.lab.state_dir / "n3"
    kept = sorted(path.name for path in (home / "disk").rglob("*.pem"))
    assert len(kept) == 10
    hands.do("remove", "n3")
    assert not list((home / "disk").rglob("*.pem"))
    assert not (home / "pgdata").exists()
    assert not (home / "manager").exists()
    told = ("postgres-down", "n3")
    until(30, lambda: told in hands.cluster.verdicts("n3") or None)
    assert "has no manager" in hands.refused("remove", "n3")
    given = home / "disk/home/admin/files/ssl"
    given.mkdir(parents=True)
    (given / "ca_key.pem").write_text("the old authority\n")
    hands.do("install", "n3")
    own = home / "disk/etc/cloudify/ssl/cloudify_internal_ca_key.pem"
    assert own.read_text() == "the old authority\n"
    assert "has a manager already" in hands.refused("install", "n3")
    assert hands.system("n3") != hands.system("n1")
    assert hands.ask("n3", "GET", "cluster/nodes").status_code == 404
    assert hands.ask("n3", "GET", "cluster").json()["initialized"] is False


def test_a_node_leaves_is_replaced_and_leads(lab: LabCommand):
    """The guide's "one manager cluster node down", and its joiner that is not empty."""
    hands = Hands(lab)
    lab.done("write", "--count", 30)
    assert hands.nodes("n1")["n1"]["master"]
    assert "belongs to the cluster already" in hands.refused("join", "n3", "n1")
    removed_node_is_left_out(hands)
    machine_without_manager_keeps_its_agent(hands)
    made = hands.ask("n3", "PUT", "blueprints/mine", json={"content": "x"})
    assert made.status_code == 201
    assert "n3 is not empty" in hands.refused("join", "n3", "n1")
    assert set(hands.nodes("n1")) == {"n1", "n2"}
    hands.do("remove", "n3")
    hands.do("install", "n3")
    hands.do("join", "n3", "n1")
    assert hands.rows("n3") == hands.rows("n1") > 0
    assert hands.ask("n3", "GET", "status").json()["error_code"] == "not_cluster_master"
    assert hands.ask("n1", "PUT", "snapshots/daily", json={}).status_code == 201
    until(20, lambda: hands.ask("n1", "GET", ARCHIVE).is_success or None)
    archive = hands.ask("n1", "GET", ARCHIVE).content
    hands.do("set-active", "n3")
    until(20, lambda: hands.ask("n3", "GET", ARCHIVE).content == archive or None)
    assert hands.roles() == {"n1": "standby", "n2": "standby", "n3": "primary"}
    assert [n for n, one in hands.nodes("n2").items() if one["master"]] == ["n3"]
    hands.cluster.until_healthy(90)


def test_a_whole_cluster_set_up_anew_is_healthy_to_the_same_agents(lab: LabCommand):
    """All are torn down and installed; the one that leads is not the one that did."""
    hands = Hands(lab)
    lab.done("write", "--count", 9)
    hands.do("set-active", "n2")
    before = hands.system("n2")
    for node in NODES:
        hands.do("remove", node)
    hands.do("install", "n1")
    assert hands.rows("n1") == 0
    hands.do("start", "n1")
    for node in ("n2", "n3"):
        hands.do("install", node)
        hands.do("join", node, "n1")
    systems = {hands.system(node) for node in NODES}
    assert len(systems) == 1
    assert before not in systems
    hands.cluster.until_healthy(90)
    splits = {"split-brain", "split-brain-suspected", "lineage-diverged"}
    assert not splits & {one["verdict"] for one in hands.cluster.incidents()}


def test_a_dead_machine_is_replaced_by_a_new_one(lab: LabCommand):
    """The active node's power goes, and the new one's while it joins."""
    hands = Hands(lab, "--no-agents")
    lab.done("write", "--count", 9)
    lab.done("kill", "n1")
    until(30, lambda: hands.roles()["n2"] == "primary" or None, hands.roles)
    assert "n1 does not run" in hands.refused("remove", "n1")
    assert hands.ask("n2", "DELETE", "cluster/nodes/n1").is_success
    hands.do("install", "n1")
    assert hands.rows("n1") == 0
    hands.do("join", "n1", "n2")
    assert hands.rows("n1") == hands.rows("n2") > 0
    lab.done("kill", "n1")
    shutil.rmtree(lab.state_dir / "n1/pgdata")
    (lab.state_dir / "n1/resync").write_text("empty: n2")
    lab.done("start", "n1")
    until(40, lambda: hands.roles()["n1"] == "standby" or None, hands.roles)


def test_a_cluster_of_later_managers_serves_from_whichever_leads(lab: LabCommand):
    """7.0.5: all are active; a minority's database stands by, and its manager waits."""
    hands = Hands(lab, "--manager", "7.0.5", "--no-agents")
    assert hands.ask("n3", "PUT", "blueprints/one", json={"content": "x"}).is_success
    until(20, lambda: hands.rows("n1") == 1 or None)
    hands.do("set-active", "n2")
    assert hands.ask("n1", "PUT", "blueprints/two", json={"content": "x"}).is_success
    lab.done("partition", "n2")
    both = {"n1": "primary", "n2": "standby", "n3": "standby"}
    until(40, lambda: hands.roles() == both or None, hands.roles)
    hands.do("fault", "n1", "html")
    assert hands.ask("n1", "GET", "version").status_code == 502
    hands.do("fault", "n1", "none")
    assert hands.ask("n1", "GET", "version").json()["version"] == "7.0.5"
    lab.done("heal")
    assert hands.ask("n1", "DELETE", "managers/n3").is_success
    listed = hands.ask("n1", "GET", "managers").json()["items"]
    assert {one["hostname"] for one in listed} == {"n1", "n2"}
