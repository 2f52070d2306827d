"""A frozen Patroni whose PostgreSQL lives on: the split brain that nobody reports."""

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.mark.fact("P1", "P2")
@pytest.mark.slow_system
def test_a_copy_that_is_complete_holds_what_an_unguarded_rewind_discards_p1_p2(
    unguarded: Cluster,
):
    split = stories.frozen(unguarded)
    stories.until_proven(split)
    loser = split.loser
    eventually(
        "a copy is complete",
        lambda: any(s["grade"] == "complete" for s in unguarded.snapshots(loser.name)),
    )
    loser.patroni.thaw()
    stories.until_demoted(split)
    stories.until_resynced(split)
    unguarded.stop_clients()
    counted = unguarded.count(split.winner)
    assert "running pg_rewind" in loser.patroni.log
    assert counted.without >= stories.ROWS, counted
    assert counted.lost == 0, counted
