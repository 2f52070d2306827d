"""A primary below what its own past was seen to hold, and everything that is none."""

from dataclasses import replace

import pytest

from agent.core import highwater
from agent.core.incident import Status
from agent.core.lineage import Fingerprint, Switch
from agent.core.lsn import Lsn
from agent.core.observation import Channel
from agent.core.scene import build
from agent.core.state import Knowledge, State
from agent.core.verdict import Severity, VerdictCode
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_view import fold, seen_by_all

STALE = VerdictCode.STALE_PRIMARY


def written(count=3, **policy) -> Cluster:
    """A healthy cluster that has written something."""
    cluster = Cluster(count, **policy)
    cluster.run(2)
    cluster.servers["n1"].write(16)
    cluster.run(2)
    return cluster


def set_back(cluster: Cluster, name: str, lsn: int = 0x1000) -> None:
    """Put an old image of the whole machine in place, its agent's memory included."""
    server, agent = cluster.servers[name], cluster.agents[name]
    server.lsn = lsn
    server.restart(standby=False)
    knowledge = replace(agent.state.knowledge, highest=())
    agent.state = replace(agent.state, knowledge=knowledge)
    cluster.start_agent(name)


def opened(cluster: Cluster, name: str) -> list:
    found = cluster.agents[name].state.ledger.incidents
    return [one for one in found if one.verdict.code is STALE]


def nobody_says_it(cluster: Cluster) -> bool:
    return not any(
        STALE in cluster.codes(name) or opened(cluster, name) for name in cluster.agents
    )


# --- what it is for --------------------------------------------------------------


def test_a_machine_that_was_set_back_is_a_stale_primary():
    cluster = written()
    cluster.kill("n1")
    cluster.run(3)
    set_back(cluster, "n1")
    cluster.run(6)
    found = cluster.verdict("n2", STALE)
    assert (found.rule, found.subject, found.severity) == (
        409,
        "n1",
        Severity.CRITICAL,
    )
    assert found.evidence == {
        "timeline": 1,
        "end_lsn": "0/1000",
        "reached_timeline": 1,
        "reached_lsn": "0/2000",
        "seen_on": "n1",
        "lacking_bytes": 0x1000,
        "held_by": "n2,n3",
    }
    assert [one.status for one in opened(cluster, "n3")] == [Status.OPEN]


def test_a_restored_backup_on_a_new_timeline_is_a_stale_primary():
    cluster = written()
    server = cluster.servers["n1"]
    server.up = False
    cluster.run(4)
    server.lsn = 0x1800
    server.promote()
    server.restart(standby=False)
    cluster.run(6)
    found = cluster.verdict("n2", STALE)
    assert (found.rule, found.evidence["end_lsn"]) == (411, "0/1800")
    assert found.evidence["lacking_bytes"] == 0x800
    assert found.evidence["timeline"] == 2


def on_third_timeline(second_ended: int) -> Cluster:
    """n1 was promoted twice, the second time here, and has written since."""
    cluster = Cluster()
    server = cluster.servers["n1"]
    server.switches = (Switch(1, Lsn(0x800)), Switch(2, Lsn(second_ended)))
    server.timeline = 3
    cluster.run(2)
    server.write(16)
    cluster.run(2)
    return cluster


def test_a_machine_that_was_set_back_on_a_later_timeline_is_a_stale_primary_too():
    cluster = on_third_timeline(0xC00)
    set_back(cluster, "n1")
    cluster.run(6)
    found = cluster.verdict("n2", STALE)
    assert (found.rule, found.evidence["reached_timeline"]) == (409, 3)
    assert found.evidence["lacking_bytes"] == 0x1000


def test_a_third_timeline_that_began_elsewhere_is_another_one():
    """Both left the first timeline at one place, and the second at two."""
    cluster = on_third_timeline(0xC00)
    cluster.servers["n1"].switches = (Switch(1, Lsn(0x800)), Switch(2, Lsn(0xA00)))
    set_back(cluster, "n1")
    cluster.run(8)
    assert nobody_says_it(cluster)


def test_it_stays_when_the_primary_has_written_past_the_place():
    cluster = written()
    set_back(cluster, "n1")
    cluster.run(6)
    cluster.servers["n1"].write(64)
    cluster.run(8)
    assert STALE not in cluster.codes("n2")
    assert [one.status for one in opened(cluster, "n2")] == [Status.OPEN]


