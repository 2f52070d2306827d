"""What is captured, when, and how much."""

from dataclasses import replace

import pytest

from agent.core import demand, permits, protection
from agent.core.action import CloseCapture, RunCapture
from agent.core.capture import CaptureOrder, Grade, Level, Phase, capture_id
from agent.core.event import CaptureAsked
from agent.core.incident import Status
from agent.core.lsn import Lsn
from agent.core.permit import PermitState
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given
from tests.core.test_permits import ask

POLICY = given.policy()
SPLIT = given.incident()
ALONE = given.incident(
    given.verdict(VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1", Severity.CRITICAL)
)
SUSPECTED = given.incident(given.verdict(VerdictCode.SPLIT_BRAIN_SUSPECTED))
WRITABLE = {"n1/postgres": given.postgres("n1", given.sight(), 1)}
STANDBY = {"n1/postgres": given.postgres("n1", given.sight(in_recovery=True), 1)}
ALL = set(Level)


def advance(state, seconds=2.0, policy=POLICY):
    return protection.advance(state, given.at(seconds), policy)


def ordered(state, **more):
    _, actions = advance(state, **more)
    assert all(isinstance(action, RunCapture) for action in actions)
    return [action.order for action in actions]


def primary(*incidents, **more):
    parts = {"server": given.facts(), "latest": WRITABLE, "incidents": incidents}
    return given.state(**(parts | more))


def test_a_healthy_cluster_orders_nothing():
    assert advance(primary()) == (primary(), ())


@pytest.mark.fact("backup-writes-wal")
def test_isolation_of_a_writable_server_takes_only_what_writes_no_wal():
    (order,) = ordered(primary(ALONE, confirmed_lsn=Lsn(0x800), confirmed_xid=100))
    assert set(order.levels) == {Level.TAIL, Level.PIN}
    assert order.confirmed_lsn == Lsn(0x800)
    assert order.capture_id == capture_id("n1", ALONE.id)
    assert order.final_lsn is None


def test_isolation_takes_a_full_copy_once_something_unconfirmed_was_written():
    (order,) = ordered(primary(ALONE, confirmed_xid=99))
    assert set(order.levels) == ALL


def test_isolation_of_a_standby_or_of_another_node_takes_nothing():
    assert ordered(primary(ALONE, latest=STANDBY)) == []
    other = given.incident(
        given.verdict(VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n2")
    )
    assert ordered(primary(other)) == []


def test_a_server_that_does_not_answer_is_taken_for_writable_while_it_runs():
    (order,) = ordered(primary(ALONE, latest={}))
    assert set(order.levels) == {Level.TAIL, Level.PIN}
    assert ordered(primary(ALONE, latest={}, server=given.facts(standby=True))) == []


def test_isolation_is_captured_once_it_has_lasted_as_long_as_configured():
    patient = replace(POLICY, isolation_hold_s=5.0)
    for incident in (ALONE, SUSPECTED):
        assert ordered(primary(incident), seconds=4.9, policy=patient) == []
        assert len(ordered(primary(incident), seconds=5.0, policy=patient)) == 1
    assert len(ordered(primary(SPLIT), seconds=1.0, policy=patient)) == 1


def test_a_suspected_split_is_treated_like_isolation():
    (order,) = ordered(primary(SUSPECTED, confirmed_xid=100))
    assert set(order.levels) == {Level.TAIL, Level.PIN}


def test_without_a_prediction_a_proven_split_takes_everything_of_a_writable_server():
    (order,) = ordered(primary(SPLIT))
    assert set(order.levels) == ALL


def split_with_two(me_timeline=1, **more):
    """n2 went over to timeline 2 at 0/800; n1 is on the given timeline."""
    mine = given.lineage(1) if me_timeline == 1 else given.lineage(2, (1, 0x800))
    theirs = given.lineage(2, (1, 0x800))
    latest = {
        "n1/postgres": given.postgres("n1", given.sight(timeline=me_timeline), 1),
        "n2/postgres": given.postgres("n2", given.sight(timeline=2), 1),
    }
    parts = {
        "server": given.facts(lineage=mine),
        "latest": latest,
        "alive": latest,
        "incidents": (SPLIT,),
        "lineages": {"n1": mine, "n2": theirs},
    }
    return given.state(**(parts | more))


def test_the_predicted_loser_is_copied_whole_and_the_winner_keeps_its_tail():
    (order,) = ordered(split_with_two())
    assert set(order.levels) == ALL
    (order,) = ordered(split_with_two(), policy=given.policy("n1"))
    assert Level.FULL in order.levels
    swapped = split_with_two(
        me_timeline=2,
        latest={
            "n1/postgres": given.postgres("n1", given.sight(timeline=2), 1),
            "n2/postgres": given.postgres("n2", given.sight(timeline=1), 1),
        },
        lineages={"n1": given.lineage(2, (1, 0x800)), "n2": given.lineage(1)},
    )
    swapped = replace(swapped, view=replace(swapped.view, alive=swapped.view.latest))
    (order,) = ordered(swapped)
    assert set(order.levels) == {Level.TAIL, Level.PIN}


@pytest.mark.parametrize(("flush", "wanted"), [(0x900, ALL), (0x800, set())])
def test_a_standby_is_copied_when_it_holds_wal_past_the_fork(flush, wanted):
    standby = given.sight(in_recovery=True, flush=flush)
    latest = {
        "n1/postgres": given.postgres("n1", standby, 1),
        "n2/postgres": given.postgres("n2", given.sight(timeline=2), 1),
    }
    orders = ordered(split_with_two(latest=latest, alive=latest))
    assert {level for order in orders for level in order.levels} == wanted


def test_a_standby_of_unknown_position_or_lineage_waits():
    latest = {"n2/postgres": given.postgres("n2", given.sight(timeline=2), 1)}
    gone = given.facts(running=False)
    assert ordered(split_with_two(latest=latest, alive=latest, server=gone)) == []
    assert ordered(split_with_two(latest=STANDBY, alive=latest, lineages={})) == []


def test_a_standby_that_followed_another_fork_is_copied():
    mine = given.lineage(2, (1, 0x700))
    latest = {
        "n1/postgres": given.postgres("n1", given.sight(in_recovery=True), 1),
        "n2/postgres": given.postgres("n2", given.sight(timeline=2), 1),
    }
    (order,) = ordered(
        split_with_two(
            latest=latest,
            alive=latest,
            server=given.facts(lineage=mine, standby=True),
            lineages={"n1": mine, "n2": given.lineage(2, (1, 0x800))},
        )
    )
    assert set(order.levels) == ALL


def test_other_troubles_capture_nothing():
    down = given.incident(given.verdict(VerdictCode.NODE_DOWN, Family.REACH, "n2"))
    assert ordered(primary(down)) == []


def test_a_trouble_that_is_clearing_starts_nothing_new():
    assert ordered(primary(replace(SPLIT, clear_since_s=1.0))) == []
    assert ordered(primary(replace(SPLIT, status=Status.PENDING))) == []


def test_nothing_is_ordered_when_captures_are_off_or_the_disk_is_unread():
    off = replace(POLICY, capture_enabled=False)
    assert ordered(primary(SPLIT), policy=off) == []
    assert ordered(primary(SPLIT, server=None)) == []


def test_of_a_capture_that_was_just_ordered_nothing_is_kept_and_no_size_is_known():
    state, _ = advance(primary(ALONE, confirmed_xid=100))
    status = state.ledger.captures[0].status
    assert (status.phase, status.grade) == (Phase.ORDERED, Grade.NONE)
    assert (status.bytes_done, status.bytes_total) == (0, 0)
    assert (status.start_lsn, status.reached_lsn, status.pin) == (None, None, "none")


def test_an_order_is_given_once_and_widened_by_the_next_trigger():
    first, _ = advance(primary(ALONE, confirmed_xid=100))
    assert ordered(first) == []
    both = replace(first, ledger=replace(first.ledger, incidents=(ALONE, SPLIT)))
    (order,) = ordered(both)
    assert order.capture_id == capture_id("n1", ALONE.id)
    assert set(order.levels) == ALL
    assert order.incident_ids == (ALONE.id, SPLIT.id)


def running(capture=None, *incidents, **more):
    capture = capture or given.capture()
    return primary(*incidents, captures=(capture,), **more)


def test_after_a_restart_the_capture_is_handed_over_again():
    (order,) = ordered(running(None, SPLIT))
    assert order.capture_id == "n1-1"


def test_a_failed_capture_is_tried_again_after_a_while():
    failed = given.capture(phase=Phase.FAILED)
    state = running(failed, SPLIT, in_hand=frozenset({"n1-1"}))
    assert ordered(state, seconds=9) == []
    state, actions = advance(state, 10)
    assert len(actions) == 1
    assert ordered(state, seconds=11) == []


def test_a_capture_goes_on_while_its_incident_is_only_clearing():
    clearing = replace(SPLIT, clear_since_s=1.0)
    assert [o.capture_id for o in ordered(running(None, clearing))] == ["n1-1"]


def test_a_capture_is_closed_once_when_its_incidents_are_over():
    state, actions = advance(running())
    assert actions == (CloseCapture("n1-1"),)
    assert advance(state)[1] == ()


def test_the_engine_is_told_again_when_it_does_not_say_closed():
    state, _ = advance(running())
    state, again = advance(state, 2 + protection.RETRY_S)
    assert again == (CloseCapture("n1-1"),)
    assert advance(state, 3 + protection.RETRY_S)[1] == ()


def test_what_is_being_closed_is_in_hand():
    state, _ = advance(running())
    assert state.view.in_hand == {"n1-1"}


def demanded(state, name="n1-x", seconds=1.0, **more):
    """What one step makes of a request."""
    asked = CaptureAsked(given.at(seconds), name, "asked", **more)
    return advance(demand.asked(state, asked, POLICY), seconds)


def graded(state, grade, seconds=2.0):
    """The state once the engine has told that grade of the latest capture."""
    status = replace(state.ledger.captures[-1].status, grade=grade)
    return protection.progress(state, status, given.at(seconds))


def test_a_capture_on_demand_is_closed_when_it_is_complete():
    state, (run,) = demanded(primary())
    assert run.order.capture_id == "n1-x"
    assert set(run.order.levels) == {Level.TAIL, Level.FULL}
    assert advance(graded(state, Grade.COMPLETE))[1] == (CloseCapture("n1-x"),)


def test_a_request_widens_the_capture_that_goes_on_and_keeps_it_open():
    state, (first,) = advance(primary(ALONE, confirmed_xid=100))
    assert set(first.order.levels) == {Level.TAIL, Level.PIN}
    state, (wider,) = demanded(state, seconds=40)
    assert wider.order == replace(
        first.order, levels=(Level.TAIL, Level.PIN, Level.FULL)
    )
    assert state.ledger.captures[0].progressed_s == 40, (
        "what is new stands still not yet"
    )
    assert advance(state, 41)[1] == ()
    over = replace(state, ledger=replace(state.ledger, incidents=()))
    assert advance(over, 42)[1] == (), "the cut is over, and the copy is not complete"
    done = graded(over, Grade.COMPLETE, 43)
    assert advance(done, 43)[1] == (CloseCapture(first.order.capture_id),)


def test_a_request_has_a_failed_copy_tried_again_at_once():
    failed = given.capture(phase=Phase.FAILED, grade=Grade.NONE)
    state = running(failed, SPLIT, in_hand=frozenset({"n1-1"}))
    _, (again,) = demanded(state)
    assert again.order == failed.order


def test_what_is_being_closed_is_joined_by_nobody():
    closing, _ = advance(running())
    state, (run,) = demanded(closing)
    assert run.order.capture_id == "n1-x"
    assert [one.asked for one in state.ledger.captures] == [False, True]


def test_the_schedule_joins_nothing():
    state, _ = advance(primary(ALONE, confirmed_xid=100))
    assert demanded(state, joins=False) == (state, ())


def test_a_wider_order_is_not_standing_still_from_before():
    state, _ = advance(primary(ALONE, confirmed_xid=100))
    both = replace(state, ledger=replace(state.ledger, incidents=(ALONE, SPLIT)))
    state, _ = advance(both, 60)
    assert state.ledger.captures[0].progressed_s == 60


@pytest.mark.parametrize(
    ("switches", "left"),
    [(((1, 0x2000),), False), (((1, 0x1FFF),), True), (((5, 0x9000),), True)],
)
def test_a_rewound_server_is_no_longer_followed_but_a_promoted_one_is(switches, left):
    now = given.facts(lineage=given.lineage(2, *switches))
    _, actions = advance(running(None, SPLIT, server=now))
    assert (actions == (CloseCapture("n1-1"),)) is left


def test_a_disk_that_was_read_before_a_promotion_ends_no_capture_of_what_came_after():
    """The engine asks the server several times a second, the disk is read once."""
    promoted = {"n1/postgres": given.postgres("n1", given.sight(timeline=2), 1)}
    followed = replace(given.capture(timeline=2), progressed_s=2.0)
    before = given.facts(lineage=given.lineage(1))
    state = running(followed, SPLIT, server=before, server_read_s=1.5)
    assert ordered(state), "no reading that is older than the latest news of it"
    late = {"server": before, "server_read_s": 3.0, "latest": promoted}
    state = running(followed, SPLIT, **late)
    assert ordered(state, seconds=4), "nor one that was under way for long"
    stopped = running(followed, SPLIT, **late | {"latest": {}})
    assert advance(stopped, 4)[1] == (CloseCapture("n1-1"),), "rewound to timeline 1"


def test_since_when_a_known_loser_is_bare_is_kept():
    loser = replace(SPLIT, verdict=replace(SPLIT.verdict, evidence={"losers": "n1"}))
    off = replace(POLICY, capture_enabled=False)
    state, _ = advance(primary(loser), 2, off)
    state, _ = advance(state, 3, off)
    assert state.view.bare_s == 2
    state, begun = advance(state, 4)
    assert (state.view.bare_s, len(begun)) == (None, 1)
    closed = replace(state.ledger.captures[0].status, phase=Phase.CLOSED)
    state, again = advance(protection.progress(state, closed, given.at(5)), 5)
    assert state.view.bare_s is None, "one gives way to the next"
    assert len(again) == 1


def test_a_server_is_followed_while_nothing_was_captured_yet():
    early = given.capture(timeline=None, tail_lsn=None)
    now = given.facts(lineage=given.lineage(2, (1, 0x10)))
    assert ordered(running(early, SPLIT, server=now))
    early = given.capture(tail_lsn=None)
    assert ordered(running(early, SPLIT, server=now))


def waiting(final=0x2000, **more):
    state = ask(
        server=given.facts(running=False, end=final), server_read_s=10.5, **more
    )
    permit = replace(state.ledger.permits[0], final_lsn=Lsn(final))
    return replace(state, ledger=replace(state.ledger, permits=(permit,)))


def test_a_permit_orders_whatever_is_missing_up_to_the_final_lsn():
    (order,) = ordered(waiting())
    assert set(order.levels) == {Level.TAIL, Level.FULL}
    assert order.final_lsn == Lsn(0x2000)
    assert order.capture_id == "n1-permit-1"
    (order,) = ordered(waiting(captures=(given.capture(),)))
    assert (order.capture_id, order.final_lsn) == ("n1-1", Lsn(0x2000))


def granted(capture, **more):
    """A stopped loser whose permit rests on the given capture."""
    state = waiting(captures=(capture,), incidents=(SPLIT,), latest=WRITABLE, **more)
    permit = replace(
        state.ledger.permits[0], state=PermitState.GRANTED, capture_id="n1-1"
    )
    return replace(state, ledger=replace(state.ledger, permits=(permit,)))


def test_a_grant_seals_the_capture_that_it_rests_on():
    assert advance(granted(given.capture()))[1] == (CloseCapture("n1-1"),)


def test_what_a_valid_grant_rests_on_is_enough_and_no_second_copy_begins():
    assert advance(granted(given.capture(phase=Phase.CLOSED)))[1] == ()


def test_a_server_that_pg_rewind_recovers_is_not_copied_meanwhile():
    """It starts a crashed server in single-user mode, and goes on to rewind it."""
    state = granted(given.capture(phase=Phase.CLOSED))
    grant = replace(state.ledger.permits[0], granted_s=11)
    alone = given.facts(single_user=True)
    state = replace(
        state,
        ledger=replace(state.ledger, permits=(grant,)),
        view=replace(state.view, server=alone, server_read_s=12, latest={}),
    )
    state = permits.advance(state, given.at(13), POLICY)
    assert advance(state, 13)[1] == ()


def test_a_loser_that_is_a_standby_again_is_not_copied_a_second_time():
    state = granted(given.capture(phase=Phase.CLOSED))
    used = replace(state.ledger.permits[0], state=PermitState.VOID)
    theirs = given.lineage(2, (1, 0x800))
    standby = given.sight(in_recovery=True, flush=0x2000)
    latest = {
        "n1/postgres": given.postgres("n1", standby, 12),
        "n2/postgres": given.postgres("n2", given.sight(timeline=2), 12),
    }
    state = replace(
        state,
        ledger=replace(state.ledger, permits=(used,)),
        knowledge=replace(state.knowledge, lineages={"n2": theirs}),
        view=replace(
            state.view,
            server=given.facts(standby=True),
            latest=latest,
            alive=latest,
        ),
    )
    assert advance(state)[1] == ()
    unkept = replace(state, ledger=replace(state.ledger, captures=()))
    assert len(advance(unkept)[1]) == 1


def test_after_a_void_grant_another_capture_begins_under_another_id():
    state = granted(given.capture(phase=Phase.CLOSED))
    taken = replace(
        state.ledger.captures[0],
        order=replace(
            state.ledger.captures[0].order, capture_id=capture_id("n1", SPLIT.id)
        ),
    )
    void = replace(state.ledger.permits[0], state=PermitState.VOID)
    state = replace(
        state, ledger=replace(state.ledger, captures=(taken,), permits=(void,))
    )
    (order,) = ordered(state)
    assert order.capture_id == capture_id("n1", SPLIT.id) + "-2"


def test_progress_replaces_the_status_and_dates_the_change():
    state = running()
    same = protection.progress(state, state.ledger.captures[0].status, given.at(5))
    assert same == state
    further = replace(state.ledger.captures[0].status, tail_lsn=Lsn(0x3000))
    moved = protection.progress(state, further, given.at(5)).ledger.captures[0]
    assert (moved.status, moved.progressed_s) == (further, 5)
    stranger = replace(further, capture_id="other")
    assert protection.progress(state, stranger, given.at(5)) == state


def resyncing(seconds: float):
    """A loser that was granted at 11 s, as an incident of another kind opens."""
    other = replace(SPLIT, id="inc-other-1")
    kept = given.capture(phase=Phase.CLOSED)
    state = granted(kept)
    grant = replace(
        state.ledger.permits[0], granted_s=11, granted_wall_s=11, at_work=True
    )
    ledger = replace(state.ledger, permits=(grant,), incidents=(other,))
    theirs = given.postgres("n2", given.sight(timeline=2), seconds)
    seen = {
        "server": given.facts(running=False, end=0x2000),
        "server_read_s": seconds,
        "latest": {"n2/postgres": theirs},
        "alive": {"n2/postgres": theirs},
    }
    state = replace(
        state,
        ledger=ledger,
        knowledge=replace(
            state.knowledge, lineages={"n2": given.lineage(2, (1, 0x800))}
        ),
        view=replace(state.view, **seen),
    )
    return permits.advance(state, given.at(seconds), POLICY)


def test_a_resync_that_outlives_its_grant_is_not_copied_for_another_incident():
    late = resyncing(11 + POLICY.permit_valid_s + 60)
    (permit,) = late.ledger.permits
    assert permit.state is PermitState.VOID
    assert advance(late, 11 + POLICY.permit_valid_s + 60)[1] == ()


def test_a_server_that_ran_since_its_resync_is_captured_again():
    late_s = 11 + POLICY.permit_valid_s + 60
    late = resyncing(late_s)
    ran = replace(late, view=replace(late.view, server=given.facts()))
    over = permits.advance(ran, given.at(late_s + 1), POLICY)
    assert not over.ledger.permits[0].at_work
    stopped = replace(over, view=replace(over.view, server=late.view.server))
    stopped = permits.advance(stopped, given.at(late_s + 2), POLICY)
    (order,) = ordered(stopped, seconds=late_s + 2)
    assert order.incident_ids == ("inc-other-1",)


# --- to the letter ----------------------------------------------------------------


def test_an_order_says_why_and_from_where():
    state, (run,) = advance(primary(ALONE, SUSPECTED, confirmed_lsn=Lsn(0x800)))
    assert run == RunCapture(
        CaptureOrder(
            capture_id=capture_id("n1", ALONE.id),
            node="n1",
            levels=(Level.TAIL, Level.PIN),
            incident_ids=(ALONE.id, SUSPECTED.id),
            reason="observer-isolated, split-brain-suspected",
            confirmed_lsn=Lsn(0x800),
            final_lsn=None,
        )
    )
    (entry,) = state.ledger.captures
    assert entry == protection.begin(run.order, given.at(2))
    assert (entry.ordered_wall_s, entry.progressed_s) == (given.at(2).wall_s, 2)
    assert entry.status.phase is Phase.ORDERED
    assert state.view.in_hand == {run.order.capture_id}


def test_a_permit_is_named_in_the_order_s_reason():
    assert [order.reason for order in ordered(waiting())] == ["permit for pg_rewind"]


def test_a_status_that_says_the_same_is_no_progress():
    state = running(None, SPLIT)
    same = protection.progress(state, state.ledger.captures[0].status, given.at(9))
    assert same.ledger.captures[0].progressed_s == 0.0
    other = replace(state.ledger.captures[0].status, capture_id="n1-2", bytes_done=7)
    assert protection.progress(state, other, given.at(9)) == state
    news = replace(state.ledger.captures[0].status, bytes_done=7)
    after = protection.progress(state, news, given.at(9)).ledger.captures[0]
    assert (after.status, after.progressed_s) == (news, 9)


@pytest.mark.parametrize("xid", [100, None])
def test_what_was_written_while_cut_off_is_known_by_the_transaction_ids(xid):
    latest = {"n1/postgres": given.postgres("n1", given.sight(next_xid=xid), 1)}
    (order,) = ordered(primary(ALONE, confirmed_xid=100, latest=latest))
    assert Level.FULL not in order.levels
    (order,) = ordered(primary(ALONE))
    assert Level.FULL not in order.levels, "nothing was ever confirmed to compare with"


def test_the_ledger_keeps_the_latest_captures():
    one = given.capture(phase=Phase.CLOSED, grade=Grade.NONE)
    old = tuple(
        replace(one, order=replace(one.order, capture_id=f"old-{n}", incident_ids=()))
        for n in range(protection.CAPTURES_KEPT)
    )
    state, (run,) = advance(primary(SPLIT, captures=old))
    kept = [capture.order.capture_id for capture in state.ledger.captures]
    assert kept == [*(f"old-{n}" for n in range(1, 20)), run.order.capture_id]


def test_a_second_capture_of_one_incident_gets_a_number():
    first = capture_id("n1", SPLIT.id)
    one = given.capture(phase=Phase.CLOSED, grade=Grade.NONE)
    taken = [
        replace(one, order=replace(one.order, capture_id=name))
        for name in (first, f"{first}-2")
    ]
    (order,) = ordered(primary(SPLIT, captures=tuple(taken)))
    assert order.capture_id == f"{first}-3"
    (order,) = ordered(primary(SPLIT, captures=tuple(taken[:1])))
    assert order.capture_id == f"{first}-2"
    all_of_them = [first, *(f"{first}-{number}" for number in range(2, 21))]
    taken = [
        replace(one, order=replace(one.order, capture_id=name)) for name in all_of_them
    ]
    (order,) = ordered(primary(SPLIT, captures=tuple(taken)))
    assert order.capture_id == f"{first}-21"


def test_only_the_own_server_s_captures_go_on_here():
    one = given.capture()
    theirs = replace(one, order=replace(one.order, node="n2"))
    assert protection.unfinished(running(theirs), POLICY) is None
    assert protection.unfinished(running(one), POLICY) == one
    assert advance(running(theirs))[1] == ()


def test_levels_come_in_their_order_of_worth_each_once():
    told = protection.in_order([Level.FULL, Level.TAIL, Level.FULL])
    assert told == (Level.TAIL, Level.FULL)


def test_nothing_is_begun_of_a_server_whose_files_lie_on_another_machine():
    """Nobody would carry it out: it would be told as under way for ever."""
    nodes = tuple(replace(node, local=False) for node in POLICY.nodes)
    asked = CaptureAsked(given.at(2), "n1-9", "a test")
    state = primary()
    assert demand.asked(state, asked, replace(POLICY, nodes=nodes)) is state
    assert demand.asked(state, asked, POLICY).ledger.captures
