"""Who is to be kept: one decision for all agents, and none where people disagree."""

from dataclasses import replace

import pytest

from agent.core import pinning
from agent.core.capture import Level
from agent.core.event import Ticked, WinnerDecided
from agent.core.explain import sentence
from agent.core.incident import Status
from agent.core.observation import PinBrief
from agent.core.plan import Pin
from agent.core.policy import WinnerRule
from agent.core.prediction import winner
from tests.core import given
from tests.core.cluster import FINE, Cluster
from tests.core.given import at

POLICY = given.policy()
NAMES = ("n1", "n2", "n3")


def pin(node="n1", revision=1, who="ann", **more):
    return Pin(node, who, "it has the orders", revision, at(0).wall_s, **more)


def brief(node="n1", revision=1, who="bob", **more):
    return replace(PinBrief(node, who, "because", revision, 5.0, None), **more)


def decide(cluster, name, node, who="ann", reason="it has the orders"):
    agent = cluster.agents[name]
    agent.step(WinnerDecided(cluster.at(name, 0.9), node, who, reason))


def heard(*briefs, state=None):
    told = given.report("n2", pins=briefs)
    seen = given.heard("n2", told, 19.999)
    state = state or given.state()
    view = replace(state.view, reports={**state.view.reports, "n2": seen})
    return pinning.heard_of(replace(state, view=view), seen, at(20), POLICY)


# --- one decision ---------------------------------------------------------------


def test_a_later_decision_replaces_the_earlier_one():
    state = pinning.asked(given.state(), WinnerDecided(at(1), "n1", "ann", "orders"))
    state = pinning.asked(state, WinnerDecided(at(2), "n2", "bob", "newer"))
    made = pinning.decision(state).pin
    assert made == Pin("n2", "bob", "newer", 2, at(2).wall_s)
    state = pinning.asked(state, WinnerDecided(at(3), None, "bob", ""))
    assert pinning.decision(state) == pinning.Decision()
    assert [one.revision for one in state.ledger.pins] == [3]


def test_every_other_event_decides_nothing():
    state = given.state(pins=(pin(),))
    assert pinning.asked(state, Ticked(at(1), FINE)) is state


@pytest.mark.parametrize(
    ("known", "told", "node"),
    [
        ((), (brief("n1"),), "n1"),
        ((pin("n1"),), (brief("n2", 2),), "n2"),
        ((pin("n1", 3),), (brief("n2", 2),), "n1"),
        ((pin("n1"),), (brief(None, 2),), None),
        ((pin("n1"),), (brief("n1"),), "n1"),
        ((pin("n1"), pin("n2")), (brief("n1", 2),), "n1"),
    ],
)
def test_the_highest_number_counts_wherever_it_was_decided(known, told, node):
    made = pinning.decision(heard(*told, state=given.state(pins=known)))
    assert (made.pin and made.pin.node) == node
    assert not made.disputed


@pytest.mark.parametrize("other", ["n2", None])
def test_of_two_that_exclude_each_other_neither_counts(other):
    state = heard(brief(other), state=given.state(pins=(pin("n1"),)))
    found = pinning.decision(state)
    assert found.pin is None
    assert [(one.node, one.who) for one in found.disputed] == [
        ("n1", "ann"),
        (other, "bob"),
    ]
    settled = pinning.asked(state, WinnerDecided(at(30), "n3", "eve", "third"))
    made = pinning.decision(settled).pin
    assert made is not None
    assert (made.node, made.revision) == ("n3", 2)


def test_the_same_said_twice_is_no_dispute():
    state = heard(brief("n1"), state=given.state(pins=(pin("n1"),)))
    assert state.ledger.pins == (pin("n1"),)


@pytest.mark.parametrize(
    "absurd",
    [
        brief("n9"),
        brief(revision=0),
        brief(revision=10**12),
        brief(reason="x" * 501),
        brief(who="x" * 501),
    ],
)
def test_what_cannot_be_is_not_believed(absurd):
    assert heard(absurd).ledger.pins == ()


def test_a_peers_decision_is_dated_by_its_age():
    (made,) = heard(brief(age_s=12.0)).ledger.pins
    assert made.wall_s == pytest.approx(at(8).wall_s, abs=0.01)


def test_a_report_that_was_not_accepted_decides_nothing():
    seen = given.heard("n2", given.report("n2", pins=(brief(),)), 1.0)
    state = given.state()
    assert pinning.heard_of(state, seen, at(2), POLICY) is state
    without = given.postgres("n2", given.sight(), 1.0)
    assert pinning.heard_of(state, without, at(2), POLICY) is state


# --- how long it counts ---------------------------------------------------------


def test_what_was_decided_in_a_split_ends_with_it():
    split = given.incident()
    state = given.state(incidents=(split,))
    state = pinning.asked(state, WinnerDecided(at(1), "n1", "ann", "x"))
    assert state.ledger.pins[0].incident == split.id
    assert pinning.decision(state).pin
    over = replace(split, status=Status.RESOLVED)
    ended = replace(state, ledger=replace(state.ledger, incidents=(over,)))
    assert pinning.decision(ended) == pinning.Decision()


def test_it_goes_on_when_the_split_goes_on_under_another_id():
    over = replace(given.incident(), status=Status.RESOLVED)
    merged = replace(given.incident(), id="inc-other")
    state = given.state(incidents=(over, merged), pins=(pin(incident=over.id),))
    assert pinning.decision(state).pin


