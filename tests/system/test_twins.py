"""Two standbys that were promoted apart to one timeline number.

Patroni compares timeline numbers, finds them equal, calls no rewind, and starts the
loser as a replica over its own WAL. No gate helps there: what the loser has written has
to be kept before, and somebody has to say what PostgreSQL and Patroni do not see.
"""

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.node import Node
from tests.system.texts import SCOPE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]
RECEIVED = "SELECT pg_last_wal_receive_lsn()::text"


def history(node: Node) -> str:
    """The history file of the timeline that a primary is on."""
    asked = "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
    ((timeline,),) = node.query(asked)
    return (node.data_dir / f"pg_wal/{timeline}.history").read_text()


def meet(cluster: Cluster, dead: Node, split: stories.Split) -> None:
    """Let the twins meet; Patroni takes the loser for a replica that is well."""
    loser, winner = split.loser, split.winner
    calls = loser.patroni.log.count("running pg_rewind")
    cluster.world.heal()
    cluster.start_patroni(dead.name)
    stories.until_proven(split)
    loser.patroni.thaw()
    stories.until_demoted(split)
    eventually(
        "every agent says that one number stands for two histories",
        lambda: all(
            any(what == "lineage-twin" for what, _ in node.verdicts())
            for node in (loser, winner)
        ),
        stories.BLOCKED_S,
    )
    eventually(
        "Patroni calls the loser a replica that runs",
        lambda: cluster.member(loser.name)["state"] in {"running", "streaming"},
        stories.BLOCKED_S,
    )
    assert cluster.member(loser.name)["role"] == "replica"
    assert not cluster.shim_pid(loser)
    assert loser.patroni.log.count("running pg_rewind") == calls


def assert_both_are_kept(cluster: Cluster, split: stories.Split) -> None:
    """Each has a snapshot, and the loser's rows are in its own: also after its end."""
    loser, winner = split.loser, split.winner
    cluster.stop_clients()
    assert cluster.snapshots(winner.name), "nothing is kept of the winner"
    eventually(
        "a copy of the loser is complete",
        lambda: any(s["grade"] == "complete" for s in cluster.snapshots(loser.name)),
        stories.BLOCKED_S,
    )
    words = ("reinit", SCOPE, loser.name, "--force")
    cluster.patronictl(winner.name, *words)
    stories.until_all_follow(cluster, split)
    counted = cluster.count(winner)
    print(counted, "/ without a snapshot", counted.without)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
    assert cluster.ledger.promised(loser.name) <= cluster.kept(loser.name)


@pytest.mark.fact("P11", "P17")
def test_twins_with_other_switch_points_are_told_and_kept_p11_p17(cluster: Cluster):
    first = cluster.primary()
    winner, loser = (cluster[name] for name in stories.others(first))
    on_first = cluster.client(first.name, "first")
    on_first.until(stories.ROWS)
    loser.patroni.freeze()
    cluster.world.cut(loser.name)
    stories.promote_by_hand(cluster, loser)
    on_first.until(stories.ROWS)
    cluster.stop_client(first.name)
    stories.kill_all(first)
    cluster.until_primary(winner.name)
    cluster.client(winner.name, "by-patroni").until(stories.ROWS)

    ours, theirs = history(loser).splitlines(), history(winner).splitlines()
    assert len(ours) == len(theirs)
    assert ours[-1] != theirs[-1]
    split = stories.Split(loser, winner)
    meet(cluster, first, split)
    assert_both_are_kept(cluster, split)


@pytest.mark.fact("P15")
def test_twins_with_one_switch_point_are_told_and_kept_p15(cluster: Cluster):
    first = cluster.primary()
    winner, loser = (cluster[name] for name in stories.others(first))
    cluster.client(first.name, "first").until(stories.ROWS)
    cluster.stop_client(first.name)
    loser.patroni.freeze()
    stories.kill_all(first)
    eventually(
        "both have received the same",
        lambda: loser.query(RECEIVED) == winner.query(RECEIVED),
    )
    cluster.world.cut(loser.name)
    stories.promote_by_hand(cluster, loser)
    cluster.until_primary(winner.name)
    cluster.client(winner.name, "by-patroni").until(stories.ROWS)

    assert history(loser) == history(winner)
    split = stories.Split(loser, winner)
    meet(cluster, first, split)
    assert_both_are_kept(cluster, split)
