"""When the manager beside an agent is asked, and takes a snapshot."""

from dataclasses import replace

import pytest

from agent.core import managercare
from agent.core.care import (
    KEPT_MAX,
    TRIED_MAX,
    TROUBLE_MAX,
    KeptBrief,
    ManagerCare,
    ManagerMember,
)
from agent.core.event import ManagerCareTold, Started
from agent.core.managercare import ManagerOrder
from agent.core.observation import Channel
from tests.core.cluster import Cluster

CARE = ManagerCare("4.5.5", active=True)


def tell(cluster: Cluster, name: str, care: ManagerCare) -> None:
    cluster.agents[name].step(ManagerCareTold(cluster.at(name, 0.9), care))


def order(cluster: Cluster, name: str, more_s: float = 0.9) -> ManagerOrder | None:
    agent = cluster.agents[name]
    now_s = cluster.at(name, more_s).monotonic_s
    return managercare.wanted(agent.state, now_s, agent.policy)


def given_order(cluster: Cluster, name: str) -> ManagerOrder:
    found = order(cluster, name)
    assert found is not None
    return found


def may_look(cluster: Cluster, name: str) -> bool:
    agent = cluster.agents[name]
    now_s = cluster.at(name, 0.9).monotonic_s
    return managercare.looks_allowed(agent.state, now_s, agent.policy)


def scheduler(cluster: Cluster) -> list[str]:
    return [
        name
        for name, agent in cluster.agents.items()
        if managercare.takes_scheduled(agent.state, agent.policy, cluster.at(name, 0.9))
    ]


def kept(*incidents: str, name: str = "sg-1", good: bool = True) -> KeptBrief:
    return KeptBrief(name, "split-brain", incidents, 1_800_000_000.0, 1000, good)


def cut() -> Cluster:
    """n1, the primary with the active manager of the 4.x line, was cut off."""
    cluster = Cluster(managers=True)
    cluster.run(5)
    cluster.cut("n1")
    cluster.run(4)
    return cluster


def split() -> Cluster:
    """Both sides took writes, each through its own manager; the link is back."""
    cluster = cut()
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.active["n2"] = True
    for _ in range(3):
        cluster.servers["n1"].write()
        cluster.servers["n2"].write(2)
        cluster.run()
    cluster.heal()
    cluster.run(3)
    return cluster


# --- a side that is cut off ------------------------------------------------------


@pytest.mark.fact("backup-writes-wal")
def test_a_clean_side_that_is_cut_off_is_asked_nothing():
    """A login writes a row: it would push the server past the fork by itself."""
    cluster = cut()
    assert cluster.codes("n1") >= {"observer-isolated"}
    assert order(cluster, "n1") is None
    assert not may_look(cluster, "n1")
    assert "n1" not in scheduler(cluster)


def test_what_goes_on_there_is_held_too_until_something_was_written():
    def harmless(cluster: Cluster) -> bool:
        agent = cluster.agents["n1"]
        return managercare.writing_harmless(agent.state, agent.policy)

    cluster = Cluster(managers=True)
    cluster.run(5)
    assert harmless(cluster)
    cluster.cut("n1")
    cluster.run(4)
    assert not harmless(cluster)
    cluster.servers["n1"].write()
    cluster.run(1)
    assert harmless(cluster)
    assert harmless(split())


def test_once_it_has_written_what_others_lack_its_manager_takes_a_snapshot():
    cluster = cut()
    cluster.servers["n1"].write()
    cluster.run()
    found = order(cluster, "n1")
    assert found is not None
    assert found.reason == "split-brain-suspected, observer-isolated"
    standing = {cluster.incident("n1", family).id for family in ("split", "self")}
    assert set(found.incident_ids) == standing
    assert may_look(cluster, "n1")


def test_a_side_that_is_cut_off_is_asked_only_when_that_has_lasted():
    cluster = Cluster(managers=True, isolation_hold_s=8.0)
    cluster.run(5)
    cluster.cut("n1")
    cluster.run(4)
    cluster.servers["n1"].write()
    cluster.run()
    assert cluster.codes("n1") >= {"observer-isolated"}
    assert order(cluster, "n1") is None
    cluster.run(8)
    assert order(cluster, "n1") is not None


def test_that_another_node_is_cut_off_calls_for_none_here():
    cluster = cut()
    cluster.servers["n1"].write()
    cluster.run()
    agent, alone = cluster.agents["n1"], cluster.incident("n1", "self")
    for node in ("n1", "n2"):
        incident = replace(alone, verdict=replace(alone.verdict, subject=node))
        ledger = replace(agent.state.ledger, incidents=(incident,))
        agent.state = replace(agent.state, ledger=ledger)
        assert (order(cluster, "n1") is not None) is (node == "n1")


def test_a_trouble_that_costs_no_writes_has_none_taken():
    cluster = Cluster(managers=True)
    cluster.run(5)
    cluster.kill("n3")
    cluster.run(6)
    assert cluster.incident("n1", "reach").verdict.code == "node-down"
    assert order(cluster, "n1") is None


