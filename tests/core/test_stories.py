"""What all agents say and tell while a cluster lives through its troubles.

Each story says in its name why the outcome is right. The agents run the whole core;
what they see of each other goes through real reports.
"""

from dataclasses import replace

import pytest

from agent.core.action import Tell
from agent.core.event import Ticked
from agent.core.incident import Status
from agent.core.lsn import Lsn
from agent.core.observation import Channel, Outcome
from agent.core.policy import NodeSpec, Policy
from agent.core.verdict import Family
from tests.core import given
from tests.core.cluster import FINE, Cluster
from tests.core.test_rows import split

SPLIT = {"split-brain", "split-brain-suspected", "lineage-diverged", "lineage-twin"}


def watch(cluster, rounds):
    """Run so many rounds; return everything that any agent has said in them."""
    said = set()
    for _ in range(rounds):
        cluster.run()
        for name, agent in cluster.agents.items():
            if agent.up:
                said |= cluster.codes(name)
    return said


def incident_codes(cluster):
    """Everything that any agent has ever told of."""
    return {
        flip.verdict
        for name in cluster.agents
        for one in cluster.incidents(name)
        for flip in one.history
        if flip.status is not Status.PENDING
    }


def healthy(count=3, **policy):
    cluster = Cluster(count, **policy)
    cluster.run(3)
    return cluster


# --- what is no split ------------------------------------------------------------


def test_a_clean_switchover_is_a_failover_and_nothing_else():
    cluster = healthy()
    servers = cluster.servers
    servers["n1"].up = False
    servers["n2"].promote()
    servers["n3"].follows = "n2"
    said = watch(cluster, 1)
    servers["n1"].rewind_to(servers["n2"])
    servers["n1"].restart(standby=True)
    said |= watch(cluster, 12)
    assert not said & (SPLIT - {"split-brain-suspected"})
    assert incident_codes(cluster) == {"failover"}
    assert cluster.codes("n1") == {"healthy"}


def test_a_restart_of_the_primary_is_no_failover():
    cluster = healthy()
    cluster.servers["n1"].up = False
    said = watch(cluster, 2)
    cluster.servers["n1"].restart(standby=False)
    said |= watch(cluster, 8)
    assert not said & (SPLIT | {"failover"})
    assert incident_codes(cluster) <= {"postgres-down"}


def test_a_slow_promotion_shows_no_primary_and_then_the_failover():
    cluster = healthy()
    cluster.kill("n1")
    cluster.run(9)
    assert cluster.incident("n2", "primary").verdict.code == "no-primary"
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(2)
    one = cluster.incident("n2", "primary")
    assert one.verdict.code == "failover"
    assert [flip.verdict for flip in one.history][-1] == "failover"


def test_history_files_that_come_late_make_no_divergence():
    cluster = healthy()
    cluster.servers["n1"].write(3)
    cluster.run(1)
    cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    said = watch(cluster, 3)  # n3 stays behind on timeline 1
    cluster.servers["n3"].follows = "n2"
    said |= watch(cluster, 5)
    assert not said & SPLIT


def test_a_cluster_that_lost_a_standby_stays_itself():
    cluster = healthy()
    cluster.kill("n3")
    said = watch(cluster, 6)
    assert not said & (SPLIT | {"failover", "no-primary", "observer-isolated"})


# --- isolation -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n1", "n3"])
def test_an_isolated_agent_accuses_nobody(name):
    cluster = healthy(5, managers=True)
    cluster.cut(name)
    cluster.run(3)
    for _ in range(10):
        cluster.run()
        found = cluster.agents[name].state.view.verdicts
        assert {one.subject for one in found} <= {name, "cluster"}
        assert cluster.codes(name) <= {"observer-isolated", "split-brain-suspected"}


def test_an_isolated_agent_still_knows_that_its_own_server_stopped():
    cluster = healthy()
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(3)
    assert cluster.codes("n1") == {"observer-isolated", "postgres-down"}


def test_isolation_without_a_promotion_leaves_nothing_behind():
    cluster = healthy()
    cluster.cut("n1")
    cluster.run(6)
    cluster.heal()
    cluster.run(14)
    for name in cluster.agents:
        assert cluster.codes(name) == {"healthy"}
        assert all(one.status is Status.RESOLVED for one in cluster.incidents(name))


def test_two_voters_do_not_suspect_a_split_whenever_the_standby_stops():
    cluster = healthy(2)
    cluster.kill("n2")
    said = watch(cluster, 6)
    assert not said & (SPLIT | {"node-down"})


def test_half_of_four_voters_is_no_majority():
    cluster = healthy(4)
    cluster.cuts = {(a, b) for a in ("n1", "n2") for b in ("n3", "n4")}
    cluster.cuts |= {(b, a) for a, b in cluster.cuts}
    cluster.run(4)
    for name in cluster.agents:
        assert "observer-isolated" in cluster.codes(name)
        assert "node-down" not in cluster.codes(name)


