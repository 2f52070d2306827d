"""A third node that follows the loser after the network is whole again (P16)."""

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.node import Node

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]
RESUMED_S = 70.0


def rows_of(node: Node, writer: Node) -> int:
    """How many rows a node has that were written on another."""
    asked = "SELECT count(*) FROM kept WHERE content LIKE %s"
    return int(node.query(asked, f"{writer.name}/%")[0][0])


@pytest.mark.fact("P16")
def test_a_third_node_that_followed_the_loser_is_kept_before_its_rewind_p16(
    cluster: Cluster,
):
    loser = cluster.primary()
    winner, third = (cluster[name] for name in stories.others(loser))
    client = cluster.client(loser.name, "loser")
    client.until(stories.ROWS)
    for node in (loser, third):
        node.patroni.freeze()
    cluster.world.cut(loser.name, winner.name, third.name)
    client.until(stories.ROWS)
    cluster.until_primary(winner.name)
    cluster.client(winner.name, "winner").until(stories.ROWS)
    split = stories.Split(loser, winner)

    cluster.world.heal()
    wanted = rows_of(loser, loser)
    eventually(
        "the third node has the loser's rows",
        lambda: rows_of(third, loser) >= wanted,
        RESUMED_S,
    )
    eventually(
        "the third node is kept as a loser too",
        lambda: any(s["grade"] == "complete" for s in cluster.snapshots(third.name)),
        stories.PROVEN_S,
    )
    for node in (third, loser):
        node.patroni.thaw()
    stories.until_all_follow(cluster, split)
    cluster.stop_clients()
    assert "splitguard: granted: snapshot " in third.patroni.log
    counted = cluster.count(winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
