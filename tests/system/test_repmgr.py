"""`repmgr node rejoin` through the shim (P13): the loser's rows are kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import eventually
from tests.fix_system import fresh_cluster
from tests.system import stories
from tests.system.cluster import Kit
from tests.system.repmgr import CONNECT, RepmgrPair

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]


@pytest.fixture
def pair(kit: Kit, postgres_home: Path) -> Iterator[RepmgrPair]:
    """A healthy pair under repmgr."""
    with fresh_cluster(kit, postgres_home, RepmgrPair) as made:
        yield made


@pytest.mark.fact("P13")
def test_a_loser_rejoins_under_repmgr_only_when_its_rows_are_kept_p13(
    pair: RepmgrPair,
):
    loser, winner = pair["n1"], pair["n2"]
    on_loser = pair.client("n1", "loser")
    on_loser.until(stories.ROWS)
    pair.world.cut("n1", "n2")
    pair.repmgr("n2", "standby", "promote")
    pair.client("n2", "winner").until(stories.ROWS)
    on_loser.until(stories.ROWS)
    pair.world.heal()
    pair.stop_client("n1")
    pair.pg_ctl("n1", "-m", "fast", "stop")
    there = CONNECT.format(winner.box.address)
    rewind = f"--force-rewind={pair.shim}"
    told = pair.repmgr("n1", "node", "rejoin", "-d", there, rewind)
    assert "NODE REJOIN" in told
    eventually("it follows", lambda: loser.follows(winner), stories.RESYNCED_S)
    pair.stop_clients()
    assert [one["purpose"] for one in loser.permits()] == ["pg_rewind"]
    counted = pair.count(winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
