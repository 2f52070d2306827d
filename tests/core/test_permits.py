"""A resync may go on only when nothing can be lost by it."""

from dataclasses import replace

import pytest

from agent.core import permit_source, permits
from agent.core.capture import Grade, Phase
from agent.core.event import PermitAsked, PermitReleased
from agent.core.lsn import Lsn
from agent.core.observation import Channel, Observation, Outcome, ReadFailure
from agent.core.permit import Permit, PermitState
from tests.core import given

POLICY = given.policy()
ASKED = PermitAsked(given.at(10), "permit-1", "pg_rewind")


def ask(**parts):
    return permits.asked(given.state(**parts), ASKED, POLICY)


def answered(state, seconds=11.0):
    return permits.advance(state, given.at(seconds), POLICY).ledger.permits[0]


def covered(final=0x2000, **status):
    made = given.capture(**{"final_lsn": Lsn(final)} | status)
    return replace(made, order=replace(made.order, final_lsn=Lsn(final)))


def stopped(end=0x2000, **more):
    return given.facts(running=False, end=end, **more)


def granted():
    state = ask(server=stopped(), server_read_s=10.5, captures=(covered(),))
    return permits.advance(state, given.at(11), POLICY)


def test_the_same_id_asked_twice_is_one_request():
    state = ask()
    assert permits.asked(state, ASKED, POLICY) == state


def test_a_reading_from_before_the_question_answers_nothing():
    permit = answered(ask(server=stopped(), server_read_s=9.9, captures=(covered(),)))
    assert permit.state is PermitState.PENDING
    assert "not been read" in permit.reason


def test_a_reading_from_the_very_instant_of_the_question_answers_it():
    permit = answered(ask(server=stopped(), server_read_s=10.0, captures=(covered(),)))
    assert permit.state is PermitState.GRANTED
    running = answered(ask(server=given.facts(), server_read_s=10.0))
    assert "still writable" in running.reason


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (given.facts(), "still writable"),
        (given.facts(standby=True), "still running as a standby"),
        (given.facts(single_user=True), "single-user mode: it has to end first"),
        (stopped(end=None), "not known yet"),
        (ReadFailure("data folder unreadable", "run as postgres"), "run as postgres"),
    ],
)
def test_doubt_is_pending_and_says_why(server, reason):
    permit = answered(ask(server=server, server_read_s=10.5, captures=(covered(),)))
    assert permit.state is PermitState.PENDING
    assert reason in permit.reason
    assert permit.final_lsn is None


@pytest.mark.parametrize(
    "capture",
    [
        covered(grade=Grade.CAPTURED),
        covered(grade=Grade.NONE, reached_lsn=None),
        covered(reached_lsn=Lsn(0x1FFF)),
        covered(timeline=2),
        covered(final=0x1FF8),
        given.capture(),
    ],
)
def test_protection_short_of_the_final_lsn_grants_nothing(capture):
    permit = answered(ask(server=stopped(), server_read_s=10.5, captures=(capture,)))
    assert permit.state is PermitState.PENDING
    assert permit.final_lsn == Lsn(0x2000)


def test_a_second_asker_is_served_by_the_copy_of_a_valid_grant():
    state = granted()
    sealed = replace(
        state.ledger.captures[0],
        status=replace(state.ledger.captures[0].status, phase=Phase.CLOSED),
    )
    state = replace(state, ledger=replace(state.ledger, captures=(sealed,)))
    state = permits.asked(
        state, replace(ASKED, permit_id="permit-2", at=given.at(10.2)), POLICY
    )
    after = permits.advance(state, given.at(12), POLICY)
    assert [p.state for p in after.ledger.permits] == [PermitState.GRANTED] * 2


def test_no_capture_or_a_closed_one_grants_nothing():
    none = answered(ask(server=stopped(), server_read_s=10.5))
    closed = covered(phase=Phase.CLOSED)
    old = answered(ask(server=stopped(), server_read_s=10.5, captures=(closed,)))
    assert {none.state, old.state} == {PermitState.PENDING}


