"""A second primary while Patroni is paused: Patroni calls it a replica (P10).

Only SQL tells the truth. And whoever predicts by the timeline predicts wrong: Patroni
keeps the holder of its lock, whose timeline is the lower one.
"""

import pytest

from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.texts import SCOPE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]


@pytest.mark.fact("P10")
def test_a_rogue_primary_that_patroni_calls_a_replica_is_named_and_kept_p10(
    cluster: Cluster,
):
    first = cluster.primary()
    rogue = cluster[stories.others(first)[0]]
    cluster.patronictl(first.name, "pause", "--wait", SCOPE)
    stories.promote_by_hand(cluster, rogue)
    cluster.client(first.name, "lock-holder").until(stories.ROWS)
    split = stories.Split(loser=rogue, winner=first)
    stories.until_proven(split)
    assert rogue.writable()
    assert cluster.member(rogue.name)["role"] == "replica"
    assert cluster.member(rogue.name)["state"] in {"running", "streaming"}

    cluster.patronictl(first.name, "resume", "--wait", SCOPE)
    stories.until_demoted(split)
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(first)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