def test_a_standby_that_takes_over_without_a_new_timeline_is_one_too():
    """Started without standby.signal by hand, and behind."""
    cluster = written()
    cluster.servers["n2"].follows = None
    cluster.servers["n1"].write(4)
    cluster.run(3)
    cluster.kill("n1")
    cluster.run(5)
    cluster.servers["n2"].restart(standby=False)
    cluster.run(12)
    found = cluster.verdict("n3", STALE)
    assert (found.rule, found.subject) == (409, "n2")
    assert found.evidence["lacking_bytes"] == 0x400


def test_commits_that_wait_on_it_are_its_consequence():
    cluster = written()
    set_back(cluster, "n1")
    cluster.servers["n1"].waits_s = 9.0
    cluster.run(6)
    assert STALE in cluster.codes("n2")
    assert VerdictCode.WRITES_BLOCKED not in cluster.codes("n2")


# --- how it ends -----------------------------------------------------------------


def test_acknowledging_it_takes_what_is_there_for_the_truth_on_all_agents():
    cluster = written()
    set_back(cluster, "n1")
    cluster.run(6)
    cluster.acknowledge("n2", "primary")
    cluster.run(12)
    for name in cluster.agents:
        assert cluster.codes(name) == {"healthy"}
        assert all(one.status is Status.RESOLVED for one in opened(cluster, name))
        marks = cluster.agents[name].state.knowledge.highest
        assert [(one.timeline, one.lsn) for one in marks] == [(1, 0x1000)]
    cluster.run(4)
    assert cluster.codes("n3") == {"healthy"}


def test_after_that_it_can_be_set_back_once_more():
    cluster = written()
    set_back(cluster, "n1", 0x1800)
    cluster.run(6)
    cluster.acknowledge("n2", "primary")
    cluster.run(12)
    set_back(cluster, "n1")
    cluster.run(6)
    assert cluster.verdict("n2", STALE).evidence["lacking_bytes"] == 0x800
    assert len(opened(cluster, "n2")) == 2


def test_an_agent_that_was_away_does_not_bring_the_old_news_again():
    cluster = written()
    cluster.agents["n3"].up = False
    set_back(cluster, "n1")
    cluster.run(6)
    cluster.acknowledge("n2", "primary")
    cluster.run(12)
    cluster.start_agent("n3")
    cluster.run(12)
    assert not opened(cluster, "n3")
    assert cluster.codes("n3") == {"healthy"}


def test_it_is_remembered_over_a_restart_of_the_agents():
    cluster = written()
    cluster.kill("n1")
    cluster.run(3)
    for name in ("n2", "n3"):
        cluster.start_agent(name)
    set_back(cluster, "n1")
    cluster.run(6)
    assert STALE in cluster.codes("n2")


# --- the innocents ---------------------------------------------------------------


def test_a_restart_and_a_crash_are_none():
    cluster = written()
    for _ in range(2):
        cluster.servers["n1"].up = False
        cluster.run(2)
        cluster.servers["n1"].restart(standby=False)
        cluster.run(4)
    assert nobody_says_it(cluster)


def test_a_clean_switchover_and_back_is_none():
    cluster = written()
    for old, new in (("n1", "n2"), ("n2", "n1")):
        cluster.servers[old].up = False
        cluster.run(2)
        cluster.servers[new].promote()
        cluster.servers[old].restart(standby=True)
        cluster.servers[old].follows = cluster.servers["n3"].follows = new
        cluster.servers[new].write(4)
        cluster.run(10)
    assert cluster.servers["n1"].timeline == 3
    assert nobody_says_it(cluster)


@pytest.mark.parametrize("rounds", [0, 4])
def test_a_promotion_that_cost_writes_is_told_as_the_failover_only(rounds):
    """However late the disk of the new primary can be read."""
    cluster = written()
    cluster.servers["n2"].follows = cluster.servers["n3"].follows = None
    cluster.servers["n1"].write(4)
    cluster.run(3)
    cluster.kill("n1")
    cluster.run(rounds)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(12)
    assert cluster.incident("n3", "primary").verdict.evidence[
        "not_replicated_bytes"
    ] in (0x400, None)
    assert nobody_says_it(cluster)


