"""Strict synchronous replication while the shim holds every other node back.

The promoted node may commit nothing without a standby, and both standbys are losers
that wait for a permit: its clients wait too. That has to be told, and to end by itself.
"""

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.texts import SCOPE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow_system,
    pytest.mark.timeout(300),
]
STRICT = ("-s", "synchronous_mode=true", "-s", "synchronous_mode_strict=true")


def sync_standby(cluster: Cluster) -> str:
    """The node that Patroni would promote; empty when there is none yet."""
    members = cluster.patroni_says("n1")["members"]
    return next((m["name"] for m in members if m["role"] == "sync_standby"), "")


@pytest.mark.fact("P12", "strict-sync")
def test_commits_that_wait_for_blocked_losers_are_told_and_go_on_p12(
    cluster: Cluster,
):
    loser = cluster.primary()
    cluster.patronictl(loser.name, "edit-config", SCOPE, "--force", *STRICT)
    name = eventually(
        "a standby is synchronous", lambda: sync_standby(cluster), stories.PROVEN_S
    )
    winner = cluster[name]
    (third,) = (cluster[name] for name in stories.others(loser) if name != winner.name)
    cluster.client(loser.name, "before").until(stories.ROWS)
    losers = (loser, third)
    for node in losers:
        node.patroni.freeze()
        node.box.cover(cluster.kit.splitguard)  # the agent runs on, the shim waits
    cluster.until_primary(winner.name)
    client = cluster.client(winner.name, "strict")
    for node in losers:
        node.patroni.thaw()
        split = stories.Split(node, winner)
        stories.until_blocked(cluster, split)
    eventually(
        "it is told that writes wait",
        lambda: ("writes-blocked", winner.name) in winner.verdicts(),
        stories.BLOCKED_S,
    )

    for node in losers:
        node.box.uncover(cluster.kit.splitguard)
    stories.until_all_follow(cluster, stories.Split(loser, winner))
    client.until(stories.ROWS)
    cluster.stop_clients()
    assert ("writes-blocked", winner.name) not in winner.verdicts()
    counted = cluster.count(winner)
    assert counted.lost == 0, counted
