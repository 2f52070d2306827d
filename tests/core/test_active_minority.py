"""Managers of the 4.x line: the side with the newest database stays, however small.

A node that is cut off turns active ("active minority mode"), and nobody can tell
beforehand whose database will be the most recently updated one. So no side is the safe
one: each is kept in full, and no sentence names a winner.
"""

from agent.core import explain, protection
from agent.core.capture import Level
from agent.core.policy import WinnerRule
from agent.core.prediction import winner
from agent.core.verdict import VerdictCode
from tests.core.cluster import Cluster


def minority() -> Cluster:
    """n3, a standby, was cut off, turned active and took writes like the others."""
    cluster = Cluster(managers=True, winner_rule=WinnerRule.NEWEST_COMMIT)
    cluster.run(4)
    cluster.cut("n3")
    cluster.run(4)
    cluster.servers["n3"].promote()
    cluster.active["n3"] = True
    write(cluster)
    return cluster


def write(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.servers["n1"].write()
        cluster.servers["n3"].write(3)
        cluster.run()


def predicted(cluster: Cluster, name: str) -> str | None:
    agent = cluster.agents[name]
    return winner(agent.state, agent.policy).node


def levels(cluster: Cluster, name: str) -> set[Level]:
    agent = cluster.agents[name]
    capture = protection.unfinished(agent.state, agent.policy)
    return set() if capture is None else set(capture.order.levels)


def test_a_minority_that_turned_active_is_kept_in_full_before_anybody_meets_it():
    cluster = minority()
    assert "observer-isolated" in cluster.codes("n3")
    assert predicted(cluster, "n3") is None
    assert levels(cluster, "n3") >= {Level.TAIL, Level.PIN}


def test_when_the_sides_meet_nobody_is_named_and_both_are_kept_in_full():
    cluster = minority()
    cluster.heal()
    write(cluster)
    found = cluster.verdict("n2", "split-brain")
    assert found.evidence["tips"] == "n1,n3"
    assert (found.evidence["winner"], found.evidence["winner_rule"]) == (
        None,
        "newest-commit",
    )
    told = explain.sentence(found, cluster.agents["n2"].policy)
    assert told.endswith(
        "Nobody can tell which side will be kept: the newest commit decides."
    )
    agent = cluster.agents["n2"]
    assert "be it on the smaller side" in winner(agent.state, agent.policy).reason
    for name in ("n1", "n3"):
        assert levels(cluster, name) == set(Level), name


def test_the_minority_can_win_and_the_majority_is_then_the_losing_side():
    cluster = minority()
    cluster.heal()
    write(cluster)
    cluster.servers["n1"].restart(standby=True)
    cluster.active["n1"] = False
    cluster.run(4)
    assert predicted(cluster, "n1") == "n3"
    found = cluster.verdict("n1", VerdictCode.LINEAGE_DIVERGED)
    assert found.evidence["winner"] == "n3"
    assert "n1" in str(found.evidence["losers"]).split(",")
    assert levels(cluster, "n1") == set(Level)