def test_a_standby_that_is_cut_off_is_asked_nothing():
    cluster = Cluster(managers=True)
    cluster.run(5)
    cluster.cut("n3")
    cluster.active["n3"] = True
    cluster.run(4)
    assert order(cluster, "n3") is None
    assert not may_look(cluster, "n3")


def test_nothing_is_asked_before_an_agent_has_looked_around():
    cluster = Cluster(managers=True)
    assert not may_look(cluster, "n1")
    cluster.run(3)
    assert may_look(cluster, "n1")
    cluster.agents["n1"].step(Started(cluster.at("n1", 0.9), "again"))
    assert not may_look(cluster, "n1")


def test_a_manager_that_answers_nobody_is_not_asked_more():
    cluster = Cluster(managers=True)
    cluster.managers_up["n1"] = False
    cluster.run(4)
    assert not may_look(cluster, "n1")
    assert scheduler(cluster) == []


def test_a_manager_that_is_late_may_be_asked_and_takes_no_snapshot():
    cluster = split()
    cluster.deaf = {("n2", "n2", Channel.MANAGER)}
    cluster.run(3)
    assert may_look(cluster, "n2")
    assert order(cluster, "n2") is None
    assert "n2" not in scheduler(cluster)


# --- a split ---------------------------------------------------------------------


def test_both_sides_of_a_split_have_a_snapshot_taken_and_nobody_else():
    cluster = split()
    assert "split-brain" in cluster.codes("n1")
    for name in ("n1", "n2"):
        found = order(cluster, name)
        assert found is not None, name
        assert "split-brain" in found.reason
        assert cluster.incident(name, "split").id in found.incident_ids
    assert order(cluster, "n3") is None


def test_a_healthy_cluster_wants_none():
    cluster = Cluster(managers=True)
    cluster.run(5)
    assert [order(cluster, name) for name in cluster.agents] == [None] * 3


def test_a_trouble_that_is_clearing_has_none_taken():
    cluster = split()
    agent = cluster.agents["n2"]
    ledger = agent.state.ledger
    clearing = tuple(replace(one, clear_since_s=1.0) for one in ledger.incidents)
    agent.state = replace(agent.state, ledger=replace(ledger, incidents=clearing))
    assert order(cluster, "n2") is None


def test_there_is_one_for_each_incident():
    cluster = split()
    found = given_order(cluster, "n2")
    tell(cluster, "n2", CARE.begun("sg-1"))
    assert order(cluster, "n2") is None, "one is being made"
    tell(cluster, "n2", CARE.after_good(kept(*found.incident_ids, good=False)))
    assert order(cluster, "n2") is not None, "it was no good"
    tell(cluster, "n2", CARE.after_good(kept(*found.incident_ids)))
    cluster.run(5)
    assert order(cluster, "n2") is None


def test_a_manager_that_is_not_active_would_refuse_and_is_not_asked():
    cluster = split()
    cluster.active["n2"] = False
    cluster.run(2)
    assert order(cluster, "n2") is None
    cluster.managers_silent = True
    cluster.run(2)
    assert order(cluster, "n2") is not None, "it does not say so"
    tell(cluster, "n2", replace(CARE, active=False))
    assert order(cluster, "n2") is None


def test_after_a_refused_login_nothing_is_wanted():
    cluster = split()
    tell(cluster, "n2", replace(CARE, refused_login="HTTP 401"))
    assert order(cluster, "n2") is None


def test_what_fails_is_tried_again_later_and_later_and_then_no_more():
    cluster = split()
    found, care, waits = given_order(cluster, "n2"), CARE, []
    for _ in range(managercare.TRIES_MAX):
        failed_s = cluster.at("n2", 0.9).wall_s
        care = care.after_failure("the disk is full", found.incident_ids, failed_s)
        tell(cluster, "n2", care)
        waits.append(pause(cluster))
    assert waits == [60, 120, 240, 480, 960, None]
    assert order(cluster, "n2", more_s=86_400.0) is None


def pause(cluster: Cluster) -> int | None:
    """How long until n2 is asked again, by the second."""
    for seconds in range(2000):
        agent = cluster.agents["n2"]
        seen = agent.state.view.latest["n2/manager"]
        alive = replace(seen, received_s=seen.received_s + seconds)
        latest = {**agent.state.view.latest, "n2/manager": alive}
        state = replace(agent.state, view=replace(agent.state.view, latest=latest))
        now_s = cluster.at("n2", 0.9).monotonic_s + seconds
        if managercare.wanted(state, now_s, agent.policy) is not None:
            return seconds
    return None


def test_a_failure_of_another_incident_holds_nothing_back():
    cluster = split()
    wall_s = cluster.at("n2", 0.9).wall_s
    tell(cluster, "n2", CARE.after_failure("broken", (), wall_s))
    assert order(cluster, "n2") is not None
    tell(cluster, "n2", CARE.after_failure("broken", ("inc-other",), wall_s))
    assert order(cluster, "n2") is not None


