"""Whatever is observed, the core goes on, believes no nonsense, and invents no split.

The states are reached by real sequences of events; what is thrown at them has every
type right and may contradict itself, the clock and everything else that is known.
"""

from dataclasses import replace

from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from agent import codec
from agent.core.event import Observed, ServerRead, Ticked
from agent.core.explain import sentence
from agent.core.machine import step
from agent.core.nextstep import next_step
from agent.core.plausible import impossible_report
from agent.core.reporting import make_report
from agent.core.state import State
from agent.core.verdict import VerdictCode
from tests import strategies
from tests.core.cluster import FINE, Cluster

PROVEN = VerdictCode.SPLIT_BRAIN


def healthy() -> Cluster:
    cluster = Cluster(managers=True)
    cluster.run(4)
    return cluster


def cut_off() -> Cluster:
    cluster = healthy()
    cluster.cut("n1")
    cluster.run(5)
    return cluster


def failed_over() -> Cluster:
    cluster = healthy()
    cluster.kill("n1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(3)
    return cluster


def split() -> Cluster:
    cluster = cut_off()
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(2)
    cluster.servers["n1"].write(3)
    cluster.servers["n2"].write(2)
    cluster.heal()
    cluster.run(4)
    return cluster


def stopped_loser() -> Cluster:
    cluster = split()
    cluster.servers["n1"].up = False
    cluster.run(3)
    return cluster


def unread() -> Cluster:
    cluster = healthy()
    cluster.unreadable = {"n2"}
    cluster.refusing = {"n3"}
    cluster.run(3)
    return cluster


MADE = {
    make.__name__: make()
    for make in (healthy, cut_off, failed_over, split, stopped_loser, unread)
}


@st.composite
def onslaught(draw: st.DrawFn):
    """Where an agent's state is found, and what it is to observe."""
    name = draw(st.sampled_from(sorted(MADE)))
    cluster = MADE[name]
    me, peer = draw(st.permutations(["n1", "n2", "n3"]))[:2]
    at = cluster.at(me, 0.9)
    teller = cluster.agents[peer]
    honest = make_report(teller.state, cluster.at(peer, 0.9), teller.policy)
    seen = draw(
        st.lists(
            strategies.hostile(at.monotonic_s, honest).map(lambda o: Observed(at, o))
            | strategies.FACTS.map(lambda facts: ServerRead(at, facts)),
            min_size=1,
            max_size=3,
        )
    )
    return name, me, at, seen


@over(onslaught())
@settings(max_examples=100)
def test_no_observation_breaks_the_core_or_what_it_tells(thrown):
    name, me, at, events = thrown
    agent = MADE[name].agents[me]
    state = agent.state
    for event in (*events, Ticked(at, FINE), Ticked(later(at, 1.0), FINE)):
        state = step(state, event, agent.policy).state
        for verdict in state.view.verdicts:
            assert sentence(verdict, agent.policy)
            next_step(verdict)
    told = make_report(state, later(at, 1.0), agent.policy)
    assert impossible_report(told) == ""
    assert codec.from_json(codec.to_json(told), type(told)) == told
    assert codec.from_json(codec.to_json(state), State) == state


def later(at, seconds: float):
    return replace(at, monotonic_s=at.monotonic_s + seconds, wall_s=at.wall_s + seconds)
