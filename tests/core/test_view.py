"""Events become knowledge, and old news never beats new."""

from dataclasses import replace

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core import spent, view
from agent.core.event import Observed, PermitReleased, ServerRead, Started, Ticked
from agent.core.incident import Status
from agent.core.lsn import Lsn
from agent.core.observation import (
    Channel,
    IncidentBrief,
    Observation,
    Outcome,
    ReadFailure,
    SelfHealth,
    Sender,
    Sight,
)
from agent.core.permit import Permit, PermitState
from agent.core.reporting import make_report
from agent.core.state import Ledger, PrimarySeen, State
from agent.core.verdict import Family, VerdictCode
from tests.core import given
from tests.core.cluster import FINE

POLICY = given.policy()


def fold(state, *observations, policy=POLICY):
    for seen in observations:
        at = given.at(seen.received_s)
        state = view.fold(state, Observed(at, seen), policy)
    return state


def miss(node, sent_s, channel=Channel.POSTGRES):
    return Observation(node, channel, Outcome.TIMED_OUT, "", sent_s, sent_s + 0.8)


def tick(state, seconds, health=FINE, policy=POLICY):
    return view.fold(state, Ticked(given.at(seconds), health), policy)


# --- starts ----------------------------------------------------------------------


def test_a_start_forgets_what_was_seen_and_keeps_what_was_learnt():
    state = fold(State(), given.postgres("n1", given.sight(), 10))
    state = replace(state, knowledge=replace(state.knowledge, confirmed_xid=7))
    after = view.fold(state, Started(given.at(2), "boot-2"), POLICY)
    assert after.view.boot_id == "boot-2"
    assert after.view.latest == {}
    assert after.knowledge == state.knowledge


def test_a_start_counts_the_ledgers_times_from_now():
    permit = Permit(
        id="p",
        node="n1",
        purpose="pg_rewind",
        state=PermitState.GRANTED,
        reason="",
        asked_wall_s=0.0,
        asked_s=9000.0,
        granted_s=9000.0,
        system_id=None,
        timeline=None,
        final_lsn=None,
        capture_id=None,
        bytes_done=0,
        bytes_total=0,
        seconds_left=None,
        released_by=None,
    )
    incident = replace(given.incident(), clear_since_s=9000.0, pending_since_s=9000.0)
    ledger = Ledger(
        incidents=(incident, given.incident()),
        captures=(replace(given.capture(), progressed_s=9000.0),),
        permits=(permit, replace(permit, granted_s=None)),
    )
    after = view.fold(State(ledger), Started(given.at(2), "b"), POLICY).ledger
    assert [one.clear_since_s for one in after.incidents] == [2.0, None]
    assert {one.pending_since_s for one in after.incidents} == {2.0}
    assert after.captures[0].progressed_s == 2.0
    assert [one.granted_s for one in after.permits] == [2.0, None]


def test_events_about_other_things_change_nothing_here():
    state = State()
    event = PermitReleased(given.at(1), "ann", "why")
    assert view.fold(state, event, POLICY) is state


# --- probes ----------------------------------------------------------------------


def test_misses_count_until_somebody_answers():
    state = fold(State(), miss("n2", 1), miss("n2", 2))
    assert state.view.missed["n2/postgres"] == 2
    assert "n2/postgres" not in state.view.alive
    state = fold(state, given.postgres("n2", given.sight(), 3))
    assert state.view.missed["n2/postgres"] == 0
    state = fold(state, miss("n2", 4))
    assert state.view.alive["n2/postgres"].sent_s == 3
    assert state.view.latest["n2/postgres"].outcome is Outcome.TIMED_OUT


def test_a_question_out_of_turn_is_no_second_miss():
    state = fold(State(), miss("n2", 1), miss("n2", 1.2))
    assert state.view.missed["n2/postgres"] == 1
    assert fold(state, miss("n2", 2)).view.missed["n2/postgres"] == 2
    seen = fold(State(), given.postgres("n2", given.sight(), 1), miss("n2", 1.2))
    assert seen.view.missed["n2/postgres"] == 1


