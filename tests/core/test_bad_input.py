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
from agent.core.observation import Outcome, WritableSpan
from agent.core.plausible import impossible_report
from agent.core.reporting import make_report
from agent.core.state import State
from agent.core.verdict import VerdictCode
from tests import strategies
from tests.core import given
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


@over(onslaught())
@settings(max_examples=100)
def test_no_observation_proves_a_split_to_whom_no_server_of_its_own_is_writable(thrown):
    name, me, _, events = thrown
    agent = MADE[name].agents[me]
    told = [e for e in events if isinstance(e, Observed) and e.observation.report]
    state = agent.state
    known = {(one.first, one.second) for one in state.view.proofs}
    for event in told:
        state = step(state, event, agent.policy).state
    writable = {one.node for one in state.view.writable}
    for proof in state.view.proofs:
        if (proof.first, proof.second) not in known:
            assert me in writable
            assert me in (proof.first, proof.second)


@over(
    st.floats(0.0, 500.0),
    st.floats(0.0, 500.0),
    st.sampled_from(["honest", "backwards", "future", "twice"]),
)
@settings(max_examples=100)
def test_an_agent_that_contradicts_its_own_server_proves_nothing(one_s, other_s, how):
    """n2 tells n1 that its server wrote at a time when it told n1 itself otherwise."""
    cluster = MADE["healthy"]
    agent, at = cluster.agents["n1"], cluster.at("n1", 0.9)
    peer = cluster.agents["n2"]
    told = make_report(peer.state, cluster.at("n2", 0.9), peer.policy)
    since_s, until_s = max(one_s, other_s), min(one_s, other_s)
    spans = {
        "honest": (WritableSpan(since_s, until_s),),
        "backwards": (WritableSpan(until_s, since_s + 0.1),),
        "future": (WritableSpan(since_s, -until_s - 0.1),),
        "twice": (WritableSpan(since_s, until_s),) * 2,
    }[how]
    lie = replace(told, writable=spans, sequence=told.sequence + 1)
    seen = Observed(at, given.heard("n2", lie, at.monotonic_s - 0.01))
    state = step(agent.state, seen, agent.policy).state
    read = agent.state.view.latest["n2/postgres"]
    assert read.postgres is not None
    assert read.postgres.in_recovery
    age_s = at.monotonic_s - 0.01 - read.sent_s
    # Until when the peer may have heard from n1 is known to a round and a little.
    denied = until_s < age_s - 0.1 and age_s + 1.5 < since_s
    if how in ("backwards", "future"):
        assert state.view.latest["n2/agent"].outcome is Outcome.GARBLED
    if how in ("backwards", "future") or denied:
        assert state.view.proofs == ()
        assert PROVEN not in {one.code for one in state.view.verdicts}
