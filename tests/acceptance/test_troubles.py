"""Troubles on one running lab: what each is called while it lasts, and that it ends.

`splitguard status --watch --output jsonl` runs beside two of the agents all the time.
A trouble is played, its repair is left to the stand-in managers, and what the watch
has shown from the one healthy headline to the next one must be the verdicts that the
design names, in their order, and nothing that did not happen.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.fix_lab import NODES, SPLITGUARD, Cluster, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NEVER = {"config-error", "foreign-system", "lineage-twin", "unprotected"}
"""What no trouble of this module is."""
SPLIT_STAGES = {"split-brain-suspected", "split-brain", "lineage-diverged"}
SEE_S = 30
REPAIR_S = 90


class Watch:
    """`splitguard status --watch` beside one agent, and what it has printed."""

    def __init__(self, cluster: Cluster, node: str, out: Path) -> None:
        self.node = node
        self._out = out
        self._from = 0
        with out.open("wb") as file:
            self.process = subprocess.Popen(
                [SPLITGUARD, "status", "--watch", "--output", "jsonl",
                 "--socket", cluster.command.state_dir / node / "agent.sock"],
                stdout=file, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        until(SEE_S, lambda: self.shown() or None)

    def shown(self) -> list[Any]:
        """Every status that it has printed whole since `forget`."""
        lines = self._out.read_text("utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines[self._from :]]

    def forget(self) -> None:
        """Begin with the status that is shown now."""
        self._from += max(0, len(self.shown()) - 1)

    def headlines(self) -> list[str]:
        """The verdicts of the headline, in the order in which they took turns."""
        found: list[str] = []
        for status in self.shown():
            verdict = status["headline"]["verdict"]
            if found[-1:] != [verdict]:
                found.append(verdict)
        return found

    def said(self) -> set[tuple[str, str]]:
        """Every verdict with its subject that was shown at any time."""
        return {
            (one["verdict"], one["subject"])
            for status in self.shown()
            for one in status["verdicts"]
        }

    def has_said(self, verdict: str, subject: str) -> None:
        """Wait until this is shown."""
        wanted = (verdict, subject)
        until(SEE_S, lambda: wanted in self.said() or None, self.headlines)


Watches = dict[str, Watch]


@pytest.fixture(scope="module")
def watched(
    lab_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watches]:
    """Watches beside n1 and n3, from before the first trouble to after the last."""
    folder = tmp_path_factory.mktemp("watch")
    watches = {n: Watch(lab_cluster, n, folder / f"{n}.jsonl") for n in ("n1", "n3")}
    yield watches
    for watch in watches.values():
        watch.process.terminate()
        watch.process.wait(10)


@pytest.fixture
def watches(watched: Watches) -> Watches:
    """Both watches, beginning with the status that is shown now."""
    for watch in watched.values():
        watch.forget()
        assert watch.headlines() == ["healthy"]
    return watched


def in_order(part: list[str], whole: list[str]) -> bool:
    """Whether `part` stands in `whole` in this order, with others between."""
    rest = iter(whole)
    return all(one in rest for one in part)


def shows(watch: Watch, *wanted: str) -> None:
    """Assert that these headlines took turns, from healthy to healthy."""
    order = ["healthy", *wanted, "healthy"]
    until(SEE_S, lambda: in_order(order, watch.headlines()) or None, watch.headlines)
    assert watch.process.poll() is None
    strange = {
        f"{one['verdict']} {one['subject']}: {one['sentence']}"
        for status in watch.shown()
        for one in status["verdicts"]
        if one["verdict"] in NEVER
    }
    assert not strange, "; ".join(strange)


def over(cluster: Cluster, known: set[str]) -> list[Any]:
    """Wait until all agents are healthy and no new incident stands; return those.

    What waits for a person is acknowledged, by the command.
    """

    def done() -> list[Any] | None:
        if not all(headline(cluster, node) == "healthy" for node in NODES):
            return None
        told = [one for one in cluster.incidents() if one["id"] not in known]
        for one in told:
            if one["sticky"] and one["status"] == "open":
                acknowledge(cluster, one)
        waiting = {"pending", "open", "acknowledged"}
        return told if not any(one["status"] in waiting for one in told) else None

    return until(REPAIR_S, done, lambda: standing(cluster))


def acknowledge(cluster: Cluster, one: Any) -> None:
    socket = cluster.command.state_dir / one["agent"] / "agent.sock"
    ran = subprocess.run(
        [SPLITGUARD, "incidents", "ack", one["id"], "--socket", socket],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def standing(cluster: Cluster) -> list[str]:
    """What stands at present, for whoever must find out why."""
    told = [f"{node}: {cluster.verdicts(node)}" for node in NODES]
    told += [
        f"{one['name']}: {one['note']}" for one in cluster.command.status()["nodes"]
    ]
    told += [
        f"{one['agent']}: {one['id']} {one['verdict']} {one['subject']} {one['status']}"
        for one in cluster.incidents()
        if one["status"] != "resolved"
    ]
    return told


def headline(cluster: Cluster, node: str) -> str | None:
    status = cluster.agent(node, "/v1/status")
    return status["headline"]["verdict"] if status else None


def known(cluster: Cluster) -> set[str]:
    return {one["id"] for one in cluster.incidents()}


def first_pages(cluster: Cluster, incident: str) -> list[str]:
    """The ids of the messages that opened this incident; a repetition is left out."""
    return [
        notice["webhook_id"]
        for notice in cluster.notices()
        if notice["body"]["type"] == "splitguard.incident.opened"
        and notice["body"]["data"]["incident"]["id"] == incident
    ]


def the_split(told: list[Any]) -> Any:
    """The one incident of the split, which all three agents tell under one id."""
    split = [one for one in told if one["family"] == "split"]
    assert len({one["id"] for one in split}) == 1
    assert {one["agent"] for one in split} == set(NODES)
    return split[0]


def write_on(cluster: Cluster, name: str, deployment: str) -> None:
    """Make a node's database the newest, through its manager."""
    node = cluster.node(name)
    password = psycopg.conninfo.conninfo_to_dict(node["postgres_dsn"])["password"]
    made = httpx.put(
        f"{node['manager_url']}/api/v3.1/deployments/{deployment}",
        json={"content": name}, auth=("admin", str(password)),
        headers={"Tenant": "default_tenant"}, timeout=10, trust_env=False,
    )  # fmt: skip
    assert made.status_code == 201