def test_a_question_asked_earlier_is_old_news_even_if_it_fails_later():
    state = fold(State(), given.postgres("n2", given.sight(), 3))
    assert fold(state, miss("n2", 2.5)) is state


def test_a_refusal_clears_the_misses():
    refused = replace(miss("n2", 2), outcome=Outcome.REFUSED)
    state = fold(State(), miss("n2", 1), refused)
    assert state.view.missed["n2/postgres"] == 0


def test_a_node_that_is_not_in_the_list_is_not_known():
    state = State()
    assert fold(state, given.postgres("n9", given.sight(), 3)) is state


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"cluster": "other"}, Outcome.FOREIGN),
        ({"format": 0}, Outcome.INCOMPATIBLE),
        ({"format": 4}, Outcome.INCOMPATIBLE),
        ({"node": "n3"}, Outcome.GARBLED),
        ({"format": 1}, Outcome.ANSWERED),
        ({"format": 3}, Outcome.ANSWERED),
        ({}, Outcome.ANSWERED),
    ],
)
def test_a_report_that_does_not_fit_is_not_believed(change, outcome):
    seen = given.heard("n2", replace(given.report("n2"), **change), 3)
    state = fold(State(), seen)
    assert state.view.latest["n2/agent"].outcome is outcome
    assert ("n2" in state.view.reports) == (outcome is Outcome.ANSWERED)
    assert state.view.missed["n2/agent"] == 0


def test_a_report_is_news_by_its_sequence():
    first = given.heard("n2", given.report("n2", sequence=5), 3)
    older = given.heard("n2", given.report("n2", sequence=4), 4)
    again = given.heard("n2", given.report("n2", sequence=5, doubt="late"), 5)
    state = fold(State(), first, older)
    assert state.view.reports["n2"] is first
    assert fold(state, again).view.reports["n2"] is again


def test_a_report_of_another_boot_is_news_when_it_was_asked_for_later():
    first = given.heard("n2", given.report("n2", sequence=5), 3)
    reboot = given.report("n2", boot_id="other", sequence=1)
    overlapping = given.heard("n2", reboot, 3.0005)
    later = given.heard("n2", reboot, 4)
    state = fold(State(), first, overlapping)
    assert state.view.reports["n2"] is first
    assert fold(state, later).view.reports["n2"] is later


@over(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12))
def test_the_latest_question_decides_in_whatever_order_answers_come(asked):
    observations = [
        given.postgres("n2", given.sight(), sent) if answers else miss("n2", sent)
        for sent, answers in asked
    ]
    state = fold(State(), *observations)
    if asked:
        latest = state.view.latest["n2/postgres"]
        assert latest.sent_s == max(sent for sent, _ in asked)


def test_a_peers_lineage_and_positions_are_learnt():
    server = given.facts(lineage=given.lineage(2, (1, 0x900)))
    told = Sight("n3", Channel.POSTGRES, Outcome.ANSWERED, "", 0.5, 0,
                 given.sight(timeline=2, flush=0x2000), None)  # fmt: skip
    stranger = replace(told, node="n9")
    report = given.report("n2", server=server, sights=(told, stranger))
    state = fold(State(), given.heard("n2", report, 3))
    assert state.knowledge.lineages["n2"].timeline == 2
    assert state.view.positions["n3"].lsn == Lsn(0x2000)
    assert "n9" not in state.view.positions
    again = fold(state, given.heard("n2", report, 4))
    assert again.knowledge is state.knowledge


def test_a_position_needs_a_timeline_and_an_lsn():
    nameless = given.postgres("n2", given.sight(timeline=None), 1)
    empty = given.sight(flush_lsn=None, replay_lsn=None)
    state = fold(State(), nameless, given.postgres("n3", empty, 1))
    assert state.view.positions == {}


