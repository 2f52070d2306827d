"""The loser's agent dies at each named point while the shim waits for its permit.

Patroni may wipe what it cannot rewind (P5): a shim that took the death for an answer
would show, for the folder would be another one, or rewound. The agent is started
again, as its unit would; what it had promised or half copied must not be believed.
"""

import pytest

from agent.daemon.crash import KILLED, POINTS
from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]
TOLD = ("before-journal", "after-journal")
"""Points that are passed when somebody is to be told of an incident."""


@pytest.mark.fact("P5", "P8")
@pytest.mark.parametrize("point", POINTS)
def test_an_agent_that_dies_while_the_shim_waits_loses_nothing_p5_p8(
    cluster: Cluster, point: str
):
    split = stories.frozen(cluster)
    loser, keep = split.loser, cluster.here / "keep"
    loser.agent.kill()
    before = loser.data_dir.stat().st_ino
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    cluster.stop_client(loser.name)
    if point in TOLD:
        loser.box.cover(keep, stories.SMALL)  # else the permit may come before
    cluster.start_agent(loser.name, crash_at=point)
    dying = loser.agent
    eventually(f"it dies {point}", lambda: not dying.running, stories.BLOCKED_S)
    assert dying.started.returncode == KILLED
    if point != "after-grant":
        assert cluster.shim_pid(loser), "the shim did not wait"
    assert not loser.writable()
    assert loser.data_dir.stat().st_ino == before

    if point in TOLD:
        loser.box.cover(keep, "1g")
    cluster.start_agent(loser.name)
    stories.until_resynced(split)
    cluster.stop_clients()
    assert loser.data_dir.stat().st_ino == before, "it was cloned, not rewound"
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