def test_captures_switched_off_grant_nothing_and_say_so():
    state = ask(server=stopped(), server_read_s=10.5, captures=(covered(),))
    off = replace(POLICY, capture_enabled=False)
    permit = permits.advance(state, given.at(11), off).ledger.permits[0]
    assert permit.state is PermitState.PENDING
    assert "switched off" in permit.reason


def test_protection_through_the_final_lsn_is_granted_with_its_proof():
    permit = granted().ledger.permits[0]
    assert permit.state is PermitState.GRANTED
    assert permit.final_lsn == Lsn(0x2000)
    assert permit.capture_id == "n1-1"
    assert "complete up to 0/2000" in permit.reason


def test_a_failed_capture_is_named_in_the_reason():
    failed = covered(phase=Phase.FAILED, grade=Grade.NONE, reason="no room")
    permit = answered(ask(server=stopped(), server_read_s=10.5, captures=(failed,)))
    assert "failed: no room" in permit.reason


def test_a_grant_is_void_after_ten_minutes():
    state = granted()
    assert answered(state, 11 + 600).state is PermitState.GRANTED
    assert answered(state, 11 + 601).state is PermitState.VOID


def test_a_grant_is_void_when_the_server_runs_again_later():
    state = granted()
    key = "n1/postgres"
    before = {key: given.postgres("n1", given.sight(), 10.9)}
    standby = {key: given.postgres("n1", given.sight(in_recovery=True), 12)}
    again = {key: given.postgres("n1", given.sight(), 12)}

    def seeing(latest):
        return replace(state, view=replace(state.view, latest=latest))

    assert answered(seeing(before), 12).state is PermitState.GRANTED
    assert answered(seeing(standby), 13).state is PermitState.VOID
    assert answered(seeing(again), 13).state is PermitState.VOID


def test_a_void_permit_stays_void():
    state = permits.advance(granted(), given.at(700), POLICY)
    assert answered(state, 701).state is PermitState.VOID
    assert permits.advance(state, given.at(701), POLICY) is state


def test_a_restart_waits_for_a_fresh_reading_and_keeps_grants():
    pending = permits.restarted(ask(), given.at(50)).ledger.permits[0]
    kept = permits.restarted(granted(), given.at(50)).ledger.permits[0]
    assert (pending.asked_s, pending.granted_s) == (50, None)
    assert (kept.state, kept.granted_s) == (PermitState.GRANTED, 11)


def test_no_number_of_restarts_makes_a_grant_last_longer():
    state = granted()
    for seconds in (200, 400, 700):
        state = permits.restarted(state, given.at(seconds))
    assert answered(state, 700).state is PermitState.VOID


def test_a_grant_from_the_future_is_void():
    state = permits.restarted(granted(), given.at(5))
    assert answered(state, 6).state is PermitState.VOID


@pytest.mark.parametrize(
    ("server", "after"),
    [
        (stopped(0x2000), PermitState.GRANTED),
        (stopped(0x2001), PermitState.VOID),
        (stopped(None), PermitState.GRANTED),
        (stopped(0x9000, lineage=given.lineage(2, (1, 0x800))), PermitState.GRANTED),
        (given.facts(), PermitState.VOID),
        (given.facts(standby=True), PermitState.VOID),
        (given.facts(single_user=True), PermitState.GRANTED),
        (ReadFailure("gone", "look"), PermitState.GRANTED),
    ],
)
def test_a_grant_is_void_when_the_disk_says_that_the_server_went_on(server, after):
    state = granted()
    later = replace(state, view=replace(state.view, server=server, server_read_s=12))
    earlier = replace(state, view=replace(state.view, server=server, server_read_s=11))
    assert answered(later, 13).state is after
    assert answered(earlier, 13).state is PermitState.GRANTED