def test_an_older_position_changes_nothing():
    state = fold(State(), given.postgres("n2", given.sight(flush=0x2000), 5))
    told = Sight("n2", Channel.POSTGRES, Outcome.ANSWERED, "", 3.0, 0,
                 given.sight(flush=0x1000), None)  # fmt: skip
    state = fold(state, given.heard("n3", given.report("n3", sights=(told,)), 6))
    assert state.view.positions["n2"].lsn == Lsn(0x2000)


# --- occurrences -----------------------------------------------------------------


def brief(occurrence, status=Status.RESOLVED, key="k"):
    return IncidentBrief("inc-1", key, occurrence, status.value, "node-down", 0.0)


def test_peers_resolved_incidents_raise_the_occurrences():
    report = given.report("n2", incidents=(brief(3), brief(1), brief(9, Status.OPEN)))
    state = fold(State(), given.heard("n2", report, 1))
    assert state.ledger.occurrences == {"k": 3}
    same = fold(state, given.heard("n2", report, 2))
    assert same.ledger is state.ledger


def test_what_a_peer_has_heard_to_be_over_raises_them_as_well():
    told = replace(brief(4, Status.OPEN), spent=3)
    report = given.report("n2", incidents=(told, brief(2), brief(1, key="other")))
    state = fold(State(), given.heard("n2", report, 1))
    assert state.ledger.occurrences == {"k": 3, "other": 1}


def test_a_peers_clock_that_is_days_off_dates_no_incident_here():
    now = given.at(1.001)
    off = replace(brief(1, Status.OPEN), since_wall_s=now.wall_s - 3 * 86_400 - 60)
    report = given.report("n2", incidents=(off,), wall_s=now.wall_s - 3 * 86_400)
    state = fold(State(), given.heard("n2", report, 1))
    (heard,) = state.view.reports["n2"].report.incidents
    assert heard.since_wall_s == pytest.approx(now.wall_s - 60, abs=0.01)


def test_absurd_occurrences_are_left_aside():
    report = given.report("n2", incidents=(brief(10**12), brief(0)))
    assert fold(State(), given.heard("n2", report, 1)).ledger.occurrences == {}


def test_the_number_of_remembered_keys_is_bounded():
    full = {str(n): 1 for n in range(spent.OCCURRENCES_MAX)}
    state = given.state(occurrences=full)
    report = given.report("n2", incidents=(brief(1, key="new"), brief(5, key="0")))
    after = fold(state, given.heard("n2", report, 1)).ledger.occurrences
    assert after == full | {"0": 5}


# --- the local server ------------------------------------------------------------


def test_the_disk_is_remembered_with_its_lineage():
    facts = given.facts(lineage=given.lineage(3, (1, 5), (2, 9)))
    state = view.fold(State(), ServerRead(given.at(7), facts), POLICY)
    assert state.view.server is facts
    assert state.view.server_read_s == 7
    assert state.knowledge.lineages["n1"].timeline == 3


def test_an_unreadable_disk_leaves_the_lineage_as_it_was():
    state = view.fold(State(), ServerRead(given.at(7), given.facts()), POLICY)
    failure = ReadFailure("gone", "look")
    after = view.fold(state, ServerRead(given.at(8), failure), POLICY)
    assert after.view.server is failure
    assert after.knowledge is state.knowledge


def primary(sent_s, flush, xid, confirmed=None, **more):
    sender = Sender(
        "n2", "streaming", "async", None if confirmed is None else Lsn(confirmed), ""
    )
    sight = given.sight(flush=flush, next_xid=xid, senders=(sender,), **more)
    return given.postgres("n1", sight, sent_s)


def test_what_a_standby_has_flushed_is_confirmed():
    state = fold(State(), primary(1, 0x100, 10, 0x100))
    assert state.knowledge.confirmed_lsn == Lsn(0x100)
    assert state.knowledge.confirmed_xid == 10


