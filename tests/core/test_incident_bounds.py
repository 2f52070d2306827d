"""An incident to the letter: what is written down when, and what stays in bounds."""

from dataclasses import replace

import pytest

from agent.core.incident import Incident, Status, incident_id, incident_key
from agent.core.observation import IncidentBrief
from agent.core.state import Ledger
from agent.core.verdict import Severity
from tests.core import given
from tests.core.test_incidents import (
    DIVERGED,
    DOWN,
    GOES_ON,
    POLICY,
    SPLIT,
    SUSPECT,
    SUSPECTED,
    Life,
    said,
)


def wall(seconds):
    return given.at(seconds).wall_s


def test_a_new_incident_is_written_down_whole():
    life = Life()
    life.at(10, said(101, "n1", "", since_age_s=4.0))
    one = life.only
    key = incident_key(given.SYSTEM, "self", "n1", "")
    assert one == Incident(
        id=incident_id(key, 1),
        key=key,
        occurrence=1,
        status=Status.OPEN,
        verdict=said(101, "n1", "", since_age_s=4.0),
        worst=Severity.CRITICAL,
        since_wall_s=wall(6),
        opened_wall_s=wall(10),
        resolved_wall_s=None,
        clear_since_s=None,
        pending_since_s=10,
        revision=1,
        acknowledged_by=None,
        history=one.history,
        sides=(),
        stage_wall_s=wall(6),
    )
    assert [(flip.wall_s, flip.status, flip.rule) for flip in one.history] == [
        (wall(10), Status.PENDING, 101),
        (wall(10), Status.OPEN, 101),
    ]


@pytest.mark.parametrize("age", [None, "4", 0, -1.0])
def test_without_an_age_it_is_true_from_now_on(age):
    life = Life()
    life.at(10, said(201, "n3", since_age_s=age))
    assert life.only.since_wall_s == wall(10)


def test_it_is_true_since_the_last_sign_of_life_however_late_that_was():
    life = Life()
    life.at(10, said(201, "n3", since_age_s=0.5))
    assert life.only.since_wall_s == wall(9.5)


def test_its_end_is_written_down_whole():
    life = Life()
    life.at(1, DOWN)
    before = life.only
    life.at(2)
    assert life.only == replace(before, clear_since_s=2)
    life.at(7)
    after = life.only
    assert after == replace(
        before,
        status=Status.RESOLVED,
        resolved_wall_s=wall(2),
        clear_since_s=2,
        revision=2,
        history=(*before.history, after.history[-1]),
    )
    assert after.history[-1].status is Status.RESOLVED


def test_what_comes_back_in_time_was_never_gone():
    life = Life()
    life.at(1, DOWN)
    before = life.only
    life.at(3)
    life.at(5, DOWN)
    assert life.only == before
    life.at(9)
    assert life.at(13) == [], "the time of the first absence counts no more"
    assert life.at(14) == [("resolved", "node-down")]


def test_who_loses_is_a_side_where_no_tips_are_named_and_nobody_else():
    life = Life()
    life.at(10, said(501, "cluster", "1", winner=None, losers="n2"))
    assert life.only.sides == ("n2",)


def test_a_split_remembers_all_who_were_its_sides():
    life = Life()
    life.at(1, said(509, "cluster", "1", tips="n1", winner=None))
    assert life.only.sides == (), "a suspicion names no sides"
    life.at(2, said(501, "cluster", "1", tips="n1,n2", losers="n1", winner="n2"))
    life.at(3, said(505, "cluster", "1", tips="n2,n3", losers="n3", winner="n2"))
    assert life.only.sides == ("n1", "n2", "n3")


def test_the_worst_stays_and_each_stage_is_dated_when_it_began():
    life = Life()
    life.at(1, DOWN)
    life.at(4, said(207, "n3"))
    assert life.only.worst is Severity.CRITICAL
    assert (life.only.verdict.rule, life.only.stage_wall_s) == (207, wall(4))
    assert life.only.revision == 1, "nobody is told of what is less"


def test_a_pending_one_is_as_bad_as_it_is_now():
    life = Life()
    life.at(1, said(401, "cluster"), SUSPECT)
    pending = next(one for one in life.ledger.incidents if one.verdict == SUSPECT)
    assert (pending.status, pending.worst) == (Status.PENDING, Severity.WARNING)
    assert pending.opened_wall_s is None


