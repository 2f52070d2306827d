"""A person orders Patroni to clone a loser anew, past the shim (P7, P9).

`patronictl reinit --force` ends the waiting shim and removes the data folder. What
holds then is what was kept before: a copy, the pin, or the second names that the shim
gives to all files as its last thing. A clone through the guard moves old data aside.
"""

from pathlib import Path

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.ledger import count, rows_in_pin
from tests.system.node import Node
from tests.system.texts import SCOPE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]


def asides(node: Node) -> list[Path]:
    """The data folders that the guard moved aside on a node."""
    return list((node.box.folder / "pg").glob("data.splitguard-aside-*"))


def assert_opens_with_everything(
    cluster: Cluster, split: stories.Split, folder: Path, *more: Path
) -> None:
    """A data folder, opened by hand, has all that the winner lacks."""
    wal = more[0] if more else folder / "pg_wal"
    kept = rows_in_pin(split.loser.box, folder, wal)
    winner = cluster.rows(split.winner.name)
    counted = count(cluster.ledger.promised(), winner, kept)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted


@pytest.mark.fact("P7", "P9")
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


@pytest.mark.fact("P5", "P9")
def test_a_forced_reinit_of_a_loser_that_nobody_copied_leaves_its_files_p5_p9(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    loser = split.loser
    before = loser.data_dir.stat().st_ino
    loser.agent.kill()
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    cluster.patronictl(loser.name, "reinit", SCOPE, loser.name, "--force")
    stories.until_resynced(split)
    cluster.stop_clients()

    assert "Removing data directory" in loser.patroni.log
    assert loser.data_dir.stat().st_ino != before
    (held,) = (loser.box.folder / "pg").glob("data.splitguard-held-*")
    assert_opens_with_everything(cluster, split, cluster.here / "pg" / held.name)
    cluster.start_agent(loser.name)


@pytest.mark.fact("P6")
def test_a_standby_that_is_made_anew_through_the_guard_keeps_its_data_p6(
    cluster: Cluster,
):
    cluster.wire(replica=True)
    standby = cluster[stories.others(cluster.primary())[0]]
    words = ("reinit", SCOPE, standby.name, "--force")
    eventually(
        "Patroni takes the order, once it is through with the one before",
        lambda: "Success" in cluster.patronictl(standby.name, *words),
        stories.RESYNCED_S,
    )
    primary = cluster.primary()
    eventually(
        "old data is aside, and the new follows",
        lambda: asides(standby) and standby.follows(primary),
        stories.RESYNCED_S,
    )
    assert len(asides(standby)) == 1
    assert "replica has been created using splitguard" in standby.patroni.log


@pytest.mark.fact("P6", "P7")
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
    wal = cluster.here / "keep" / capture / "wal"
    farm = cluster.here / "pg" / farms[0].name
    assert_opens_with_everything(cluster, split, farm, wal)