def test_a_promotion_whose_cost_was_not_known_at_first_is_told_when_it_is():
    cluster = written()
    cluster.servers["n2"].follows = cluster.servers["n3"].follows = None
    cluster.servers["n1"].write(4)
    cluster.run(3)
    cluster.kill("n1")
    cluster.agents["n2"].up = False
    cluster.servers["n2"].promote()
    cluster.run(12)
    failover = cluster.incident("n3", "primary").verdict
    assert failover.evidence["not_replicated_bytes"] is None
    assert STALE not in cluster.codes("n3")
    cluster.start_agent("n2")
    cluster.run(6)
    assert cluster.verdict("n3", STALE).evidence["lacking_bytes"] == 0x400


def test_a_loser_that_is_rewound_is_none():
    cluster = written()
    cluster.cut("n1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    for _ in range(3):
        cluster.servers["n1"].write(8)
        cluster.servers["n2"].write(2)
        cluster.run()
    cluster.heal()
    cluster.run(4)
    cluster.servers["n1"].up = False
    cluster.run(3)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(12)
    assert nobody_says_it(cluster)


def printed(name: str, place: int) -> tuple[Fingerprint, ...]:
    return (Fingerprint(2, Lsn(place), f"by {name}"),)


@pytest.mark.parametrize("written_by_winner", [0, 4])
def test_a_side_that_loses_on_a_later_timeline_is_none(written_by_winner):
    """The winner stays on the older timeline; its next promotion takes the number.

    If nothing was written meanwhile it begins at the same place too.
    """
    cluster = written()
    cluster.cut("n1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.servers["n2"].fingerprints = printed("n2", 0x2000)
    cluster.servers["n2"].write(64)
    cluster.servers["n1"].write(written_by_winner)
    cluster.run(6)
    cluster.servers["n2"].up = cluster.servers["n3"].up = False
    cluster.heal()
    cluster.run(4)
    for name in ("n2", "n3"):
        cluster.servers[name].lsn = 0x1000
        cluster.servers[name].rewind_to(cluster.servers["n1"])
        cluster.servers[name].restart(standby=True)
    cluster.run(12)
    cluster.servers["n1"].up = False
    cluster.run(2)
    place = cluster.servers["n3"].lsn
    cluster.servers["n3"].promote()
    cluster.servers["n3"].fingerprints = printed("n3", place)
    cluster.servers["n1"].restart(standby=True)
    cluster.servers["n1"].follows = cluster.servers["n2"].follows = "n3"
    cluster.run(15)
    assert cluster.servers["n3"].timeline == 2
    assert nobody_says_it(cluster)


def test_a_timeline_whose_beginning_nobody_knows_is_compared_with_nothing():
    cluster = written()
    cluster.servers["n1"].switches = (Switch(1, Lsn(0x800)),)
    cluster.servers["n1"].timeline = 2
    cluster.agents["n1"].up = False
    cluster.run(4)
    cluster.servers["n1"].lsn = 0x1000
    cluster.run(6)
    assert STALE not in cluster.codes("n2")


def test_another_system_at_the_address_is_none():
    cluster = written()
    cluster.servers["n1"].system_id = "7300000000000000999"
    cluster.servers["n1"].lsn = 0x1000
    cluster.run(8)
    assert nobody_says_it(cluster)


def test_an_agent_that_sees_no_majority_says_nothing():
    cluster = written()
    cluster.cut("n3")
    cluster.run(4)
    set_back(cluster, "n1")
    cluster.cuts.discard(("n3", "n1"))
    cluster.deaf |= {("n3", "n1", Channel.AGENT)}
    cluster.run(1)
    assert STALE not in cluster.codes("n3")


def test_a_mark_that_stays_the_same_is_dated_anew_once_a_minute():
    policy, knowledge, dated = given.policy(), Knowledge(), []
    for now in (10.0, 69.9, 70.0):
        state = fold(State(), *seen_by_all(now - 1, n1=given.sight()))
        scene = build(state, given.at(now), policy)
        knowledge = highwater.after(scene, knowledge, policy)
        dated.append([one.wall_s - given.at(0).wall_s for one in knowledge.highest])
    assert dated == [[10.0], [10.0], [70.0]]