def test_a_clock_that_was_set_back_does_not_hold_a_try_back_for_ever():
    cluster = split()
    found = given_order(cluster, "n2")
    ahead_s = cluster.at("n2").wall_s + 7200.0
    tell(cluster, "n2", CARE.after_failure("x", found.incident_ids, ahead_s))
    assert order(cluster, "n2") is not None


# --- the schedule ----------------------------------------------------------------


def test_of_the_4_x_line_the_active_managers_agent_takes_the_scheduled_one():
    cluster = Cluster(managers=True)
    cluster.run(3)
    assert scheduler(cluster) == ["n1"]
    cluster.active = {"n1": False, "n2": True, "n3": False}
    cluster.run(2)
    assert scheduler(cluster) == ["n2"]
    cluster.active["n1"] = True
    cluster.run(2)
    assert scheduler(cluster) == [], "nobody, while two say that they are active"


def test_later_the_first_of_the_list_whose_manager_answers_takes_it():
    cluster = Cluster(managers=True)
    cluster.manager_version = "7.0.5"
    cluster.active = dict.fromkeys(cluster.active, True)
    cluster.run(3)
    assert scheduler(cluster) == ["n1"]
    cluster.managers_up["n1"] = False
    cluster.run(4)
    assert scheduler(cluster) == ["n2"]


def test_what_a_login_has_told_counts_where_nothing_is_said_without_one():
    cluster = Cluster(managers=True)
    cluster.managers_silent = True
    cluster.run(3)
    assert scheduler(cluster) == []
    tell(cluster, "n2", CARE)
    assert scheduler(cluster) == ["n2"]
    for name in cluster.agents:
        tell(cluster, name, ManagerCare("6.4.2", active=True))
    assert scheduler(cluster) == ["n1"]


def test_a_node_without_a_manager_takes_none():
    cluster = Cluster()
    cluster.run(3)
    assert scheduler(cluster) == []
    assert order(cluster, "n1") is None


# --- what is remembered ----------------------------------------------------------


def test_what_is_kept_is_bounded_and_holds_on_to_incidents():
    care = ManagerCare().after_good(kept("inc-1", name="first"))
    for number in range(100):
        care = care.after_good(kept(name=f"sg-{number}"))
    assert len(care.kept) == KEPT_MAX + 1
    assert care.kept[0].id == "sg-99"
    assert care.kept[-1].id == "first"
    for number in range(200):
        care = care.after_failure("x", (f"inc-{number}",), float(number))
    assert len(care.tried) == TRIED_MAX
    for number in range(200):
        care = care.after_good(kept(f"inc-{number}", name=f"sg-{number}"))
    assert len(care.kept) <= KEPT_MAX + TRIED_MAX
    assert care.tried == ()


def test_why_it_failed_is_told_to_its_end_where_what_hangs_is_named():
    told = "n1: cannot create: " + "there are other executions running; " * 6
    care = ManagerCare().after_failure(told + "kill 4f1c", (), 5.0)
    assert care.brief(6.0).trouble.endswith(told + "kill 4f1c")
    endless = care.after_failure(told * 40 + "kill 4f1c", (), 5.0).brief(6.0).trouble
    assert TROUBLE_MAX - 2 <= len(endless) <= TROUBLE_MAX
    assert endless.startswith("the last snapshot failed: n1: cannot create: there")
    assert "…" in endless
    assert endless.endswith("kill 4f1c")


def test_a_good_one_ends_the_failure_and_the_newest_counts():
    care = ManagerCare().after_failure("broken", ("inc-1",), 5.0).begun("sg-2")
    assert (care.failed, care.failed_wall_s, care.running) == ("broken", 5.0, "sg-2")
    newer = replace(kept("inc-1"), created_wall_s=90.0)
    after = care.after_good(newer).after_good(replace(newer, created_wall_s=40.0))
    assert (after.failed, after.failed_wall_s, after.running) == ("", None, "")
    assert (after.last_good_wall_s, after.tried) == (90.0, ())


@pytest.mark.parametrize(
    ("kind", "words", "away"),
    [
        ("broker", ("OK", "OK", "Fail"), 0),
        ("broker", ("OK", "Fail", "Fail"), 2),
        ("broker", ("Degraded", "OK", "fail"), 0),
        ("db", ("Fail", "OK"), 1),
        ("manager", ("OK", "Fail", "offline"), 0),
        ("manager", ("Fail", "offline"), 2),
        ("broker", (), 0),
    ],
)
def test_brokers_and_databases_need_a_majority_and_managers_one(kind, words, away):
    members = tuple(
        ManagerMember(kind, f"x{number}", "10.0.0.1", word)
        for number, word in enumerate(words)
    )
    assert len(ManagerCare(members=members).lacking(kind)) == away
