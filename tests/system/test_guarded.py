"""Losers that Patroni rewinds, with the guard in front: every write is kept.

Patroni has Cloudify's three flags. In each test the winner lacks rows that the loser
has acknowledged; they have to be in a snapshot when the loser follows the winner.
"""

import pytest

from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.ledger import Count

SPLIT = {"split-brain", "lineage-diverged"}

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def assert_nothing_is_lost(cluster: Cluster, split: stories.Split) -> Count:
    """The loser was rewound by permit, and all that it had written is kept."""
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    print(counted, "/ without a snapshot", counted.without)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
    assert "splitguard: granted: snapshot " in split.loser.patroni.log
    assert [one["purpose"] for one in split.loser.permits()][-1:] == ["pg_rewind"]
    return counted


def verdicts_told(split: stories.Split) -> set[str]:
    """Every verdict that the loser's agent has had an incident about."""
    return {one["verdict"] for one in split.loser.incidents()}


@pytest.mark.fact("P1", "P2", "P8")
def test_a_frozen_primary_is_rewound_only_when_its_rows_are_kept_p1_p2_p8(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    split.loser.patroni.thaw()
    stories.until_demoted(split)
    stories.until_resynced(split)
    assert_nothing_is_lost(cluster, split)
    assert SPLIT & verdicts_told(split)


@pytest.mark.fact("P18")
def test_a_primary_that_was_cut_off_is_rewound_only_when_its_rows_are_kept_p18(
    cluster: Cluster,
):
    split = stories.cut_off(cluster)
    cluster.world.heal()
    stories.until_resynced(split)
    assert_nothing_is_lost(cluster, split)
    assert SPLIT & verdicts_told(split)


@pytest.mark.fact("P18")
@pytest.mark.slow_system
def test_a_primary_that_was_killed_is_rewound_only_when_its_rows_are_kept_p18(
    cluster: Cluster,
):
    split = stories.killed(cluster)
    cluster.start_patroni(split.loser.name)
    stories.until_resynced(split)
    assert_nothing_is_lost(cluster, split)
    assert SPLIT & verdicts_told(split)