def test_a_request_of_yesterday_is_void_and_says_ask_again():
    late = answered(ask(server=given.facts(), server_read_s=10.5), 10 + 86_401)
    assert late.state is PermitState.VOID
    assert "ask again" in late.reason


def test_many_requests_push_out_what_is_over_and_no_valid_grant():
    state = granted()
    for number in range(2 * permits.PERMITS_KEPT):
        event = replace(ASKED, permit_id=f"more-{number}")
        state = permits.asked(state, event, POLICY)
        done = tuple(
            replace(permit, state=PermitState.VOID)
            if permit.state is PermitState.PENDING
            else permit
            for permit in state.ledger.permits
        )
        state = replace(state, ledger=replace(state.ledger, permits=done))
    assert len(state.ledger.permits) == permits.PERMITS_KEPT
    assert state.ledger.permits[0].state is PermitState.GRANTED


def test_a_release_is_recorded_with_name_and_reason_and_touches_no_grant():
    event = PermitReleased(given.at(12), "ada", "the data is worthless")
    waiting = permits.released(ask(), event).ledger.permits[0]
    kept = permits.released(granted(), event).ledger.permits[0]
    assert waiting.state is PermitState.RELEASED
    assert waiting.released_by == "ada"
    assert "worthless" in waiting.reason
    assert kept.state is PermitState.GRANTED


def test_nothing_asked_changes_nothing():
    state = given.state()
    assert permits.advance(state, given.at(1), POLICY) is state


def test_a_request_that_waits_too_long_says_how_a_person_can_help():
    state = ask(server=given.facts(), server_read_s=10.5)
    assert "guard release" not in answered(state, 11).reason
    late = answered(state, 10 + 901)
    assert late.state is PermitState.PENDING
    assert "splitguard guard release n1 --reason" in late.reason


def test_a_status_from_before_the_order_grants_nothing():
    """The data directory may have been replaced since; the engine has not looked."""
    stale = covered(final_lsn=None)
    state = ask(server=stopped(), server_read_s=10.5, captures=(stale,))
    permit = answered(state)
    assert permit.state is PermitState.PENDING


SOURCE = "10.0.0.2:5432"
NAMED = replace(
    POLICY,
    nodes=tuple(
        replace(spec, upstreams=(f"10.0.0.{number}:5432",))
        for number, spec in enumerate(POLICY.nodes, start=1)
    ),
)


def seen(sights, sent_s=11.0):
    """What was read last of other nodes."""
    return {
        f"{node}/postgres": given.postgres(node, sight, sent_s)
        for node, sight in sights.items()
    }


SILENT = Observation(
    "n2", Channel.POSTGRES, Outcome.UNREACHABLE, "nobody answers", 11.0, 11.1
)


def from_source(sights, source=SOURCE, at_s=11.2, sent_s=11.0):
    """Ask for a permit at 11.0, with what was read then; without n2 it is silent."""
    state = given.state(
        server=stopped(),
        server_read_s=10.5,
        captures=(covered(),),
        latest={"n2/postgres": SILENT} | seen(sights, sent_s),
    )
    state = permits.asked(state, replace(ASKED, source=source), NAMED)
    return permits.advance(state, given.at(at_s), NAMED)


PRIMARY = given.sight()
STANDBY = given.sight(in_recovery=True)
LATE = replace(PRIMARY, timeline=2, control_timeline=1, version_num=150018)


@pytest.mark.parametrize(
    ("sights", "reason"),
    [
        ({"n2": PRIMARY}, None),
        ({}, None),
        ({"n2": PRIMARY, "n3": PRIMARY}, None),
        ({"n2": STANDBY}, "is a standby: waiting until it is the primary"),
        ({"n2": STANDBY, "n3": PRIMARY}, "is a standby, and n3 accepts writes"),
        ({"n3": PRIMARY}, "is not seen, and n3 accepts writes"),
        ({"n3": STANDBY}, None),
        ({"n2": LATE}, "control file still says timeline 1, it is on 2"),
        ({"n2": replace(LATE, version_num=160000)}, None),
        ({"n2": replace(LATE, control_timeline=2)}, None),
        ({"n2": replace(LATE, control_timeline=None)}, None),
    ],
)
def test_nothing_is_granted_from_a_source_that_is_not_the_primary(sights, reason):
    permit = from_source(sights).ledger.permits[0]
    if reason is None:
        assert permit.state is PermitState.GRANTED
    else:
        assert permit.state is PermitState.PENDING
        assert f"n2 ({SOURCE})" in permit.reason
        assert reason in permit.reason


