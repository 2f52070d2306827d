"""A person orders Patroni to clone a loser anew, past the shim (P7, P9).

`patronictl reinit --force` ends the waiting shim and removes the data folder; no shim
can stand in front of that. What holds then is what was kept before.
"""

import pytest

from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.ledger import count, rows_in_pin
from tests.system.texts import SCOPE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]


def test_a_forced_reinit_ends_the_shim_and_the_copy_that_was_complete_remains_p7_p9(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    loser = split.loser
    stories.until_proven(split)
    cluster.stop_client(loser.name)
    stories.until_complete(cluster, split)
    loser.agent.freeze()
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    before, shim = loser.data_dir.stat().st_ino, cluster.shim_pid(loser)

    cluster.patronictl(loser.name, "reinit", SCOPE, loser.name, "--force")
    stories.until_resynced(split)
    assert loser.data_dir.stat().st_ino != before
    assert not loser.box.alive(int(shim))
    loser.agent.thaw()
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted


def test_a_reinit_from_the_leader_removes_a_loser_and_its_pin_remains_p6_p7(
    cluster: Cluster,
):
    loser = cluster.primary()
    loser.agent.kill()
    loser.box.cover(cluster.here / "keep", stories.SMALL)
    cluster.start_agent(loser.name)
    cluster.until_healthy()
    split = stories.frozen(cluster)
    stories.until_unprotected(split)
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    words = ("reinit", SCOPE, loser.name, "--force", "--from-leader")
    cluster.patronictl(loser.name, *words)
    stories.until_resynced(split)
    cluster.stop_clients()

    farms = list((loser.box.folder / "pg").glob(".splitguard-pin-*@data"))
    assert len(farms) == 1, farms
    capture = farms[0].name.removeprefix(".splitguard-pin-").removesuffix("@data")
    kept = rows_in_pin(
        loser.box,
        cluster.here / "pg" / farms[0].name,
        cluster.here / "keep" / capture / "wal",
    )
    counted = count(cluster.ledger.promised(), cluster.rows(split.winner.name), kept)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