def test_it_ends_with_the_split_also_where_that_had_another_id():
    state = given.state(pins=(pin(incident="inc-of-the-other-side"),))
    assert pinning.decision(state).pin
    over = replace(
        given.incident(), status=Status.RESOLVED, resolved_wall_s=at(60).wall_s
    )
    ended = replace(state, ledger=replace(state.ledger, incidents=(over,)))
    assert pinning.decision(ended) == pinning.Decision()


def test_a_split_that_ended_as_it_was_decided_is_not_the_one_it_was_decided_in():
    state = given.state(pins=(pin(incident="inc-of-the-other-side"),))
    over = replace(
        given.incident(), status=Status.RESOLVED, resolved_wall_s=at(0).wall_s
    )
    ended = replace(state, ledger=replace(state.ledger, incidents=(over,)))
    assert pinning.decision(ended).pin


def test_who_never_knew_of_the_split_hears_that_it_is_over():
    known = given.state(pins=(pin(incident="inc-1"),))
    told = brief(who="ann", reason="it has the orders", incident="inc-1")
    assert pinning.decision(heard(told, state=known)).pin
    after = heard(replace(told, over=True), state=known)
    assert pinning.decision(after) == pinning.Decision()
    (passed_on,) = pinning.briefs(after, at(30))
    assert passed_on.over


def test_it_says_nothing_about_the_next_split():
    over = replace(given.incident(), status=Status.RESOLVED)
    old = pin(incident=over.id)
    later = replace(
        given.incident(), id="inc-other", since_wall_s=old.wall_s + 1_000_000
    )
    state = given.state(incidents=(over, later), pins=(old,))
    assert pinning.decision(state) == pinning.Decision()


def test_what_was_decided_beforehand_counts_until_it_is_taken_back():
    over = replace(given.incident(), status=Status.RESOLVED)
    state = given.state(incidents=(over,), pins=(pin(),))
    assert pinning.decision(state).pin == pin()


# --- what it does ---------------------------------------------------------------


def split(**policy):
    """Both sides wrote, the network is whole again; n2 is on the higher timeline."""
    cluster = Cluster(**policy)
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.servers["n1"].write(5)
    cluster.servers["n2"].write(5)
    cluster.run(3)
    cluster.heal()
    cluster.run(2)
    return cluster


def predicted(cluster, name):
    agent = cluster.agents[name]
    return winner(agent.state, agent.policy)


@pytest.mark.parametrize("rule", list(WinnerRule))
def test_a_pin_is_known_to_all_and_goes_before_every_prediction(rule):
    cluster = split(winner_rule=rule)
    decide(cluster, "n3", "n1")
    cluster.run(2)
    for name in NAMES:
        found = predicted(cluster, name)
        assert (found.node, found.rule) == ("n1", "pinned")
        assert found.reason == "pinned by ann because it has the orders"


def test_the_split_says_who_pinned_and_why():
    cluster = split()
    before = cluster.incident("n2", "split").verdict.evidence["winner"]
    decide(cluster, "n3", "n1")
    cluster.run(2)
    verdict = cluster.incident("n2", "split").verdict
    assert (before, verdict.evidence["winner"]) == ("n2", "n1")
    assert verdict.evidence["winner_otherwise"] == "n2"
    told = sentence(verdict, cluster.agents["n2"].policy)
    assert "n1 is to be kept: pinned by ann because it has the orders." in told


def test_after_unpinning_the_first_prediction_stands_again():
    cluster = split()
    decide(cluster, "n3", "n1")
    cluster.run(2)
    decide(cluster, "n1", None)
    cluster.run(2)
    for name in NAMES:
        found = predicted(cluster, name)
        assert (found.node, found.rule) == ("n2", "frozen")


def test_it_orders_the_work():
    cluster = split()
    decide(cluster, "n3", "n1")
    cluster.run(3)
    (capture,) = cluster.agents["n2"].state.ledger.captures
    assert Level.FULL in capture.order.levels


def test_two_sides_that_pin_apart_are_told_so_and_nothing_counts():
    cluster = Cluster()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.servers["n1"].write(5)
    cluster.servers["n2"].write(5)
    decide(cluster, "n1", "n1", who="ann")
    decide(cluster, "n2", "n2", who="bob")
    cluster.run(2)
    cluster.heal()
    cluster.run(3)
    for name in NAMES:
        verdict = cluster.incident(name, "split").verdict
        assert {"ann: n1", "bob: n2"} == set(
            str(verdict.evidence["pins_disputed"]).split("; ")
        )
        told = sentence(verdict, cluster.agents[name].policy)
        assert "Two pins exclude each other" in told
        assert predicted(cluster, name).rule != "pinned"
    decide(cluster, "n3", "n2", who="eve")
    cluster.run(2)
    assert {predicted(cluster, name).reason for name in NAMES} == {
        "pinned by eve because it has the orders"
    }


def test_a_pin_makes_no_winner_of_a_node_that_takes_no_writes():
    cluster = split()
    decide(cluster, "n1", "n3")
    cluster.run(2)
    assert predicted(cluster, "n1").rule == "frozen"
    cluster = Cluster()
    cluster.run(3)
    decide(cluster, "n1", "n2")
    cluster.run(2)
    assert predicted(cluster, "n1").node == "n1"
    assert cluster.codes("n1") == {"healthy"}


def test_it_survives_a_restart():
    cluster = split()
    decide(cluster, "n1", "n1")
    cluster.run(1)
    cluster.start_agent("n1")
    cluster.run(2)
    assert predicted(cluster, "n1").rule == "pinned"


def test_what_is_told_is_what_is_known():
    state = given.state(pins=(pin(), pin("n2", who="bob")))
    first, second = pinning.briefs(state, at(10))
    assert (first.node, first.age_s, second.who) == ("n1", 10.0, "bob")