def roles(cluster: Cluster) -> dict[str, str]:
    return {node["name"]: node["role"] for node in cluster.command.status()["nodes"]}


def test_a_node_killed_repaired_and_killed_again_is_two_incidents_and_two_pages(
    lab_cluster: Cluster, watches: Watches
):
    cluster, ids = lab_cluster, list[str]()
    for _ in range(2):
        before = known(cluster)
        watches["n1"].forget()
        cluster.command.done("kill", "n2")
        watches["n1"].has_said("node-down", "n2")
        cluster.command.done("start", "n2")
        told = over(cluster, before)
        shows(watches["n1"], "node-suspect", "node-down")
        reach = {one["id"] for one in told if one["family"] == "reach"}
        assert {one["subject"] for one in told if one["family"] == "reach"} == {"n2"}
        assert len(reach) == 1
        ids += reach
        assert not SPLIT_STAGES & {verdict for verdict, _ in watches["n1"].said()}
    assert len(set(ids)) == 2
    pages = [first_pages(cluster, one) for one in ids]
    assert [len(page) for page in pages] == [1, 1]
    webhook_ids = [notice["webhook_id"] for notice in cluster.notices()]
    assert len(set(webhook_ids)) == len(webhook_ids)


def test_a_second_primary_is_proven_told_once_and_resynced(
    lab_cluster: Cluster, watches: Watches
):
    cluster, before = lab_cluster, known(lab_cluster)
    assert roles(cluster) == {"n1": "primary", "n2": "standby", "n3": "standby"}
    cluster.command.done("promote", "n3")
    watches["n1"].has_said("split-brain", "cluster")
    told = over(cluster, before)
    shows(watches["n1"], "split-brain")
    shows(watches["n3"], "split-brain")
    assert len(first_pages(cluster, the_split(told)["id"])) == 1
    assert sorted(roles(cluster).values()) == ["primary", "standby", "standby"]


def test_a_standby_that_is_cut_off_comes_back_as_a_split_brain_and_wins(
    lab_cluster: Cluster, watches: Watches
):
    cluster, before = lab_cluster, known(lab_cluster)
    primary = next(name for name, role in roles(cluster).items() if role == "primary")
    cut = "n1" if primary == "n3" else "n3"
    cluster.command.done("partition", cut)
    watches[primary].has_said("node-down", cut)
    # Its manager sees no other one and becomes active, as the vendor's guide says.
    watches[cut].has_said("split-brain-suspected", "cluster")
    write_on(cluster, cut, "while-apart")  # its database is the newest now
    cluster.command.done("heal")
    told = over(cluster, before)
    shows(watches[primary], "node-suspect", "node-down", "split-brain")
    shows(watches[cut], "observer-isolated", "split-brain-suspected")
    accused = {subject for verdict, subject in watches[cut].said()
               if verdict in ("node-down", "node-unreachable")}  # fmt: skip
    assert not accused
    assert ("failover", "cluster") in watches[primary].said()
    moved = [one for one in told if one["family"] == "primary"]
    assert {(one["verdict"], one["acknowledged_by"] is None) for one in moved} == {
        ("failover", False)
    }
    assert len({one["id"] for one in moved}) == 1
    assert len(first_pages(cluster, the_split(told)["id"])) == 1
    assert roles(cluster)[cut] == "primary"
