"""When a node counts as dead: what is missed by chance, or behind a cut, is no proof.

The rounds are those of the small cluster: each agent looks once a second, in turn.
"""

from dataclasses import replace

import pytest

from agent.core import death
from agent.core.observation import Channel, Observation, Outcome, Sight
from agent.core.policy import NodeSpec, Policy
from agent.core.quorum import Vote
from agent.core.scene import build
from tests.core import given
from tests.core.cluster import Cluster

ALL = tuple(Channel)


def misses(cluster: Cluster, *seers: str, node: str = "n3") -> None:
    """Nothing that these ask of the node gets there."""
    cluster.deaf |= {(seer, node, channel) for seer in seers for channel in ALL}


def rounds_to(cluster: Cluster, name: str, code: str, limit: int = 12) -> int:
    """After how many rounds an agent says so; more than the limit: never."""
    for number in range(1, limit + 1):
        cluster.run()
        if code in cluster.codes(name):
            return number
    return limit + 1


def test_two_voters_that_begin_to_miss_it_together_need_two_misses_each():
    cluster = Cluster()
    cluster.run(3)
    cluster.kill("n3")
    assert rounds_to(cluster, "n2", "node-down") == 2


def test_who_was_cut_off_before_tells_nothing_of_a_death():
    """n1 cannot see n3 and never will: all hangs on what n2 misses."""
    cluster = Cluster()
    cluster.run(3)
    misses(cluster, "n1")
    cluster.run(6)
    assert cluster.codes("n2") == {"link-down"}
    misses(cluster, "n2")
    assert rounds_to(cluster, "n2", "node-down") == 4
    cluster.run()
    assert "node-down" in cluster.codes("n1")


def test_a_few_lost_questions_beside_a_cut_are_no_death():
    cluster = Cluster()
    cluster.run(3)
    misses(cluster, "n1")
    cluster.run(6)
    for _ in range(4):
        misses(cluster, "n2")
        cluster.run(2)
        assert not {"node-down", "failover"} & cluster.codes("n2")
        cluster.deaf = {way for way in cluster.deaf if way[0] == "n1"}
        cluster.run(2)
    assert cluster.incidents("n1", "reach") == cluster.incidents("n2", "reach") == []


@pytest.mark.parametrize(("late", "needed"), [(1, 2), (2, 2), (4, 4), (9, 4)])
def test_misses_that_began_within_three_rounds_count_together(late, needed):
    cluster = Cluster()
    cluster.run(3)
    misses(cluster, "n1")
    cluster.run(late)
    misses(cluster, "n2")
    assert rounds_to(cluster, "n2", "node-down") == needed


NODES = (
    *(NodeSpec(name, has_postgres=True, has_manager=False) for name in ("n1", "n2")),
    NodeSpec("w1", has_postgres=False, has_manager=False),
)


@pytest.mark.parametrize(
    ("ours", "theirs", "round_s", "dead"),
    [
        (4, 4, 1.0, True),
        (4, 3, 1.0, False),
        (3, 4, 1.0, False),
        (2, 2, 1.0, False),
        (9, 3, 1.0, False),
        (9, 4, 1.0, False),
        (9, 5, 1.0, True),
        (5, 9, 1.0, True),
        (4, 6, 0.5, True),
        (4, 8, 0.5, False),
    ],
)
def test_a_witness_which_has_one_channel_takes_some_rounds_more(
    ours, theirs, round_s, dead
):
    """What began more than three rounds before the other is left out, for a while."""
    age_s = 0.5
    policy = Policy("test", "n1", NODES, round_s=round_s)
    lost = Observation("w1", Channel.AGENT, Outcome.TIMED_OUT, "", 9.0, 9.8)
    told = Sight(
        "w1", Channel.AGENT, Outcome.TIMED_OUT, "", age_s, theirs, None, None
    )  # fmt: skip
    report = given.heard("n2", given.report("n2", sights=(told,)), 9.9)
    state = given.state(
        latest={
            "w1/agent": lost,
            "n2/agent": report,
            "n1/postgres": given.postgres("n1", given.sight(), 9.5),
            "n2/postgres": given.postgres("n2", given.sight(in_recovery=True), 9.5),
        },
        missed={"w1/agent": ours},
        reports={"n2": report},
    )
    scene = build(state, given.at(10.0), policy)
    assert death.vote_on(scene, "w1").vote is Vote.WON
    assert death.is_down(scene, "w1") is dead


def test_what_people_were_told_needs_no_new_proof_when_another_begins_to_look():
    cluster = Cluster(count=5)
    cluster.run(3)
    misses(cluster, "n1", "n2", "n3", node="n5")
    cluster.run(3)
    cluster.kill("n5")
    cluster.run(8)
    assert "node-down" in cluster.codes("n2")
    cluster.start_agent("n4")
    for _ in range(8):
        cluster.run()
        assert "node-down" in cluster.codes("n2")


def test_who_was_told_of_as_down_and_then_not_seen_by_enough_is_soon_down_again():
    """For a while no majority looks; nobody has seen n3 since."""
    cluster = Cluster()
    cluster.run(3)
    cluster.kill("n3")
    cluster.run(4)
    cluster.agents["n1"].up = False
    cluster.run(6)
    assert "node-unreachable" in cluster.codes("n2")
    cluster.start_agent("n1")
    assert rounds_to(cluster, "n2", "node-down") <= 3


@pytest.mark.parametrize(
    ("missed", "vote"),
    [(None, Vote.PENDING), (1, Vote.PENDING), (5, Vote.LOST)],
)
def test_a_voter_that_is_only_late_may_still_be_heard(missed, vote):
    """n1 hears nothing of w1, nor yet a report of n2: not asked, or missed once."""
    lost = Observation("w1", Channel.AGENT, Outcome.TIMED_OUT, "", 9.0, 9.8)
    asked = {} if missed is None else {"n2/agent": replace(lost, node="n2")}
    state = given.state(
        latest={"w1/agent": lost, **asked},
        missed={"w1/agent": 5, "n2/agent": missed or 0},
    )
    scene = build(state, given.at(10.0), Policy("test", "n1", NODES))
    assert death.vote_on(scene, "w1").vote is vote
