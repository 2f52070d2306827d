"""Nine machines: three managers, three databases, three brokers, each on its own.

The brokers are no nodes of ours. The managers have an agent each, which sees and tells
and counts in no majority; every one of these managers is active.
"""

from dataclasses import replace

import pytest

from agent.core import explain, managercare, protection
from agent.core.capture import Level
from agent.core.care import ManagerCare, ManagerMember
from agent.core.event import ManagerCareTold
from agent.core.prediction import winner
from agent.core.reporting import protection_line
from tests.core.cluster import Cluster

DATABASES = ("n1", "n2", "n3")
MANAGERS = ("m1", "m2", "m3")


def nine(**policy) -> Cluster:
    cluster = Cluster(3, apart=3, **policy)
    cluster.run(4)
    return cluster


def part(cluster: Cluster, *names: str) -> None:
    """Cut these off from all others; they see each other."""
    for name in names:
        for other in cluster.agents:
            if other not in names:
                cluster.cuts |= {(name, other), (other, name)}


def split(**policy) -> Cluster:
    """n1 and m1 were apart from the others; both sides took writes; it is healed."""
    cluster = nine(**policy)
    part(cluster, "n1", "m1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    for _ in range(3):
        cluster.servers["n1"].write()
        cluster.servers["n2"].write(2)
        cluster.run()
    cluster.heal()
    cluster.run(4)
    return cluster


def said(cluster: Cluster) -> dict[str, set[str]]:
    return {name: cluster.codes(name) for name in cluster.agents}


def orders(cluster: Cluster) -> list[str]:
    return [
        name
        for name, agent in cluster.agents.items()
        if managercare.wanted(
            agent.state, cluster.at(name, 0.9).monotonic_s, agent.policy
        )
    ]


def test_all_agree_that_all_is_well_and_who_the_primary_is():
    cluster = nine()
    assert said(cluster) == {name: {"healthy"} for name in (*DATABASES, *MANAGERS)}
    for agent in cluster.agents.values():
        assert agent.policy.voters == DATABASES
        assert agent.policy.majority == 2
        primary = agent.state.knowledge.primary
        assert primary is not None
        assert primary.node == "n1"


@pytest.mark.parametrize("name", [*DATABASES, *MANAGERS])
def test_a_machine_that_dies_is_down_for_all_others(name):
    cluster = nine()
    cluster.kill(name)
    cluster.run(6)
    for other in (*DATABASES, *MANAGERS):
        if other == name:
            continue
        found = cluster.verdict(other, "node-down")
        assert (found.subject, found.evidence["voters"]) == (name, 3)
        assert found.evidence["confirmed_by"] == (2 if name in DATABASES else 3)


def test_all_managers_down_is_no_lost_majority():
    cluster = nine()
    for name in MANAGERS:
        cluster.kill(name)
    cluster.run(6)
    assert cluster.codes("n1") == {"node-down"}
    assert cluster.agents["n1"].state.view.verdicts[0].severity == "critical"


def test_an_agent_beside_a_manager_that_sees_no_majority_says_so_and_keeps_nothing():
    cluster = nine()
    part(cluster, "m1")
    cluster.run(6)
    found = cluster.verdict("m1", "observer-isolated")
    assert (found.rule, found.evidence["reachable"]) == (103, 0)
    assert cluster.codes("m1") == {"observer-isolated"}
    policy = cluster.agents["m1"].policy
    assert explain.sentence(found, policy).startswith(
        "The agent on m1 sees 0 of 3 voters, which is no majority; it misses n1, n2 "
    )
    assert not cluster.agents["m1"].actions or not protection.unfinished(
        cluster.agents["m1"].state, cluster.agents["m1"].policy
    )
    assert orders(cluster) == []


def test_with_one_database_a_cut_off_manager_does_not_see_a_majority_either():
    cluster = nine()
    part(cluster, "n1", "m1")
    cluster.run(6)
    assert "observer-isolated" in cluster.codes("m1")
    assert cluster.verdict("n1", "observer-isolated").rule == 101
    assert "observer-isolated" not in cluster.codes("m2")
    assert protection.unfinished(
        cluster.agents["n1"].state, cluster.agents["n1"].policy
    )
    assert orders(cluster) == [], "nobody beside m1 can tell whether that side is clean"


def test_a_split_of_the_databases_is_proven_by_all_and_captured_beside_them():
    cluster = split()
    for name in (*DATABASES, *MANAGERS):
        found = cluster.verdict(name, "split-brain")
        assert found.evidence["tips"] == "n1,n2"
        assert found.evidence["winner"] == "n2"
        agent = cluster.agents[name]
        assert winner(agent.state, agent.policy).node == "n2"
    levels = {
        name: set(capture.order.levels)
        for name, agent in cluster.agents.items()
        if (capture := protection.unfinished(agent.state, agent.policy))
    }
    assert levels == {"n1": set(Level), "n2": {Level.TAIL, Level.PIN}}


def test_one_manager_takes_a_snapshot_in_a_split_and_the_next_when_it_is_silent():
    cluster = split()
    assert orders(cluster) == ["m1"]
    cluster.managers_up["m1"] = False
    cluster.run(4)
    assert orders(cluster) == ["m2"]


def test_the_first_manager_takes_the_scheduled_one():
    cluster = nine()
    at = cluster.at
    takes = [
        name
        for name, agent in cluster.agents.items()
        if managercare.takes_scheduled(agent.state, agent.policy, at(name, 0.9))
    ]
    assert takes == ["m1"]


def test_managers_that_are_all_active_are_no_mismatch_and_no_split():
    cluster = nine()
    cluster.servers["n2"].up = cluster.agents["n2"].up = False
    cluster.run(70)
    for name in ("n1", "n3", *MANAGERS):
        assert cluster.codes(name) == {"node-down"}


def test_a_silent_manager_whose_agent_answers_is_down_with_what_others_say_of_it():
    cluster = nine()
    cluster.managers_up["m2"] = False
    care = ManagerCare(
        "7.0.5",
        active=True,
        cluster="Degraded",
        members=(
            ManagerMember("manager", "m2", "10.0.0.2", "Fail"),
            ManagerMember("db", "n1", "10.0.0.4", "OK"),
            ManagerMember("broker", "mq3", "10.0.0.9", "Fail"),
        ),
    )
    cluster.agents["m1"].step(ManagerCareTold(cluster.at("m1", 0.9), care))
    cluster.run(4)
    for name in (*DATABASES, *MANAGERS):
        assert cluster.verdict(name, "manager-down").subject == "m2"
    told = cluster.verdict("m1", "manager-down").evidence
    assert told["cluster_says"] == "manager m2 Fail, broker mq3 Fail"
    assert "mq3" not in cluster.agents["m1"].policy.order


def test_brokers_without_a_majority_are_told_by_the_agents_beside_managers():
    cluster = nine()
    brokers = tuple(
        ManagerMember("broker", f"mq{number}", "10.0.0.9", word)
        for number, word in enumerate(("OK", "Fail", "Fail"), start=1)
    )
    care = ManagerCare("7.0.5", active=True, cluster="Fail", members=brokers)
    for name in MANAGERS:
        cluster.agents[name].step(ManagerCareTold(cluster.at(name, 0.9), care))
    cluster.run(2)
    for name in MANAGERS:
        found = cluster.verdict(name, "capture-not-ready")
        assert (found.rule, found.subject) == (881, name)
    assert cluster.codes("n1") == {"healthy"}


def test_an_agent_beside_a_manager_alone_says_that_it_has_nothing_to_protect():
    cluster = nine()
    agent = cluster.agents["m1"]
    line = protection_line(agent.state, agent.policy)
    assert line == "nothing to protect: no PostgreSQL on this node"
    assert protection_line(
        cluster.agents["n1"].state, cluster.agents["n1"].policy
    ).startswith("ready")


def test_witnesses_vote_and_managers_do_not():
    policy = nine().agents["n1"].policy
    witness = replace(policy.nodes[0], name="w", has_postgres=False)
    assert witness.is_voter
    assert [one.name for one in policy.nodes if not one.is_voter] == list(MANAGERS)