# --- one split, from beginning to end --------------------------------------------


def test_a_split_is_one_incident_with_one_id_and_one_first_page():
    cluster = split()
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(4)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(12)
    found = [cluster.incident(name, "split") for name in cluster.agents]
    assert len({one.id for one in found}) == 1
    assert all(one.status is Status.RESOLVED for one in found)
    stages = [flip.verdict for flip in found[0].history]
    assert list(dict.fromkeys(stages)) == [
        "split-brain-suspected",
        "split-brain",
        "lineage-diverged",
    ]
    told = [
        action.notice.id
        for agent in cluster.agents.values()
        for action in agent.actions
        if isinstance(action, Tell)
        and action.notice.incident_id == found[0].id
        and action.notice.reason == "first"
    ]
    assert len(set(told)) == 1


def test_the_minority_can_win():
    cluster = split()
    cluster.run(2)
    one, two = cluster.servers["n1"], cluster.servers["n2"]
    two.up = cluster.servers["n3"].up = False
    cluster.run(4)
    for name in cluster.agents:
        found = cluster.verdict(name, "lineage-diverged")
        assert found.evidence["first"] == "n1"
        assert found.evidence["losers"] == "n2,n3"
        assert found.discriminator == "1"
    for loser in (two, cluster.servers["n3"]):
        loser.rewind_to(one)
        loser.restart(standby=True)
    cluster.run(12)
    for name in cluster.agents:
        assert cluster.codes(name) == {"healthy"}
        assert cluster.incident(name, "split").status is Status.RESOLVED
    assert cluster.incident("n2", "primary").verdict.evidence["to"] == "n1"


@pytest.mark.fact("P16")
def test_a_standby_that_followed_the_loser_is_a_loser_too():
    cluster = Cluster()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.run(2)
    cluster.servers["n1"].write(5)
    cluster.heal()  # n3 never left n1, and now receives what n1 wrote alone
    cluster.run(3)
    assert cluster.verdict("n2", "split-brain").evidence["losers"] == "n1,n3"
    cluster.servers["n1"].up = False
    cluster.run(3)
    assert cluster.verdict("n3", "lineage-diverged").evidence["losers"] == "n1,n3"


def test_three_primaries_are_one_split_with_three_tips():
    cluster = split()
    cluster.servers["n3"].promote(4)
    cluster.run(3)
    found = cluster.verdict("n2", "split-brain")
    assert found.evidence["tips"] == "n1,n2,n3"
    assert found.evidence["winner"] == "n2"  # as predicted when the fork was first seen
    assert found.evidence["losers"] == "n1,n3"


def test_two_sides_on_the_same_new_timeline_number_are_a_split_of_the_old_one():
    cluster = Cluster()
    cluster.run(3)
    cluster.kill("n1")
    cluster.cuts = {("n2", "n3"), ("n3", "n2")}
    cluster.servers["n2"].promote()
    cluster.servers["n3"].promote()
    cluster.servers["n2"].write()
    cluster.run(4)
    cluster.heal()
    cluster.run(3)
    for name in ("n2", "n3"):
        assert cluster.verdict(name, "split-brain").discriminator == "1"


def test_a_proven_split_goes_on_for_a_while_when_one_side_vanishes():
    cluster = split()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(10)
    assert "split-brain" in cluster.codes("n2")
    cluster.run(30)
    found = cluster.verdict("n2", "lineage-diverged")
    assert found.evidence["losers"] == "n1"


def test_a_loser_whose_disk_is_read_again_has_a_position_again():
    cluster = split()
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(3)
    for name in cluster.agents:
        cluster.start_agent(name)
    cluster.run(4)
    found = cluster.verdict("n3", "lineage-diverged")
    assert found.evidence["past_fork_bytes"] == 0x300


def test_a_loser_that_runs_as_a_standby_without_upstream_has_diverged():
    cluster = split()
    cluster.run(2)
    loser = cluster.servers["n1"]
    loser.restart(standby=True)
    loser.hides_timeline = True
    cluster.run(3)
    assert cluster.verdict("n2", "lineage-diverged").evidence["losers"] == "n1"
    assert "standby-detached" not in cluster.codes("n2")


def test_a_server_of_another_system_is_measured_against_nothing():
    cluster = healthy()
    cluster.servers["n3"].system_id = "42"
    cluster.servers["n3"].timeline = 7
    said = watch(cluster, 5)
    assert "foreign-system" in said
    assert not said & SPLIT


def test_a_primary_of_another_system_is_no_failover():
    cluster = healthy()
    cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].system_id = "42"
    cluster.servers["n2"].promote()
    said = watch(cluster, 3)
    assert "failover" not in said


