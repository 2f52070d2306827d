"""The volume of the snapshots is full: nothing is rewound until there is room.

It is too small from the beginning, or somebody else fills it while the copy is made.
"""

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


def until_blocked_unharmed(cluster: Cluster, split: stories.Split) -> None:
    """Let the loser's Patroni go on: it waits, and nothing of the loser is changed."""
    loser = split.loser
    before = loser.data_dir.stat().st_ino
    loser.patroni.thaw()
    stories.until_demoted(split)
    stories.until_blocked(cluster, split)
    eventually("a permit is pending", lambda: pending(loser), stories.BLOCKED_S)
    told = [one for one in loser.incidents() if one["verdict"] == "unprotected"]
    assert [one["status"] for one in told] == ["open"]
    assert loser.data_dir.stat().st_ino == before


def assert_kept_and_resynced(cluster: Cluster, split: stories.Split) -> None:
    """With room again the copy is made, the permit is given, and nothing is lost."""
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted


@pytest.mark.fact("P5")
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
    until_blocked_unharmed(cluster, split)
    loser.box.cover(keep, "1g")
    assert_kept_and_resynced(cluster, split)


@pytest.mark.fact("P5")
def test_a_disk_that_fills_during_the_copy_blocks_the_rewind_until_it_is_freed_p5(
    cluster: Cluster,
):
    loser = cluster.primary()
    keep = cluster.here / "keep"
    loser.agent.kill()
    loser.box.cover(keep, "1g")
    with (loser.box.folder / "agent.toml").open("a") as config:
        config.write("max_mib_s = 1\n")  # so that there is a time to fill it in
    cluster.start_agent(loser.name)
    cluster.until_healthy()
    split = stories.frozen(cluster)
    find = ("find", keep, "-path", "*/copy.partial/*", "-type", "f")
    eventually("it is being copied", lambda: loser.box.run(*find, check=False).stdout)
    fill = ("dd", "if=/dev/zero", f"of={keep / 'filler'}", "bs=1M")
    filled = loser.box.run(*fill, check=False)
    assert "No space left" in filled.stderr
    stories.until_unprotected(split)
    until_blocked_unharmed(cluster, split)
    loser.box.run("rm", keep / "filler")
    assert_kept_and_resynced(cluster, split)
