"""What is kept already, and when that is enough."""

from dataclasses import replace

import pytest

from agent.core import permits, sufficiency
from agent.core.capture import Grade, Level, Phase
from agent.core.incident import Status
from agent.core.lsn import Lsn
from agent.core.permit import PermitState
from tests.core import given
from tests.core.test_permits import ASKED

POLICY = given.policy()
SPLIT = given.incident(replace(given.verdict(), evidence={"losers": "n1,n2"}))


def capture(*, node="n1", ids=(SPLIT.id,), levels=tuple(Level), **status):
    one = given.capture(**status)
    order = replace(one.order, node=node, incident_ids=ids, levels=levels)
    return replace(one, order=order)


def permit(state=PermitState.GRANTED, **more):
    entered = permits.asked(given.state(), ASKED, POLICY).ledger.permits[0]
    return replace(entered, state=state, **{"capture_id": "n1-1"} | more)


CLOSED = capture(phase=Phase.CLOSED)
STANDBY = {"n1/postgres": given.postgres("n1", given.sight(in_recovery=True), 1)}
WRITES = {"n1/postgres": given.postgres("n1", given.sight(), 1)}


@pytest.mark.parametrize(
    ("made", "rests"),
    [
        (permit(), True),
        (permit(PermitState.VOID), False),
        (permit(PermitState.PENDING), False),
        (permit(capture_id="n1-2"), False),
    ],
)
def test_a_grant_in_force_rests_on_its_capture(made, rests):
    state = given.state(permits=(made,), captures=(CLOSED,))
    assert sufficiency.promised(state, CLOSED) is rests
    assert sufficiency.sealed(state) == (CLOSED if rests else None)


@pytest.mark.parametrize(
    ("parts", "asks", "enough"),
    [
        # What a grant rests on serves everybody.
        ({"permits": (permit(),), "latest": WRITES}, True, True),
        # Who asks for a permit gets a capture of its own; who writes needs one.
        ({"latest": STANDBY}, True, False),
        ({"latest": WRITES}, False, False),
        # A closed copy of the same trouble is enough for what runs as a standby.
        ({"latest": STANDBY}, False, True),
        ({"captures": (capture(grade=Grade.CAPTURED),)}, False, False),
        ({"captures": (capture(grade=Grade.OPENED),)}, False, True),
        ({"captures": (capture(node="n2"),)}, False, False),
        ({"captures": (capture(ids=("other",)),)}, False, False),
        # Or a resync that is at work on the folder.
        ({"captures": (), "permits": (permit(at_work=True),)}, False, True),
        (
            {"captures": (), "permits": (permit(PermitState.VOID, at_work=True),)},
            False,
            True,
        ),
        (
            {
                "captures": (),
                "permits": (permit(PermitState.VOID, at_work=True, node="n2"),),
            },
            False,
            False,
        ),
    ],
)
def test_what_is_kept_is_enough_or_not(parts, asks, enough):
    state = given.state(**{"captures": (CLOSED,), "latest": STANDBY} | parts)
    asking = permit(PermitState.PENDING) if asks else None
    found = sufficiency.suffices(state, asking, (SPLIT.id, "more"), POLICY)
    assert found is enough


@pytest.mark.parametrize(
    ("losers", "status", "known"),
    [
        ("n1", Status.OPEN, True),
        ("n2,n1", Status.ACKNOWLEDGED, True),
        ("n11", Status.OPEN, False),
        ("n1", Status.RESOLVED, False),
        ("n1", Status.PENDING, False),
        (None, Status.OPEN, False),
    ],
)
def test_a_standing_incident_names_the_loser(losers, status, known):
    evidence = {} if losers is None else {"losers": losers}
    one = given.incident(replace(given.verdict(), evidence=evidence), status)
    state = given.state(incidents=(given.incident(), one))
    assert sufficiency.known_loser(state, POLICY) is known


@pytest.mark.parametrize(
    ("one", "whole"),
    [
        (capture(grade=Grade.COMPLETE), True),
        (capture(grade=Grade.CAPTURED), False),
        (capture(grade=Grade.COMPLETE, phase=Phase.VERIFYING), True),
        (capture(levels=(Level.TAIL,), grade=Grade.NONE), True),
        (capture(levels=(Level.TAIL,), grade=Grade.NONE, phase=Phase.COPYING), False),
    ],
)
def test_a_capture_is_whole_when_all_that_was_ordered_is_kept(one, whole):
    assert sufficiency.is_whole(one) is whole


@pytest.mark.parametrize(
    ("captures", "own"),
    [
        ((), None),
        ((capture(node="n2"),), None),
        ((capture(ids=("old",), phase=Phase.COPYING),), 0),
        ((capture(ids=("old",), phase=Phase.CLOSED),), None),
        ((CLOSED,), 0),
        ((CLOSED, capture(ids=("old",), phase=Phase.FAILED)), 1),
        ((CLOSED, capture(node="n2")), 0),
    ],
)
def test_the_own_capture_goes_on_or_belongs_to_what_stands(captures, own):
    state = given.state(incidents=(SPLIT,), captures=captures)
    found = sufficiency.own_capture(state, POLICY)
    assert found == (None if own is None else captures[own])


@pytest.mark.parametrize(
    ("parts", "bare"),
    [
        ({}, True),
        ({"incidents": (given.incident(),)}, False),
        ({"permits": (permit(PermitState.VOID, at_work=True),)}, False),
        ({"captures": (CLOSED,)}, False),
        ({"captures": (capture(phase=Phase.CLOSED, grade=Grade.NONE),)}, True),
        ({"captures": (capture(phase=Phase.COPYING, grade=Grade.NONE),)}, False),
    ],
)
def test_a_loser_is_bare_when_nothing_keeps_it_or_will(parts, bare):
    state = given.state(**{"incidents": (SPLIT,)} | parts)
    assert sufficiency.is_bare(state, POLICY) is bare


@pytest.mark.parametrize(
    ("parts", "runs"),
    [
        ({}, False),
        ({"latest": {"n1/postgres": given.postgres("n1", given.sight(), 10)}}, False),
        ({"latest": {"n1/postgres": given.postgres("n1", given.sight(), 11)}}, True),
        ({"server": given.facts(), "server_read_s": 10}, False),
        ({"server": given.facts(), "server_read_s": 11}, True),
        ({"server": given.facts(running=False), "server_read_s": 11}, False),
        ({"server": given.facts(single_user=True), "server_read_s": 11}, False),
    ],
)
def test_a_server_runs_again_when_that_was_seen_later(parts, runs):
    assert sufficiency.runs_again(given.state(**parts), 10, POLICY) is runs


@pytest.mark.parametrize(
    ("facts", "granted", "moved"),
    [
        ({"end": 0x2001}, {}, True),
        ({"end": 0x2000}, {}, False),
        ({"end": None}, {}, False),
        ({"end": 0x2001}, {"granted_s": None}, False),
        ({"end": 0x2001}, {"granted_s": 12}, False),
        ({"end": 0x2001}, {"final_lsn": None}, False),
        ({"end": 0x2001}, {"timeline": 2}, False),
        ({"end": 0x2001}, {"system_id": "9"}, False),
    ],
)
def test_a_stopped_server_has_moved_past_what_was_granted(facts, granted, moved):
    promise = {
        "granted_s": 11,
        "system_id": given.SYSTEM,
        "timeline": 1,
        "final_lsn": Lsn(0x2000),
    }
    disk = given.facts(running=False, **facts)
    state = given.state(server=disk, server_read_s=12)
    assert sufficiency.has_moved(state, permit(**promise | granted)) is moved
