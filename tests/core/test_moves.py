"""What looks like a move of the primary and is none."""

from agent.core import view
from agent.core.event import ServerRead
from agent.core.observation import Channel
from agent.core.state import State
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_view import fold, miss, seen_by_all, tick


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
        primary = cluster.agents[name].state.knowledge.primary
        assert primary is not None
        assert primary.node == "n1"
    cluster.heal()
    cluster.run(2)
    assert cluster.codes("n3") == {"config-error"}


def test_no_stranger_is_the_primary_that_an_agent_first_hears_of():
    """Its own disk tells which system is the cluster's while the primary is missed."""
    stranger = given.sight(system_id="42")
    seen = [*seen_by_all(1, n1=stranger), miss("n2", 1.1)]
    blind = tick(fold(State(), *seen), 2.5)
    assert blind.knowledge.primary.system_id == "42"
    own = ServerRead(given.at(0.5), given.facts())
    state = tick(fold(view.fold(State(), own, given.policy()), *seen), 2.5)
    assert state.knowledge.primary is None
    state = tick(fold(state, *seen_by_all(3, n1=stranger, n2=given.sight())), 3.5)
    assert state.knowledge.primary.node == "n2"
