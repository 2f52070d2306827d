"""Where exactly old news ends, a miss counts, and a bound is reached."""

from dataclasses import replace

import pytest

from agent.core import spent, view
from agent.core.care import ManagerSight
from agent.core.event import GateSeen, Surveyed, Ticked
from agent.core.gate import Gate
from agent.core.lsn import Lsn
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    SelfHealth,
    Sender,
)
from agent.core.readiness import Readiness
from agent.core.state import Mark, State
from tests.core import given
from tests.core.test_view import POLICY, brief, fold, miss, seen_by_all, tick


def test_of_two_answers_to_one_question_the_later_one_counts():
    first = given.postgres("n2", given.sight(), 3)
    later = replace(first, outcome=Outcome.TIMED_OUT, postgres=None)
    assert fold(State(), first, later).view.latest["n2/postgres"] is later


@pytest.mark.parametrize(("after_s", "missed"), [(0.49, 1), (0.5, 2), (1.0, 2)])
def test_a_miss_half_a_round_later_is_another_one(after_s, missed):
    state = fold(State(), miss("n2", 1), miss("n2", 1 + after_s))
    assert state.view.missed["n2/postgres"] == missed


def agent_miss(node, sent_s):
    return miss(node, sent_s, Channel.AGENT)


def test_a_node_is_dark_from_when_all_its_channels_are_missed_often_enough():
    state = fold(State(), miss("n2", 1), agent_miss("n2", 1), miss("n2", 2))
    assert state.view.dark == {}
    state = fold(state, agent_miss("n2", 2))
    assert state.view.dark == {"n2": 2.8}
    state = fold(state, miss("n3", 2), miss("n3", 3), agent_miss("n3", 2))
    assert fold(state, agent_miss("n3", 3)).view.dark == {"n2": 2.8, "n3": 3.8}
    assert fold(State(), miss("n1", 1), miss("n1", 2)).view.dark == {}, "itself"


def test_a_report_of_another_boot_may_be_asked_for_as_the_last_one_comes():
    first = given.heard("n2", given.report("n2"), 3)
    reboot = given.heard("n2", given.report("n2", boot_id="other"), first.received_s)
    assert fold(State(), first, reboot).view.reports["n2"] is reboot


def test_why_a_report_is_not_believed_is_said():
    strange = given.heard("n2", given.report("n2", cluster="x" * 300), 3)
    seen = fold(State(), strange).view.latest["n2/agent"]
    assert seen.reason.startswith("it belongs to cluster 'xxx")
    assert seen.report is None
    old = given.heard("n2", given.report("n2", format=9), 3)
    assert "format 9" in fold(State(), old).view.latest["n2/agent"].reason
    other = given.heard("n2", given.report("n3"), 3)
    seen = fold(State(), other).view.latest["n2/agent"]
    assert seen.reason == "it says that it is 'n3'"


@pytest.mark.parametrize(
    ("occurrence", "known"),
    [(spent.OCCURRENCE_MAX, True), (spent.OCCURRENCE_MAX + 1, False)],
)
def test_an_occurrence_is_believed_up_to_its_bound(occurrence, known):
    report = given.report("n2", incidents=(brief(occurrence),))
    state = fold(State(), given.heard("n2", report, 1))
    assert state.ledger.occurrences == ({"k": occurrence} if known else {})


def test_remembered_keys_are_added_until_there_is_no_room():
    almost = {str(n): 1 for n in range(spent.OCCURRENCES_MAX - 1)}
    told = given.heard("n2", given.report("n2", incidents=(brief(1, key="new"),)), 1)
    after = fold(given.state(occurrences=almost), told).ledger.occurrences
    assert after == almost | {"new": 1}
    higher = given.heard("n2", given.report("n2", incidents=(brief(5, key="0"),)), 2)
    again = fold(given.state(occurrences=after), higher).ledger.occurrences
    assert again["0"] == 5


def asleep(seconds):
    return SelfHealth(loop_lag_s=0.0, wall_jump_s=0.0, suspended_s=seconds)


def test_only_a_sleep_of_more_than_a_round_makes_old_readings_worthless():
    state = fold(tick(State(), 1), *seen_by_all(2, n1=given.sight()), miss("n3", 3))
    short = tick(state, 4, asleep(1.0)).view
    assert (short.latest, short.missed) == (state.view.latest, state.view.missed)
    marked = replace(state.view, marks={"n1>n2": Mark("a", None, 1.0)})
    long = tick(replace(state, view=marked), 4, asleep(1.1)).view
    assert (long.latest, long.missed, long.reports, long.marks) == ({}, {}, {}, {})


def test_what_was_found_out_about_the_next_split_is_kept():
    outlook = Readiness(1, 2, 1.0, "", None)
    state = view.fold(State(), Surveyed(given.at(1), outlook), POLICY)
    assert state.view.readiness is outlook
    state = view.fold(state, GateSeen(given.at(2), Gate()), POLICY)
    assert (state.view.readiness, state.view.gate) == (outlook, Gate())


@pytest.mark.parametrize(
    ("primary", "written"),
    [
        ({"flush": 0x1001}, True),
        ({"timeline": 2}, True),
        ({}, False),
    ],
)
def test_the_primary_is_written_down_when_it_has_moved(primary, written):
    state = tick(fold(State(), *seen_by_all(1, n2=given.sight())), 1.5)
    after = tick(fold(state, *seen_by_all(2, n2=given.sight(**primary))), 2.5)
    assert (after.knowledge is not state.knowledge) is written


def confirmed(*flushed):
    senders = tuple(
        Sender(f"n{number}", "streaming", "async", lsn, "")
        for number, lsn in enumerate(flushed, start=2)
    )
    sight = given.sight(flush=0x200, next_xid=9, senders=senders)
    return fold(State(), given.postgres("n1", sight, 1)).knowledge


def test_the_furthest_of_several_standbys_confirms():
    found = confirmed(Lsn(0x100), None, Lsn(0x200))
    assert (found.confirmed_lsn, found.confirmed_xid) == (Lsn(0x200), 9)
    assert confirmed(Lsn(0x1FF)).confirmed_xid is None
    assert confirmed(None).confirmed_lsn is None
    assert confirmed(Lsn(0)).confirmed_lsn == Lsn(0)


def test_another_server_s_standbys_confirm_nothing_here():
    sender = Sender("n3", "streaming", "async", Lsn(0x100), "")
    seen = given.postgres("n2", given.sight(senders=(sender,)), 1)
    assert fold(State(), seen).knowledge.confirmed_lsn is None


def test_an_answer_from_before_a_sleep_is_not_listened_to():
    slept = view.fold(State(), Ticked(given.at(10), asleep(60.0)), POLICY)
    early = given.postgres("n2", given.sight(), 9)
    assert fold(slept, early) is slept
    timely = given.postgres("n2", given.sight(), 10)
    assert "n2/postgres" in fold(slept, timely).view.latest


def test_a_manager_s_answer_tells_nothing_of_servers():
    active = ManagerSight(True, "6.2")
    seen = Observation(
        "n2", Channel.MANAGER, Outcome.ANSWERED, "", 1.0, 1.1, manager=active
    )
    state = fold(State(), seen)
    assert state.view.latest == {"n2/manager": seen}
    assert (state.view.readings, state.view.positions) == ((), {})