def test_a_source_that_was_read_before_the_request_is_read_again_first():
    """It may have become a standby since: somebody else has won."""
    asked_s = ASKED.at.monotonic_s
    permit = from_source({"n2": PRIMARY}, sent_s=asked_s - 0.1).ledger.permits[0]
    assert permit.state is PermitState.PENDING
    assert "has not been looked at since you asked" in permit.reason
    permit = from_source({"n2": PRIMARY}, sent_s=asked_s).ledger.permits[0]
    assert permit.state is PermitState.GRANTED


@pytest.mark.parametrize("source", [None, "10.9.9.9:5432", "10.0.0.1:5432"])
def test_a_source_that_nobody_knows_is_not_judged(source):
    state = from_source({"n2": STANDBY, "n3": PRIMARY}, source)
    assert state.ledger.permits[0].state is PermitState.GRANTED


@pytest.mark.parametrize(
    ("early_s", "answer"), [(1.0, PermitState.PENDING), (0.0, PermitState.GRANTED)]
)
def test_a_late_control_file_is_not_waited_for_without_end(early_s, answer):
    later = ASKED.at.monotonic_s + permit_source.READY_S - early_s
    state = given.state(
        server=stopped(),
        server_read_s=10.5,
        captures=(covered(),),
        latest=seen({"n2": LATE}, later),
    )
    state = permits.asked(state, replace(ASKED, source=SOURCE), NAMED)
    after = permits.advance(state, given.at(later), NAMED)
    assert after.ledger.permits[0].state is answer


@pytest.mark.parametrize(
    ("sight", "reason"),
    [
        (STANDBY, "became a standby after the grant"),
        (replace(PRIMARY, timeline=3), "went from timeline 1 to 3 after the grant"),
        (PRIMARY, None),
    ],
)
def test_a_grant_ends_when_its_source_is_another_one(sight, reason):
    state = from_source({"n2": PRIMARY})
    state = replace(state, view=replace(state.view, latest=seen({"n2": sight}, 12.0)))
    permit = permits.advance(state, given.at(12.2), NAMED).ledger.permits[0]
    if reason is None:
        assert permit.state is PermitState.GRANTED
    else:
        assert permit.state is PermitState.VOID
        assert reason in permit.reason


# --- to the letter ----------------------------------------------------------------


def test_a_request_is_entered_with_nothing_promised():
    state = permits.asked(given.state(), replace(ASKED, source=SOURCE), POLICY)
    assert state.ledger.permits == (
        Permit(
            id="permit-1",
            node="n1",
            purpose="pg_rewind",
            state=PermitState.PENDING,
            reason="the server's files have not been read since you asked",
            asked_wall_s=given.at(10).wall_s,
            granted_s=None,
            system_id=None,
            timeline=None,
            final_lsn=None,
            capture_id=None,
            bytes_done=0,
            bytes_total=0,
            seconds_left=None,
            released_by=None,
            asked_s=10,
            source=SOURCE,
        ),
    )


def test_a_grant_tells_all_that_it_rests_on():
    before = ask(server=stopped(), server_read_s=10.5).ledger.permits[0]
    assert granted().ledger.permits == (
        replace(
            before,
            state=PermitState.GRANTED,
            reason="snapshot n1-1 is complete up to 0/2000",
            granted_s=11,
            granted_wall_s=given.at(11).wall_s,
            system_id=given.SYSTEM,
            timeline=1,
            final_lsn=Lsn(0x2000),
            capture_id="n1-1",
            bytes_done=1,
            bytes_total=1,
            seconds_left=0.0,
            at_work=True,
        ),
    )