def test_a_stage_that_is_told_counts_up_and_one_that_is_not_does_not():
    life = Life()
    told = [
        life.at(second, verdict)
        for second, verdict in enumerate(
            (SUSPECTED, SPLIT, DIVERGED, SPLIT, DIVERGED), start=1
        )
    ]
    assert [[reason for reason, _ in news] for news in told] == [
        ["first"],
        ["worse"],
        ["changed"],
        [],
        [],
    ]
    assert life.only.revision == 3


@pytest.mark.parametrize(
    ("moves", "silent"),
    [
        ({"past_fork_bytes": 7}, True),
        ({"overlap_s": 7.0}, True),
        ({"fork_lsn": "0/7"}, True),
        ({"confirmed_by": 3}, True),
        ({"bytes_done": 7}, True),
        ({"losers": "n1"}, False),
    ],
)
def test_only_what_does_not_move_by_itself_is_another_story(moves, silent):
    life = Life()
    life.at(1, SPLIT)
    before = life.ledger
    life.at(2, replace(SPLIT, evidence={**SPLIT.evidence, **moves}))
    assert (life.ledger is before) is silent


def test_resolved_incidents_are_kept_up_to_the_limit_and_the_oldest_go():
    life = Life(policy=replace(POLICY, incidents_limit=2))
    for second in (10, 30, 50, 70):
        life.at(second, DOWN)
        life.at(second + 1)
        life.at(second + 7)
    assert [one.occurrence for one in life.ledger.incidents] == [3, 4]
    assert life.ledger.occurrences == {life.ledger.incidents[0].key: 4}


def test_merging_ends_the_own_one_and_goes_on_under_the_older():
    life = Life(Ledger(occurrences={}))
    life.at(1, DOWN)
    key, first = life.only.key, life.only.id
    life.ledger = replace(
        life.ledger,
        incidents=(replace(life.only, id=incident_id(key, 2), occurrence=2),),
    )
    brief = IncidentBrief(first, key, 1, "open", "node-down", wall(0))
    life.peers = {"n2": (brief,)}
    assert life.at(2, DOWN) == GOES_ON
    ended, standing = life.ledger.incidents
    assert (ended.occurrence, ended.status) == (2, Status.RESOLVED)
    assert (ended.resolved_wall_s, ended.revision) == (wall(2), 2)
    assert (standing.id, standing.status) == (first, Status.OPEN)
    assert life.ledger.occurrences == {key: 2}


NAMELESS = incident_key("-", "reach", "n3", "")


def nameless(verdict, *told_as):
    """A trouble that was found before any server was read, and what peers hold open."""
    life = Life()
    life.at(1, verdict)
    one = replace(life.only, key=NAMELESS, id=incident_id(NAMELESS, 1))
    life.ledger = replace(life.ledger, incidents=(one,))
    key = incident_key(given.SYSTEM, "reach", "n3", "")
    life.peers = {
        "n2": tuple(
            IncidentBrief(incident_id(key, n), key, n, "open", "node-down", wall(0))
            for n in told_as
        )
    }
    return life, key


def test_what_was_found_before_the_system_was_known_opens_under_its_name():
    life, key = nameless(SUSPECT)
    assert life.at(2, SUSPECT) == []
    assert (life.only.key, life.only.id) == (key, incident_id(key, 1))
    assert life.at(4, SUSPECT) == [("first", "node-suspect")]


@pytest.mark.parametrize("number", [1, 3])
def test_what_is_open_without_the_system_gives_way_to_what_a_peer_holds(number):
    life, key = nameless(DOWN, number)
    assert life.at(2, DOWN) == GOES_ON
    ended, standing = life.ledger.incidents
    assert (ended.key, ended.status) == (NAMELESS, Status.RESOLVED)
    assert (standing.key, standing.id) == (key, incident_id(key, number))


@pytest.mark.parametrize("spent", [0, 3])
def test_what_is_open_without_the_system_stays_while_nobody_holds_it_otherwise(spent):
    life, key = nameless(DOWN, *([3] if spent else []))
    life.ledger = replace(life.ledger, occurrences={key: spent})
    assert life.at(2, DOWN) == []
    assert life.only.key == NAMELESS