def test_a_transaction_is_confirmed_once_its_flush_is():
    state = fold(State(), primary(1, 0x100, 10, 0x50), primary(2, 0x200, 11, 0x90))
    assert state.knowledge.confirmed_xid is None
    state = fold(state, primary(3, 0x300, 12, 0x150))
    assert state.knowledge.confirmed_xid == 10
    assert state.view.unconfirmed == (Lsn(0x300), 12)
    assert state.knowledge.confirmed_lsn == Lsn(0x150)


def test_a_standby_that_goes_back_unconfirms_nothing():
    state = fold(State(), primary(1, 0x100, 10, 0x100), primary(2, 0x100, 10, 0x50))
    assert state.knowledge.confirmed_lsn == Lsn(0x100)


def test_without_standbys_nothing_is_confirmed():
    state = fold(State(), primary(1, 0x100, 10), primary(2, 0x200, None))
    assert state.knowledge.confirmed_lsn is None
    assert state.knowledge.confirmed_xid is None
    assert state.view.unconfirmed == (Lsn(0x100), 10)


def test_a_reading_without_a_transaction_id_unconfirms_nothing():
    state = fold(State(), primary(1, 0x100, 10, 0x100), primary(2, 0x200, None, 0x200))
    assert state.knowledge.confirmed_xid == 10
    assert state.knowledge.confirmed_lsn == Lsn(0x200)


def test_a_promotion_begins_to_confirm_anew():
    standby = given.postgres("n1", given.sight(in_recovery=True), 2)
    state = fold(State(), primary(1, 0x100, 10, 0x100), standby)
    assert state.knowledge.confirmed_xid == 10
    state = fold(state, primary(3, 0x200, 20))
    assert state.knowledge.confirmed_lsn is None
    assert state.knowledge.confirmed_xid is None


def test_what_waited_to_be_confirmed_is_forgotten_with_a_promotion():
    standby = given.postgres("n1", given.sight(in_recovery=True), 2)
    state = fold(State(), primary(1, 0x150, 10, 0x100), standby)
    assert state.view.unconfirmed == (Lsn(0x150), 10)
    state = fold(state, primary(3, 0x300, 20, 0x200))
    assert state.knowledge.confirmed_xid is None
    assert state.view.unconfirmed == (Lsn(0x300), 20)


# --- rounds ----------------------------------------------------------------------


def test_a_tick_counts_the_round_and_remembers_when():
    policy = replace(POLICY, sent_limit=2)
    state = State()
    for second in range(1, 5):
        state = tick(state, second, policy=policy)
    view_after = state.view
    assert (view_after.sequence, view_after.self_doubt) == (4, None)
    assert view_after.sent == ((3, 3), (4, 4))


def test_after_a_suspension_no_old_reading_of_the_clock_is_used():
    state = fold(tick(State(), 1), given.postgres("n1", given.sight(), 2))
    assert [len(state.view.writable), len(state.view.readings)] == [1, 1]
    after = tick(state, 3, SelfHealth(0.0, 0.0, 60.0))
    assert [len(after.view.writable), len(after.view.readings)] == [0, 0]
    assert after.view.sent == ((2, 3),)


def test_after_a_suspension_peers_are_told_nothing_from_before_it():
    """A report that was heard before the sleep seems younger than it is by the sleep.

    By its age a peer would place our server's writing before its own server's end.
    """
    state = fold(tick(State(), 1), *seen_by_all(2, n1=given.sight()))
    assert make_report(state, given.at(2.5), given.policy()).heard
    awake = tick(state, 3, SelfHealth(0.0, 0.0, 60.0))
    told = make_report(awake, given.at(3), given.policy())
    assert (told.heard, told.sights, told.writable) == ((), (), ())


