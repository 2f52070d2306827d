"""Splits with more sides than two, and servers that are no side of one or none."""

import pytest

from agent.core.lineage import Fingerprint
from agent.core.lsn import Lsn
from tests.core import given
from tests.core.cluster import Agent, Cluster

SPLIT = {"split-brain", "split-brain-suspected", "lineage-diverged", "lineage-twin"}


def test_who_has_lost_beside_a_twin_is_named_with_it():
    cluster = Cluster()
    cluster.run(2)
    loser, winner, twin = (cluster.servers[name] for name in ("n1", "n2", "n3"))
    loser.up = False
    for server, mark in ((winner, "a"), (twin, "b")):
        at = Lsn(server.lsn)
        server.promote()
        server.fingerprints = (Fingerprint(2, at, mark * 64),)
        server.write()
    loser.write(2)
    twin.up = False
    cluster.run(4)
    found = cluster.verdict("n2", "lineage-twin")
    assert found.evidence["second"] == "n3"
    assert found.evidence["losers"] == "n1,n3"
    assert found.evidence["tips"] == "n2,n1,n3"


def test_a_writable_server_of_another_system_is_no_side_of_a_split():
    cluster = Cluster()
    cluster.run(2)
    stranger = cluster.servers["n3"]
    stranger.system_id, stranger.follows = "42", None
    stranger.restart(standby=False)
    said = set()
    for _ in range(6):
        cluster.run(1)
        said |= cluster.codes("n1") | cluster.codes("n2") | cluster.codes("n3")
    assert "foreign-system" in said
    assert not said & SPLIT


def test_the_times_of_two_systems_prove_nothing_either():
    """After a cut, when the reports tell how long each server was writable."""
    cluster = Cluster()
    cluster.run(2)
    cluster.cut("n3")
    stranger = cluster.servers["n3"]
    stranger.system_id, stranger.follows = "42", None
    stranger.restart(standby=False)
    cluster.run(5)
    cluster.heal()
    for _ in range(4):
        cluster.run(1)
        for name in ("n1", "n2"):
            assert "split-brain" not in cluster.codes(name)
            assert not cluster.agents[name].state.view.proofs


def test_beside_a_foreign_server_the_own_primary_is_still_the_only_one():
    cluster = Cluster()
    cluster.run(2)
    stranger = cluster.servers["n3"]
    stranger.system_id, stranger.follows = "42", None
    stranger.restart(standby=False)
    cluster.run(2)
    cluster.servers["n1"].up = False
    cluster.servers["n2"].promote()
    cluster.run(3)
    found = cluster.verdict("n2", "failover")
    assert (found.evidence["from"], found.evidence["to"]) == ("n1", "n2")


def test_a_primary_that_is_being_stopped_has_not_fallen():
    """One agent has read its last position, and only an older reading is left of it."""
    cluster = Cluster(fresh_s=6.0)
    cluster.run(3)
    cluster.servers["n1"].write(16)
    cluster.run_only("n1")
    cluster.refusing = {"n1"}
    for name in ("n2", "n1", "n2"):
        cluster.run_only(name)
        assert "stale-primary" not in cluster.codes(name)


def stranger_in_the_primarys_place() -> Cluster:
    cluster = Cluster()
    cluster.run(2)
    stranger = cluster.servers["n1"]
    stranger.system_id = "42"
    stranger.restart(standby=False)
    return cluster


def foreign(agent: Agent) -> list[str]:
    verdicts = agent.state.view.verdicts
    return [one.subject for one in verdicts if one.code == "foreign-system"]


def test_a_stranger_in_the_primarys_place_makes_no_strangers_of_the_others():
    cluster = stranger_in_the_primarys_place()
    cluster.run(6)
    for agent in cluster.agents.values():
        assert foreign(agent) == ["n1"]


def test_a_stranger_in_the_primarys_place_is_one_while_nobody_else_answers():
    """The cluster goes on under its own name, which stands in every incident's key."""
    cluster = stranger_in_the_primarys_place()
    for name in ("n2", "n3"):
        cluster.servers[name].up = False
    cluster.run(6)
    for agent in cluster.agents.values():
        primary = agent.state.knowledge.primary
        assert primary is not None
        assert primary.system_id == given.SYSTEM
        assert foreign(agent) == ["n1"]


@pytest.mark.parametrize("leader", ["n1", "n2"])
def test_a_cluster_that_was_set_up_anew_is_followed(leader: str):
    cluster = Cluster()
    cluster.run(2)
    for name in ("n1", "n2", "n3"):
        server = cluster.servers[name]
        server.system_id = "42"
        server.follows = None if name == leader else leader
        server.restart(standby=name != leader)
    cluster.run(6)
    for agent in cluster.agents.values():
        primary = agent.state.knowledge.primary
        assert primary is not None
        assert primary.system_id == "42"
        assert foreign(agent) == []


def test_a_part_of_a_cluster_that_was_set_up_anew_elsewhere_is_still_foreign():
    """While one server was not heard of, it may be the one that has the data."""
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].up = False
    for name in ("n2", "n3"):
        server = cluster.servers[name]
        server.system_id = "42"
        server.follows = None if name == "n2" else "n2"
        server.restart(standby=name != "n2")
    cluster.run(6)
    for agent in cluster.agents.values():
        assert set(foreign(agent)) == {"n2", "n3"}
