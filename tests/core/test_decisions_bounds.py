"""Announcements and decisions to the letter, and how much of them a peer may bring."""

from dataclasses import replace

import pytest

from agent.core import maintenance, pinning
from agent.core.event import MaintenanceBegun, WinnerDecided
from agent.core.incident import Status
from agent.core.maintenance import RUNNING_MAX, SPAN_S_MAX, TEXT_MAX, TOLD_MAX
from agent.core.observation import MaintenanceBrief, PinBrief
from agent.core.pinning import PINS_MAX, REVISION_MAX
from agent.core.plan import Maintenance, Pin
from tests.core import given
from tests.core.given import at

POLICY = given.policy()


def hear(take, state, *, seconds=20.0, **told):
    seen = given.heard("n2", given.report("n2", **told), seconds - 0.001)
    view = replace(state.view, reports={"n2": seen})
    return take(replace(state, view=view), seen, at(seconds), POLICY)


# --- announcements ------------------------------------------------------------------


def plan(name="mnt-1", *, begun=0.0, end=1800.0, **more):
    made = Maintenance(name, "n2", "ann", "patch", at(begun).wall_s, at(end).wall_s)
    return replace(made, **more)


def told_plan(name="mnt-1", **more):
    known = MaintenanceBrief(name, None, "ann", "patch", 10.0, 600.0, None, "")
    return replace(known, **more)


def heard_plans(*briefs, state=None):
    state = state or given.state()
    after = hear(maintenance.heard_of, state, maintenance=briefs)
    return after.ledger.maintenance


def test_an_announcement_is_entered_whole():
    begun = MaintenanceBegun(at(5), "mnt-1", "n2", "ann", "patch", 60.0)
    state = maintenance.asked(given.state(), begun)
    assert state.ledger.maintenance == (plan(begun=5.0, end=65.0),)
    again = maintenance.asked(state, replace(begun, at=at(9), owner="bob"))
    assert again.ledger.maintenance == (
        replace(plan(begun=9.0, end=69.0), owner="bob"),
    )


def test_an_announcement_is_told_whole_with_ages_for_times():
    over = plan(ended_wall_s=at(4).wall_s, ended_by="bob")
    state = given.state(maintenance=(over,))
    assert maintenance.briefs(state, at(10)) == (
        MaintenanceBrief("mnt-1", "n2", "ann", "patch", 10.0, 1790.0, 6.0, "bob"),
    )


def test_only_the_latest_are_told():
    many = tuple(plan(f"m{number}") for number in range(TOLD_MAX + 2))
    found = maintenance.briefs(given.state(maintenance=many), at(1))
    assert [one.id for one in found] == [one.id for one in many[2:]]


def test_an_announcement_is_heard_whole_with_times_for_ages():
    brief = told_plan(node="n3", ended_age_s=2.0, ended_by="bob")
    (one,) = heard_plans(brief)
    known = plan(node="n3", ended_by="bob")
    assert one == replace(
        known,
        begun_wall_s=one.begun_wall_s,
        end_wall_s=one.end_wall_s,
        ended_wall_s=one.ended_wall_s,
    )
    times = (one.begun_wall_s, one.end_wall_s, one.ended_wall_s)
    wanted = (at(10).wall_s, at(620).wall_s, at(18).wall_s)
    assert times == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(
    ("more", "believed"),
    [
        ({"reason": "x" * TEXT_MAX}, True),
        ({"reason": "x" * (TEXT_MAX + 1)}, False),
        ({"owner": "x" * (TEXT_MAX + 1)}, False),
        ({"ended_by": "x" * (TEXT_MAX + 1)}, False),
        ({"begun_age_s": 0.0, "remaining_s": SPAN_S_MAX + 1.0}, True),
        ({"begun_age_s": 0.0, "remaining_s": SPAN_S_MAX + 1.1}, False),
        ({"begun_age_s": -5.0, "remaining_s": SPAN_S_MAX + 1.0}, True),
        ({"node": "n3"}, True),
        ({"node": "n4"}, False),
    ],
)
def test_an_announcement_is_believed_within_its_bounds(more, believed):
    assert bool(heard_plans(told_plan(**more))) is believed