def seen_by_all(seconds, **sights):
    """All three nodes answer; those named are as given, the others standbys."""
    known = []
    for node in ("n1", "n2", "n3"):
        sight = sights.get(node, given.sight(in_recovery=True))
        known.append(given.postgres(node, sight, seconds))
        if node != "n1":
            known.append(given.heard(node, given.report(node), seconds))
    return known


def test_what_a_new_primary_does_not_say_is_not_taken_from_the_old_one():
    gone = PrimarySeen("gone", 5, Lsn(0x9000), given.SYSTEM, given.at(0).wall_s)
    silent = given.sight(timeline=None)
    state = fold(given.state(primary=gone), *seen_by_all(1, n1=silent))
    found = tick(state, 1.5).knowledge.primary
    assert found is not None
    assert (found.node, found.timeline) == ("n1", 1)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_cluster_that_was_set_up_anew_is_followed_wherever_its_primary_is(node):
    state = tick(fold(State(), *seen_by_all(1, n1=given.sight())), 1.5)
    other = {
        name: given.sight(system_id="9", in_recovery=name != node)
        for name in ("n1", "n2", "n3")
    }
    state = tick(fold(state, *seen_by_all(10, **other)), 10.5)
    found = state.knowledge.primary
    assert found is not None
    assert (found.node, found.system_id) == (node, "9")


def test_the_only_primary_is_remembered():
    state = tick(fold(State(), *seen_by_all(1, n2=given.sight())), 1.5)
    assert state.knowledge.primary == PrimarySeen(
        "n2", 1, Lsn(0x1000), given.SYSTEM, given.at(1.5).wall_s
    )


def test_an_idle_primary_is_written_down_once_a_minute():
    state = tick(fold(State(), *seen_by_all(1, n2=given.sight())), 1.5)
    again = tick(state, 1.6)
    assert again.knowledge is state.knowledge
    later = tick(fold(state, *seen_by_all(61, n2=given.sight())), 61.6)
    assert later.knowledge.primary.wall_s == given.at(61.6).wall_s


def test_what_the_primary_does_not_say_stays_as_it_was():
    blank = given.sight(timeline=None, flush_lsn=None)
    state = tick(fold(State(), *seen_by_all(1, n2=blank)), 1.5)
    primary = state.knowledge.primary
    assert (primary.node, primary.timeline, primary.lsn) == ("n2", 1, Lsn(0))
    state = tick(fold(state, *seen_by_all(2, n2=given.sight(timeline=3))), 2.5)
    state = tick(fold(state, *seen_by_all(3, n2=blank)), 3.5)
    primary = state.knowledge.primary
    assert (primary.node, primary.timeline, primary.lsn) == ("n2", 3, Lsn(0x1000))


def test_two_primaries_or_none_change_nothing():
    state = tick(fold(State(), *seen_by_all(1, n2=given.sight())), 1.5)
    both = tick(fold(state, *seen_by_all(2, n2=given.sight(), n3=given.sight())), 2.5)
    none = tick(fold(state, *seen_by_all(2)), 2.5)
    assert both.knowledge.primary == none.knowledge.primary == state.knowledge.primary


def test_another_primary_waits_until_the_failover_is_on_record():
    state = tick(fold(State(), *seen_by_all(1, n2=given.sight())), 1.5)
    moved = seen_by_all(2, n3=given.sight(timeline=2))
    assert tick(fold(state, *moved), 2.5).knowledge.primary.node == "n2"
    verdict = replace(
        given.verdict(VerdictCode.FAILOVER, Family.PRIMARY), evidence={"to": "n3"}
    )
    other = given.incident()
    record = given.incident(verdict)
    state = replace(state, ledger=Ledger(incidents=(other, record)))
    assert tick(fold(state, *moved), 2.5).knowledge.primary.node == "n3"
    over = Ledger(incidents=(replace(record, status=Status.RESOLVED),))
    state = replace(state, ledger=over)
    assert tick(fold(state, *moved), 2.5).knowledge.primary.node == "n2"
