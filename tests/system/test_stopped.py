"""Patroni is stopped while the shim waits: it ends what it runs before it ends itself.

With Cloudify's flags (P12) a rewind that was ended so counts as one that failed, and
the data folder is removed on the way out: unless the shim ends with 0 (P5, P9).
"""

import pytest

from tests.system import stories
from tests.system.cluster import Cluster

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]


@pytest.mark.fact("P5", "P9")
def test_a_patroni_that_is_stopped_leaves_the_loser_as_it_is_p5_p9(cluster: Cluster):
    split = stories.frozen(cluster)
    loser = split.loser
    loser.agent.kill()
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    before = loser.data_dir.stat().st_ino
    written = (loser.data_dir / "PG_VERSION").stat().st_mtime_ns
    loser.patroni.end()
    assert "Removing data directory" not in loser.patroni.log
    assert loser.data_dir.stat().st_ino == before
    assert (loser.data_dir / "PG_VERSION").stat().st_mtime_ns == written

    cluster.start_patroni(loser.name)
    stories.until_blocked(cluster, split)
    cluster.start_agent(loser.name)
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