def test_a_primary_whose_history_is_unknown_accuses_nobody_of_diverging():
    cluster = healthy()
    cluster.servers["n1"].write(3)
    cluster.run()
    cluster.unreadable = {"n2"}
    cluster.kill("n1")
    cluster.servers["n2"].lsn = 0x1100
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    said = watch(cluster, 4)
    assert not said & SPLIT
    found = cluster.incident("n3", "primary").verdict.evidence
    assert (found["switch_lsn"], found["not_replicated_bytes"]) == (None, None)


# --- failover --------------------------------------------------------------------


def failed_over():
    cluster = healthy()
    cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    return cluster


@pytest.mark.fact("lone-promotion")
def test_without_a_higher_timeline_the_old_primary_must_be_known_to_be_gone():
    cluster = healthy()
    cluster.cut("n1")
    cluster.servers["n2"].in_recovery = False  # started without its signal file
    cluster.run(1)
    assert "failover" not in cluster.codes("n3")
    cluster.run(3)
    assert "failover" in cluster.codes("n3")


def test_what_was_not_replicated_is_counted():
    cluster = healthy()
    cluster.servers["n1"].write(3)
    cluster.cut("n1")
    cluster.run(1)
    cluster.heal()
    cluster.servers["n2"].follows = cluster.servers["n3"].follows = None
    cluster.run(1)
    cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.run(1)
    found = cluster.verdict("n3", "failover").evidence
    assert found["switch_lsn"] == str(Lsn(0x1000))
    assert found["not_replicated_bytes"] == 0x300


def test_a_failover_survives_a_restart_of_the_agent_at_any_moment():
    for rounds in range(4):
        cluster = failed_over()
        cluster.run(rounds)
        cluster.start_agent("n3")
        cluster.run(10)
        assert cluster.incident("n3", "primary").verdict.code == "failover"
        assert cluster.incident("n3", "primary").occurrence == 1


def test_an_agent_that_did_not_run_meanwhile_tells_of_the_failover_when_it_does():
    cluster = healthy()
    cluster.agents["n3"].up = False
    cluster.kill("n1")
    cluster.servers["n2"].promote()
    cluster.run(4)
    cluster.start_agent("n3")
    cluster.run(3)
    assert cluster.incident("n3", "primary").verdict.code == "failover"


def test_what_one_person_has_taken_is_taken_everywhere():
    cluster = failed_over()
    cluster.run(8)
    cluster.acknowledge("n2", "primary")
    cluster.run(2)
    assert cluster.incident("n3", "primary").acknowledged_by == "somebody at n2"
    cluster.run(10)
    for name in ("n2", "n3"):
        assert cluster.incident(name, "primary").status is Status.RESOLVED


def test_old_news_are_not_told_again_by_an_agent_that_comes_back():
    cluster = failed_over()
    cluster.agents["n3"].up = False
    cluster.run(8)
    cluster.acknowledge("n2", "primary")
    cluster.run(10)
    assert cluster.incident("n2", "primary").status is Status.RESOLVED
    cluster.start_agent("n3")
    cluster.run(8)
    assert cluster.incidents("n3", "primary") == []
    assert cluster.agents["n3"].state.knowledge.primary.node == "n2"


def test_the_next_failover_after_that_is_told():
    cluster = failed_over()
    cluster.run(8)
    for name in ("n2", "n3"):
        cluster.acknowledge(name, "primary")
    cluster.run(10)
    one = cluster.servers["n1"]
    one.rewind_to(cluster.servers["n2"])
    one.restart(standby=True)
    cluster.start_agent("n1")
    cluster.managers_up["n1"] = True
    cluster.run(8)
    cluster.servers["n2"].up = False
    cluster.servers["n3"].promote()
    cluster.run(3)
    for name in ("n1", "n3"):
        latest = cluster.incidents(name, "primary")[-1]
        assert (latest.occurrence, latest.status) == (2, Status.OPEN)
        assert latest.verdict.evidence["to"] == "n3"


@pytest.mark.parametrize("promoted", [False, True])
def test_a_primary_that_left_the_list_has_failed_only_if_another_was_promoted(promoted):
    cluster = healthy()
    policy = Policy(
        "test",
        "n3",
        tuple(NodeSpec(n, has_postgres=True, has_manager=False) for n in ("n2", "n3")),
    )
    agent = cluster.agents["n3"]
    cluster.run(1)
    agent.policy = policy
    cluster.servers["n1"].up = False
    cluster.servers["n2"].in_recovery = False
    if promoted:
        cluster.servers["n2"].promote()
    cluster.start_agent("n3")
    for _ in range(2):
        cluster.now_s += 1
        for node in ("n2", "n3"):
            for channel in (Channel.AGENT, Channel.POSTGRES):
                cluster._probe("n3", node, channel, 0.01)
    told = [one.verdict.evidence["from"] for one in cluster.incidents("n3", "primary")]
    assert told == (["n1"] if promoted else [])
    agent.step(Ticked(cluster.at("n3", 0.9), FINE))
    assert agent.state.knowledge.primary.node == "n2"


