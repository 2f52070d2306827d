"""The volume of the snapshots is full: nothing is rewound until there is room."""

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


def pending(node: Node) -> list[str]:
    """Why the node's permits are not given."""
    return [one["reason"] for one in node.permits() if one["state"] == "pending"]


def test_a_copy_without_room_blocks_the_rewind_until_there_is_room_p5(
    cluster: Cluster,
):
    loser = cluster.primary()
    keep = cluster.here / "keep"
    loser.agent.kill()
    loser.box.cover(keep, stories.SMALL)
    cluster.start_agent(loser.name)
    cluster.until_healthy()
    split = stories.frozen(cluster)
    stories.until_unprotected(split)
    before = loser.data_dir.stat().st_ino
    loser.patroni.thaw()
    stories.until_demoted(split)
    stories.until_blocked(cluster, split)
    eventually("a permit is pending", lambda: pending(loser), stories.BLOCKED_S)
    told = [one for one in loser.incidents() if one["verdict"] == "unprotected"]
    assert [one["status"] for one in told] == ["open"]
    assert loser.data_dir.stat().st_ino == before

    loser.box.cover(keep, "1g")
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