def test_there_is_room_for_so_many_that_run_and_for_what_is_known():
    running = tuple(plan(f"m{number}") for number in range(RUNNING_MAX - 1))
    state = given.state(maintenance=running)
    found = heard_plans(told_plan("a"), told_plan("b"), state=state)
    assert [one.id for one in found][RUNNING_MAX - 1 :] == ["a"]
    full = given.state(maintenance=(*running, plan("last")))
    ended = told_plan("last", ended_age_s=1.0, ended_by="bob")
    found = heard_plans(told_plan("new"), ended, state=full)
    assert [one.id for one in found] == [one.id for one in full.ledger.maintenance]
    assert found[-1].ended_by == "bob"


def test_what_a_peer_tells_first_is_looked_at():
    briefs = [told_plan(f"m{n}", ended_age_s=1.0) for n in range(TOLD_MAX + 2)]
    assert len(heard_plans(*briefs)) == TOLD_MAX


# --- decisions ------------------------------------------------------------------------


def pin(node="n1", revision=1, who="ann", **more):
    return Pin(node, who, "orders", revision, at(0).wall_s, **more)


def told_pin(node="n1", revision=1, who="bob", **more):
    return replace(PinBrief(node, who, "orders", revision, 5.0, None), **more)


def heard_pins(*briefs, known=()):
    after = hear(pinning.heard_of, given.state(pins=known), pins=briefs)
    return after.ledger.pins


def test_a_decision_is_bound_to_the_split_that_stands():
    split = given.incident()
    event = WinnerDecided(at(5), "n2", "ann", "orders")
    for status, bound in (
        (Status.PENDING, split.id),
        (Status.OPEN, split.id),
        (Status.RESOLVED, None),
    ):
        state = given.state(incidents=(replace(split, status=status),))
        (made,) = pinning.asked(state, event).ledger.pins
        assert made == Pin("n2", "ann", "orders", 1, at(5).wall_s, bound)


def test_a_decision_is_told_and_heard_whole():
    known = pin(incident="inc-1", over=True)
    (brief,) = pinning.briefs(given.state(pins=(known,)), at(7))
    assert brief == PinBrief("n1", "ann", "orders", 1, 7.0, "inc-1", over=True)
    (one,) = heard_pins(told_pin(incident="inc-1", over=True))
    assert one == replace(known, who="bob", wall_s=one.wall_s)
    assert one.wall_s == pytest.approx(at(15).wall_s, abs=0.1)
    (young,) = heard_pins(told_pin(age_s=-9.0))
    assert young.wall_s == pytest.approx(at(20).wall_s, abs=0.1), (
        "nothing is decided tomorrow"
    )


@pytest.mark.parametrize(
    ("more", "believed"),
    [
        ({"revision": REVISION_MAX}, True),
        ({"revision": REVISION_MAX + 1}, False),
        ({"revision": 1}, True),
        ({"revision": 0}, False),
        ({"who": "x" * TEXT_MAX}, True),
        ({"who": "x" * (TEXT_MAX + 1)}, False),
        ({"incident": "x" * (TEXT_MAX + 1)}, False),
        ({"node": None}, True),
        ({"node": "n4"}, False),
    ],
)
def test_a_decision_is_believed_within_its_bounds(more, believed):
    assert bool(heard_pins(told_pin(**more))) is believed


def test_of_one_number_and_node_the_known_one_stays_and_is_over_once_anybody_says_so():
    known = pin(incident="inc-1")
    assert heard_pins(told_pin(incident="inc-1"), known=(known,)) == (known,)
    (over,) = heard_pins(told_pin(incident="inc-1", over=True), known=(known,))
    assert over == replace(known, over=True)
    assert heard_pins(told_pin(incident="inc-1"), known=(over,)) == (over,)


def test_no_more_disagree_than_there_is_room_for():
    nodes = tuple(
        replace(POLICY.nodes[0], name=f"n{number}") for number in range(1, 12)
    )
    policy = replace(POLICY, nodes=nodes, order={})
    briefs = tuple(told_pin(node.name) for node in nodes)
    seen = given.heard("n2", given.report("n2", pins=briefs), 1)
    state = given.state(reports={"n2": seen})
    after = pinning.heard_of(state, seen, at(2), policy)
    assert [one.node for one in after.ledger.pins] == [
        node.name for node in nodes[:PINS_MAX]
    ]
