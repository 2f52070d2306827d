"""Row 881: what is kept of the manager beside an agent; and what managers tell."""

from dataclasses import replace

import pytest

from agent.core import explain
from agent.core.care import ManagerCare, ManagerMember
from agent.core.event import ManagerCareTold
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.policy import NodeSpec, Policy
from agent.core.rules_keeping import not_kept
from agent.core.scene import build
from agent.core.verdict import Severity
from tests.core import given
from tests.core.cluster import Cluster

HOUR_S = 3600.0
START_S = 1_800_000_000.0
WELL = ManagerCare("7.0.5", active=True, cluster="OK", last_good_wall_s=START_S)
SCHEDULED = replace(WELL, scheduled=True, alert_after_s=36 * HOUR_S)


def members(kind: str, *words: str) -> tuple[ManagerMember, ...]:
    return tuple(
        ManagerMember(kind, f"{kind}{number}", f"10.0.0.{number}", word)
        for number, word in enumerate(words, start=1)
    )


def told(care: ManagerCare, name: str = "n1") -> Cluster:
    cluster = Cluster(managers=True)
    cluster.run(3)
    tell(cluster, care, name)
    return cluster


def tell(cluster: Cluster, care: ManagerCare, name: str = "n1") -> None:
    cluster.agents[name].step(ManagerCareTold(cluster.at(name, 0.9), care))
    cluster.run()


LATE = replace(SCHEDULED, last_good_wall_s=START_S - 37 * HOUR_S)
NEVER = replace(SCHEDULED, last_good_wall_s=None, since_wall_s=START_S - 37 * HOUR_S)


@pytest.mark.parametrize(
    ("care", "says", "step"),
    [
        (replace(WELL, refused_login="HTTP 401: unauthorized_error"),
         "it refuses the login (HTTP 401: unauthorized_error)",
         "it is read again by itself"),
        (replace(WELL, members=members("broker", "OK", "Fail", "Fail")),
         "its brokers have no majority (broker2, broker3), so one would hang for ever",
         "start RabbitMQ on broker2, broker3"),
        (replace(WELL, failed="the disk of dir is full."),
         "the last one failed: the disk of dir is full",
         "have one taken: `splitguard vnfm snapshots keep`"),
        (LATE, "the last good one is of 2027-01-13 19:00 UTC, more than 36 h ago",
         "`splitguard vnfm status`"),
        (NEVER, "there is none, though they were due from more than 36 h ago",
         "`splitguard vnfm status`"),
    ],
)  # fmt: skip
def test_row_881_a_manager_that_is_not_kept_is_told_of(care, says, step):
    cluster = told(care)
    found = cluster.verdict("n1", "capture-not-ready")
    assert (found.rule, found.severity) == (881, Severity.WARNING)
    assert explain.sentence(found, cluster.agents["n1"].policy) == (
        f"No snapshot of the manager on n1 can be relied on: {says}."
    )
    assert next_step(found).startswith("On n1: ")
    assert step in next_step(found)
    assert "capture-not-ready" not in cluster.codes("n2")


@pytest.mark.parametrize(
    "care",
    [
        WELL,
        SCHEDULED,
        replace(LATE, scheduled=False),
        replace(LATE, alert_after_s=0.0),
        replace(NEVER, since_wall_s=None),
        replace(WELL, members=members("broker", "OK", "Degraded", "Fail")),
        replace(WELL, members=members("manager", "leader", "offline", "offline")),
    ],
)
def test_row_881_what_is_well_or_not_looked_after_is_not_told_of(care):
    assert told(care).codes("n1") == {"healthy"}


@pytest.mark.parametrize(("late_s", "told_of"), [(0.0, False), (1.0, True)])
def test_row_881_a_snapshot_is_late_after_the_time_that_was_set(late_s, told_of):
    nodes = (NodeSpec("n1", has_postgres=True, has_manager=True),)
    last_s = given.at(0).wall_s
    care = replace(SCHEDULED, last_good_wall_s=last_s)
    now = given.at(care.alert_after_s + late_s)
    scene = build(given.state(care=care), now, Policy("test", "n1", nodes))
    assert (not_kept(scene, "n1") is not None) is told_of


def test_row_881_ends_with_a_good_snapshot():
    cluster = told(replace(WELL, failed="it never ended"))
    cluster.run(5)
    assert cluster.incident("n1", "keeping").status is Status.OPEN
    tell(cluster, WELL)
    cluster.run(8)
    assert cluster.incident("n1", "keeping").status is Status.RESOLVED


def test_row_881_is_not_hidden_by_a_database_that_cannot_be_captured():
    cluster = told(replace(WELL, failed="it never ended"))
    cluster.unreadable.add("n1")
    cluster.run(6)
    found = cluster.agents["n1"].state.view.verdicts
    assert {one.rule for one in found} == {701, 881}


def test_row_881_is_told_to_peers_by_nobody_else():
    cluster = told(replace(WELL, failed="it never ended"))
    cluster.run(6)
    assert not cluster.incidents("n2", "keeping")


# --- what the managers' own cluster says ------------------------------------------


def test_row_209_says_what_another_manager_tells_of_the_cluster():
    cluster = Cluster(managers=True)
    cluster.run(3)
    down = replace(
        WELL,
        cluster="Degraded",
        members=(
            *members("manager", "OK", "Fail", "OK"),
            *members("db", "OK", "OK", "OK"),
            *members("broker", "OK", "Fail", "OK"),
        ),
    )
    cluster.managers_up["n2"] = False
    for name in ("n1", "n2"):
        cluster.agents[name].step(ManagerCareTold(cluster.at(name, 0.9), down))
    cluster.run(4)
    found = cluster.verdict("n1", "manager-down")
    assert explain.sentence(found, cluster.agents["n1"].policy).endswith(
        "The manager on n1 says of its cluster: manager manager2 Fail,"
        " broker broker2 Fail."
    )
    assert "cfy_manager restart" in next_step(found)
    silent = cluster.verdict("n2", "manager-down")
    assert "cluster_says" not in silent.evidence, "it says nothing any more"
    plain = cluster.verdict("n3", "manager-down")
    assert "cluster_says" not in plain.evidence, "nobody told this agent"


def test_row_209_stands_though_the_managers_own_cluster_calls_itself_whole():
    cluster = told(replace(WELL, members=members("manager", "OK", "OK", "OK")))
    cluster.managers_up["n2"] = False
    cluster.run(4)
    found = cluster.verdict("n1", "manager-down")
    assert found.subject == "n2"
    assert "cluster_says" not in found.evidence
