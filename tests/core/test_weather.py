"""Where questions are lost, a silence that one cause explains in part is no death.

The rounds are those of the small cluster: each agent looks once a second, in turn.
"""

from dataclasses import replace

import pytest

from agent.core import weather
from agent.core.event import Observed
from agent.core.observation import Channel
from agent.core.weather import LOST_MAX, MEMORY_ROUNDS
from tests.core import given
from tests.core.cluster import Cluster

BOTH = (Channel.AGENT, Channel.POSTGRES)


def lose(cluster: Cluster, *ways: tuple[str, str, Channel], rounds: int = 1) -> None:
    """Lose these questions, and let them be answered in the round after."""
    before = set(cluster.deaf)
    cluster.deaf |= set(ways)
    cluster.run(rounds)
    cluster.deaf = before
    cluster.run()


def bad(cluster: Cluster, name: str) -> bool:
    agent = cluster.agents[name]
    return weather.is_bad(agent.state.view, cluster.at(name, 0.9), agent.policy)


def stormy() -> Cluster:
    """Each agent has just lost a question to each of the others, on both channels."""
    cluster = Cluster()
    cluster.run(3)
    for channel in BOTH:
        names = tuple(cluster.agents)
        lose(cluster, *((a, b, channel) for a in names for b in names if a != b))
    return cluster


def test_the_weather_is_bad_when_more_was_lost_than_on_half_of_the_channels():
    cluster = Cluster()
    cluster.run(3)
    lose(cluster, ("n1", "n2", Channel.AGENT))
    lose(cluster, ("n1", "n2", Channel.AGENT))
    assert not bad(cluster, "n1")
    lose(cluster, ("n1", "n3", Channel.POSTGRES), rounds=LOST_MAX)
    assert bad(cluster, "n1")
    assert not bad(cluster, "n2")


def test_an_outage_is_no_weather():
    cluster = Cluster()
    cluster.run(3)
    ways = [("n1", node, channel) for node in ("n2", "n3") for channel in BOTH]
    lose(cluster, *ways, rounds=LOST_MAX + 1)
    assert cluster.agents["n1"].state.view.lost == ()


def test_bad_weather_is_forgotten():
    cluster = stormy()
    cluster.run(MEMORY_ROUNDS - 4)
    assert bad(cluster, "n1")
    cluster.run(3)
    assert not bad(cluster, "n1")


@pytest.mark.parametrize(("ago_s", "is_bad"), [(10.0, True), (10.1, False)])
def test_it_is_forgotten_after_as_many_rounds_however_long_one_is(ago_s, is_bad):
    policy = replace(given.policy(), round_s=0.5)
    state = given.state(lost=(100.0 - ago_s,) * 3)
    assert weather.is_bad(state.view, given.at(100.0), policy) is is_bad


def test_ones_own_server_is_on_no_network():
    policy, own = given.policy(), given.postgres("n1", given.sight(), 9.0)
    before = given.state(missed={"n1/postgres": 1})
    after = given.state(missed={"n1/postgres": 0}, latest={"n1/postgres": own})
    event = Observed(given.at(9.1), own)
    assert weather.noted(before.view, after, event, policy) is after


def test_a_stopped_server_and_a_few_lost_questions_are_no_death():
    """What is lost to its agent in bad weather, while its server is down."""
    cluster = stormy()
    cluster.servers["n3"].up = False
    cluster.deaf |= {(seer, "n3", Channel.AGENT) for seer in ("n1", "n2")}
    for _ in range(6):
        cluster.run()
        assert not {"node-down", "failover"} & (
            cluster.codes("n1") | cluster.codes("n2")
        )
    cluster.deaf = set()
    cluster.run(2)
    assert "postgres-down" in cluster.codes("n1")


def test_a_cut_and_an_agent_that_stands_still_are_no_death():
    """n1 is cut off from n3, whose agent is held up, and n2 loses two questions."""
    cluster = stormy()
    cluster.cuts |= {("n1", "n3"), ("n3", "n1")}
    cluster.deaf |= {("n2", "n3", channel) for channel in Channel}
    cluster.run(2)
    assert "node-down" not in cluster.codes("n1") | cluster.codes("n2")
    cluster.deaf = set()
    cluster.run(2)
    assert cluster.codes("n2") == {"link-down"}


@pytest.mark.parametrize(
    ("calm", "needed"), [(0, 7), (MEMORY_ROUNDS - 10, 7), (MEMORY_ROUNDS, 2)]
)
def test_a_death_takes_longer_to_tell_while_questions_are_lost(calm, needed):
    cluster = stormy()
    cluster.run(calm)
    cluster.kill("n3")
    cluster.run(needed - 1)
    assert "node-down" not in cluster.codes("n2")
    cluster.run()
    assert "node-down" in cluster.codes("n2")