# --- who answers -----------------------------------------------------------------


def test_the_same_fault_twice_makes_two_incidents_with_two_ids():
    cluster = healthy()
    for _ in range(2):
        cluster.kill("n3")
        cluster.run(5)
        cluster.servers["n3"].up = True
        cluster.start_agent("n3")
        cluster.run(12)
    for name in ("n1", "n2"):
        found = cluster.incidents(name, "reach")
        assert [one.occurrence for one in found] == [1, 2]
        assert len({one.id for one in found}) == 2
    ids = [{one.id for one in cluster.incidents(n, "reach")} for n in ("n1", "n2")]
    assert ids[0] == ids[1]


def test_replication_that_flows_vetoes_a_death():
    cluster = healthy(managers=False)
    cluster.deaf = {
        (observer, "n3", channel)
        for observer in ("n1", "n2")
        for channel in (Channel.AGENT, Channel.POSTGRES)
    }
    for _ in range(6):
        cluster.servers["n1"].write()
        cluster.run()
        assert "node-down" not in cluster.codes("n1")
    assert cluster.verdict("n1", "node-suspect").evidence["replication_seen_by"] == "n1"


def test_replication_that_flows_vetoes_postgres_down():
    cluster = healthy()
    cluster.deaf = {(n, "n3", Channel.POSTGRES) for n in cluster.agents}
    for _ in range(5):
        cluster.servers["n1"].write()
        cluster.run()
        assert "postgres-down" not in cluster.codes("n1")
    cluster.run(4)
    assert "postgres-down" in cluster.codes("n1")


def test_a_dead_node_is_not_also_three_broken_links():
    cluster = healthy(managers=True)
    cluster.kill("n3")
    cluster.run(8)
    for name in ("n1", "n2"):
        assert cluster.codes(name) == {"node-down"}
        assert {one.verdict.code for one in cluster.incidents(name)} == {"node-down"}


def test_an_agent_of_another_cluster_is_foreign_and_not_down():
    cluster = healthy()
    cluster.agents["n3"].policy = replace(cluster.agents["n3"].policy, cluster="other")
    cluster.run(4)
    found = cluster.verdict("n1", "foreign-system")
    assert found.subject == "n3"
    assert "agent-down" not in cluster.codes("n1")
    latest = cluster.agents["n1"].state.view.latest["n3/agent"]
    assert latest.outcome is Outcome.FOREIGN


def test_without_a_known_primary_the_commonest_system_is_ours():
    cluster = Cluster()
    cluster.servers["n1"].in_recovery = True
    cluster.servers["n1"].follows = None
    cluster.servers["n3"].system_id = "42"
    cluster.run(3)
    assert cluster.verdict("n1", "foreign-system").evidence["expected"] == given.SYSTEM


def test_one_against_one_nobody_can_say_whose_system_is_foreign():
    cluster = Cluster(2)
    cluster.servers["n1"].in_recovery = True
    cluster.servers["n2"].system_id = "42"
    cluster.run(3)
    assert "foreign-system" not in cluster.codes("n1")


def test_a_server_under_two_names_is_found_without_the_agents_identities():
    cluster = Cluster()
    cluster.unreadable = {"n1", "n2", "n3"}
    cluster.servers["n2"] = cluster.servers["n1"]
    cluster.run(4)
    assert cluster.verdict("n3", "config-error").subject == "n1|n2"


def test_verdicts_are_never_empty_and_families_speak_once_for_a_subject():
    cluster = split(4, managers=True)
    cluster.kill("n4")
    for _ in range(6):
        cluster.run()
        for name in ("n1", "n2", "n3"):
            found = cluster.agents[name].state.view.verdicts
            assert found
            once = [(one.family, one.subject) for one in found]
            assert len(once) == len(set(once))
            others = [one for one in found if one.family is not Family.OTHER]
            assert not others or "healthy" not in cluster.codes(name)


def test_a_capture_of_another_node_protects_nobody_here():
    cluster = split(capture_enabled=False)
    agent = cluster.agents["n1"]
    cluster.run(1)
    one = given.capture()
    other = replace(one, order=replace(one.order, node="n9"))
    ledger = replace(agent.state.ledger, captures=(other,))
    agent.state = replace(agent.state, ledger=ledger)
    cluster.run(1)
    assert cluster.verdict("n1", "unprotected").rule == 603
