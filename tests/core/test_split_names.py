"""One split has one name, whichever side promoted and whoever was cut off."""

from dataclasses import replace

import pytest

from agent.core.explain import incident_sentence
from agent.core.incident import Status
from agent.core.observation import Channel
from agent.core.settling import kept_in, same_split
from agent.core.state import Knowledge
from tests.core import given
from tests.core.cluster import Cluster


def split_keys(cluster: Cluster) -> set[str]:
    """The keys under which any agent has told of a split."""
    return {
        one.key for name in cluster.agents for one in cluster.incidents(name, "split")
    }


def key(parent: str) -> str:
    return f"{given.SYSTEM}/split/cluster/{parent}"


def cut_off_standby(*, moved_before: bool = False) -> Cluster:
    """n3 is cut off and promoted alone; the others keep their primary."""
    cluster = Cluster(managers=True)
    cluster.run(3)
    if moved_before:
        cluster.servers["n1"].promote(4)
        cluster.run(3)
    cluster.cut("n3")
    cluster.run(4)
    cluster.servers["n3"].promote()
    return cluster


@pytest.mark.parametrize(("moved_before", "parent"), [(False, "1"), (True, "4")])
def test_a_standby_promoted_in_isolation_names_the_split_as_the_others_do(
    moved_before, parent
):
    cluster = cut_off_standby(moved_before=moved_before)
    cluster.run(4)
    assert split_keys(cluster) == {key(parent)}  # n3 alone suspects it so far
    cluster.heal()
    cluster.run(4)
    assert "split-brain" in cluster.codes("n1")
    assert split_keys(cluster) == {key(parent)}


def test_it_does_so_before_its_own_disk_was_read_again():
    cluster = cut_off_standby()
    cluster.unreadable.add("n3")
    cluster.run(4)
    assert split_keys(cluster) == {key("1")}


def test_one_page_and_one_end_for_it():
    cluster = cut_off_standby()
    cluster.run(4)
    cluster.heal()
    cluster.run(3)
    cluster.servers["n3"].up = False
    cluster.run(3)
    cluster.servers["n3"].rewind_to(cluster.servers["n1"])
    cluster.servers["n3"].restart(standby=True)
    cluster.run(12)
    found = [cluster.incident(name, "split") for name in cluster.agents]
    assert len({one.id for one in found}) == 1
    assert all(one.status is Status.RESOLVED for one in found)


def test_a_primary_cut_off_on_its_own_timeline_names_that():
    cluster = Cluster()
    cluster.servers["n1"].promote(7)
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(3)
    cluster.heal()
    cluster.run(4)
    assert split_keys(cluster) == {key("7")}


def test_an_agent_that_never_saw_a_primary_names_its_own_timeline():
    cluster = Cluster()
    cluster.servers["n1"].promote(3)
    cluster.run(1)
    cluster.cut("n1")
    agent = cluster.agents["n1"]
    agent.state = type(agent.state)(agent.state.ledger, Knowledge(), agent.state.view)
    cluster.run(4)
    assert split_keys(cluster) == {key("3")}


def answers_first(cluster: Cluster, name: str, channel: Channel) -> None:
    """Let the others answer `name` on one channel only, for one round."""
    cluster.deaf = {
        (name, other, deaf)
        for other in cluster.agents
        for deaf in Channel
        if other != name and deaf is not channel
    }
    cluster.heal_links()
    cluster.run()
    cluster.deaf = set()


def test_who_comes_back_promoted_tells_no_failover_before_it_has_looked_around():
    cluster = cut_off_standby()
    cluster.run(4)
    answers_first(cluster, "n3", Channel.MANAGER)
    cluster.run(6)
    assert "split-brain" in cluster.codes("n3")
    assert all(not cluster.incidents(name, "primary") for name in cluster.agents)


def followed_a_primary_of_hidden_history() -> Cluster:
    """n2 has won a split while nobody could read its disk, and n1 is made to follow."""
    cluster = Cluster()
    cluster.run(3)
    cluster.unreadable.add("n2")
    cluster.servers["n2"].promote()
    cluster.servers["n1"].write(3)
    cluster.servers["n2"].write(2)
    cluster.servers["n3"].follows = "n2"
    cluster.run(4)
    assert "split-brain" in cluster.codes("n3")
    cluster.servers["n1"].up = False
    cluster.run(3)
    cluster.servers["n1"].restart(standby=True)
    return cluster


def test_a_split_is_not_over_while_the_history_of_its_winner_is_unread():
    cluster = followed_a_primary_of_hidden_history()
    cluster.run(60)
    for name in cluster.agents:
        split = cluster.incident(name, "split")
        assert (split.status, split.clear_since_s) == (Status.OPEN, None)
    cluster.unreadable.clear()
    cluster.run(4)
    assert cluster.verdict("n3", "lineage-diverged").evidence["losers"] == "n1"


def test_it_is_over_when_that_is_read_and_nobody_is_past_the_fork():
    cluster = followed_a_primary_of_hidden_history()
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.run(20)
    cluster.unreadable.clear()
    cluster.run(12)
    assert cluster.incident("n3", "split").status is Status.RESOLVED


def test_where_no_history_was_ever_read_a_split_can_end():
    cluster = Cluster()
    cluster.unreadable.add("n2")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.run(4)
    cluster.servers["n1"].up = False
    cluster.run(3)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(60)
    assert cluster.incident("n3", "split").status is Status.RESOLVED


def test_a_split_that_is_over_says_who_was_kept_though_nobody_could_tell_before():
    cluster = followed_a_primary_of_hidden_history()
    assert "kept" not in cluster.incident("n3", "split").verdict.evidence
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.run(20)
    cluster.unreadable.clear()
    cluster.run(12)
    over = cluster.incident("n3", "split")
    assert over.verdict.code == "split-brain"
    assert over.verdict.evidence["kept"] == "n2"
    told = incident_sentence(over, cluster.agents["n3"].policy)
    assert told.endswith("n2 was kept.")
    assert "can tell" not in told
    assert over.history[-1].sentence == told


def test_the_same_nodes_a_week_later_are_another_split():
    cluster = followed_a_primary_of_hidden_history()
    split = cluster.incident("n3", "split")
    over = replace(split, resolved_wall_s=split.since_wall_s + 60)
    own = replace(over.verdict, evidence={**over.verdict.evidence, "kept": "n2"})
    for later_s, same in ((300, True), (604_800, False)):
        since_s = split.since_wall_s + later_s
        next_one = replace(split, id="inc-next", since_wall_s=since_s, verdict=own)
        assert (next_one in same_split(over, (over, next_one))) is same
        assert kept_in(over, (over, next_one)) == ("n2" if same else None)