def test_while_it_copies_the_request_says_how_far_it_is():
    copying = covered(
        grade=Grade.NONE,
        phase=Phase.COPYING,
        bytes_done=3,
        bytes_total=9,
        seconds_left=4.5,
    )
    permit = answered(ask(server=stopped(), server_read_s=10.5, captures=(copying,)))
    assert permit.reason == "snapshot n1-1 is copying"
    assert (permit.capture_id, permit.bytes_done, permit.bytes_total) == ("n1-1", 3, 9)
    assert (permit.seconds_left, permit.state) == (4.5, PermitState.PENDING)


def test_a_source_s_timeline_is_part_of_the_grant():
    later = replace(PRIMARY, timeline=7)
    assert from_source({"n2": later}).ledger.permits[0].source_timeline == 7


@pytest.mark.parametrize(
    ("waited_s", "helped", "state"),
    [
        (899.9, False, PermitState.PENDING),
        (900, True, PermitState.PENDING),
        (86_400, True, PermitState.PENDING),
        (86_400.1, False, PermitState.VOID),
    ],
)
def test_help_is_offered_after_the_wait_and_a_day_ends_it(waited_s, helped, state):
    permit = answered(ask(server=given.facts(), server_read_s=10.5), 10 + waited_s)
    assert ("guard release n1" in permit.reason) is helped
    assert permit.state is state


def test_a_reading_at_the_instant_of_the_question_counts():
    permit = answered(ask(server=stopped(), server_read_s=10, captures=(covered(),)))
    assert permit.state is PermitState.GRANTED


def test_room_is_made_for_one_request_by_what_is_over_first():
    def full(*states):
        one = ask().ledger.permits[0]
        many = [replace(one, id=f"p{n}", state=s) for n, s in enumerate(states)]
        return permits.asked(given.state(permits=tuple(many)), ASKED, POLICY)

    void, waits = PermitState.VOID, PermitState.PENDING
    room = permits.PERMITS_KEPT - 1
    assert len(full(*[void] * room).ledger.permits) == room + 1
    kept = [p.id for p in full(waits, void, *[waits] * (room - 1)).ledger.permits]
    assert (len(kept), "p1" in kept, kept[0], kept[-1]) == (
        room + 1,
        False,
        "p0",
        "permit-1",
    )
    kept = [p.id for p in full(*[waits] * (room + 1)).ledger.permits]
    assert (len(kept), kept[0]) == (room + 1, "p1")


def test_a_grant_of_this_very_second_survives_a_restart():
    kept = permits.restarted(granted(), given.at(11)).ledger.permits[0]
    assert kept.granted_s == 11


@pytest.mark.parametrize(
    ("ended_s", "server", "work"),
    [
        (12, given.facts(), False),
        (11, given.facts(), True),
        (12, given.facts(single_user=True), True),
        (12, stopped(), True),
        (12, stopped(0x2001), False),
    ],
)
def test_what_a_grant_let_pass_is_at_work_until_the_server_goes_on(
    ended_s, server, work
):
    void = permits.advance(granted(), given.at(700), POLICY)
    assert void.ledger.permits[0].at_work
    view = replace(void.view, server=server, server_read_s=ended_s)
    permit = answered(replace(void, view=view), 701)
    assert (permit.at_work, permit.state) == (work, PermitState.VOID)


def test_an_agent_on_another_machine_than_its_server_says_why_it_grants_nothing():
    nodes = tuple(replace(node, local=False) for node in POLICY.nodes)
    elsewhere = replace(POLICY, nodes=nodes)
    state = permits.asked(given.state(), ASKED, elsewhere)
    (found,) = permits.advance(state, given.at(11), elsewhere).ledger.permits
    assert found.state is PermitState.PENDING
    assert "local = false" in found.reason
