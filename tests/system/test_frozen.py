"""A frozen Patroni whose PostgreSQL lives on: the split brain that nobody reports."""

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
RESYNCED_S = 90.0


@pytest.mark.slow_system
def test_a_copy_that_is_complete_holds_what_an_unguarded_rewind_discards_p1_p2(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    stories.until_proven(split)
    loser = split.loser
    eventually(
        "a copy is complete",
        lambda: any(s["grade"] == "complete" for s in cluster.snapshots(loser.name)),
    )
    split.on_loser.until(stories.ROWS)
    loser.patroni.thaw()
    stories.until_demoted(split)
    eventually("it was resynced", lambda: loser.follows(split.winner), RESYNCED_S)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert "pg_rewind" in loser.patroni.log
    assert counted.without >= 2 * stories.ROWS, counted
    assert counted.lost == 0, counted
