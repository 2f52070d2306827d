"""What looks like a move of the primary and is none."""

from agent.core.observation import Channel
from tests.core.cluster import Cluster


def test_no_primary_moves_to_an_address_that_leads_to_it():
    """Its own name is not answered for a while, and then later than the other one."""
    cluster = Cluster()
    cluster.run(2)
    cluster.leads["n2"] = "n1"
    cluster.run(2)
    names = ("n1", "n2")
    cluster.deaf = {(a, b, Channel.POSTGRES) for a in cluster.agents for b in names}
    cluster.run(4)
    assert "postgres-down" in cluster.codes("n3")
    cluster.deaf = {(seer, "n1", Channel.POSTGRES) for seer in cluster.agents}
    cluster.run(2)
    for name in cluster.agents:
        told = [one.verdict.code for one in cluster.incidents(name, "primary")]
        assert "failover" not in told
        assert cluster.agents[name].state.knowledge.primary.node == "n1"
    cluster.heal()
    cluster.run(2)
    assert cluster.codes("n3") == {"config-error"}
