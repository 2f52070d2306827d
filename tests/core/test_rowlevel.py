"""A permit may rest on rows: only on all of them, and where that is allowed."""

from dataclasses import replace

import pytest

from agent.core import permits, protection, rowlevel
from agent.core.capture import Grade, Level, Phase
from agent.core.event import PermitAsked
from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.core.permit import PermitState
from agent.core.policy import Minimum
from agent.core.sufficiency import is_whole, suffices
from tests.core import given
from tests.core.test_protection import ALONE, SPLIT, WRITABLE, ordered, primary

PATIENT = given.policy()
POLICY = replace(PATIENT, guard_minimum=Minimum.ROWS)
FORK = Fork(1, Lsn(0x800))
WINNER = {"n2": given.lineage(2, (1, 0x800))}
SEEN = {"n2/postgres": given.postgres("n2", given.sight(), 10.5)}
BOTH = WRITABLE | {"n2/postgres": given.postgres("n2", given.sight(), 1)}
NO_ROOM = {"phase": Phase.FAILED, "reason": "no room", "missing_bytes": 7}


def kept(begins=0x800, upto=0x2000, final=0x2000, **status):
    told = {
        "phase": Phase.COPYING,
        "grade": Grade.NONE,
        "reached_lsn": None,
        "final_lsn": Lsn(final),
        "rows_from": None if begins is None else Lsn(begins),
        "rows_lsn": None if upto is None else Lsn(upto),
    }
    made = given.capture(**(told | status))
    return replace(made, order=replace(made.order, final_lsn=Lsn(final), fork=FORK))


def asked(capture, policy=POLICY, seconds=11.0, source=None, **parts):
    """What a request of second 10 hears, the winner being another node."""
    given_parts = {
        "server": given.facts(running=False, end=0x2000),
        "server_read_s": 10.5,
        "captures": (capture,),
        "lineages": WINNER,
        "incidents": (won_by("n2"),),
        "alive": SEEN,
    }
    state = given.state(**(given_parts | parts))
    event = PermitAsked(given.at(10), "permit-1", "pg_rewind", source)
    state = permits.asked(state, event, policy)
    return permits.advance(state, given.at(seconds), policy)


def answer(*args, **parts):
    return asked(*args, **parts).ledger.permits[0]


def won_by(node):
    said = replace(given.verdict(), evidence={"winner": node, "winner_rule": "frozen"})
    return given.incident(said)


def test_rows_up_to_the_end_grant_with_what_they_lack_where_rows_suffice():
    permit = answer(kept())
    assert permit.state is PermitState.GRANTED
    for lacking in ("DDL", "large objects", "sequences", "without a key"):
        assert lacking in permit.reason
    assert "from 0/800 to 0/2000" in permit.reason


@pytest.mark.parametrize(
    "capture",
    [
        kept(upto=0x1FFF),
        kept(upto=None, begins=None),
        kept(begins=0x801),
        kept(timeline=2),
        kept(final_lsn=None),
        kept(final=0x1FF8),
    ],
)
def test_rows_that_miss_something_grant_nothing(capture):
    assert answer(capture).state is PermitState.PENDING


def test_a_fork_that_is_not_known_grants_nothing():
    assert answer(kept(), lineages={}).state is PermitState.PENDING
    nobody = answer(kept(), alive={})
    assert nobody.state is PermitState.PENDING


def test_the_source_that_the_permit_names_must_have_the_same_fork_or_a_later_one():
    nodes = tuple(
        replace(spec, upstreams=(f"10.0.0.{number}:5432",))
        for number, spec in enumerate(POLICY.nodes, start=1)
    )
    policy = replace(POLICY, nodes=nodes)
    state = given.state(
        server=given.facts(running=False, end=0x2000),
        lineages=WINNER | {"n3": given.lineage(3, (1, 0x700))},
        incidents=(won_by("n2"),),
        alive=SEEN,
    )
    event = PermitAsked(given.at(10), "permit-1", "pg_rewind", "10.0.0.3:5432")
    permit = permits.asked(state, event, policy).ledger.permits[0]
    assert rowlevel.known_fork(state, policy) == FORK
    assert rowlevel.known_fork(state, policy, permit) == Fork(1, Lsn(0x700))
    unknown = replace(state, knowledge=replace(state.knowledge, lineages=WINNER))
    assert rowlevel.known_fork(unknown, policy, permit) is None


def test_by_default_rows_wait_for_the_full_copy():
    permit = answer(kept(), policy=PATIENT)
    assert permit.state is PermitState.PENDING
    assert "its rows reach from 0/800 to 0/2000" in permit.reason


def test_by_default_rows_suffice_where_no_full_copy_fits():
    assert answer(kept(**NO_ROOM), policy=PATIENT).state is PermitState.GRANTED
    broken = NO_ROOM | {"missing_bytes": 0}
    assert answer(kept(**broken), policy=PATIENT).state is PermitState.PENDING


def test_by_default_rows_suffice_after_a_long_wait():
    assert answer(kept(), PATIENT, 10 + 899).state is PermitState.PENDING
    assert answer(kept(), PATIENT, 10 + 900).state is PermitState.GRANTED


def test_time_alone_grants_nothing():
    late = answer(kept(upto=0x1FFF), PATIENT, 10 + 5000)
    assert late.state is PermitState.PENDING
    assert "guard release" in late.reason


def test_a_full_copy_is_named_before_rows():
    whole = kept(grade=Grade.COMPLETE, reached_lsn=Lsn(0x2000))
    assert "complete up to 0/2000" in answer(whole).reason


def test_why_rows_do_not_reach_the_end_is_said():
    short = kept(upto=0x1000, rows_reason="commits lie past them")
    assert "to 0/1000: commits lie past them" in answer(short).reason
    none = kept(None, None, rows_reason="it may not read table a.b")
    assert "no rows are kept: it may not read table a.b" in answer(none).reason


def test_a_second_asker_is_served_by_the_rows_of_a_valid_grant():
    state = asked(kept(**NO_ROOM), policy=PATIENT)
    first = state.ledger.captures[0]
    closed = replace(
        first, status=replace(first.status, phase=Phase.CLOSED, missing_bytes=0)
    )
    state = replace(state, ledger=replace(state.ledger, captures=(closed,)))
    event = PermitAsked(given.at(10.2), "permit-2", "pg_rewind")
    after = permits.advance(permits.asked(state, event, PATIENT), given.at(12), PATIENT)
    assert [one.state for one in after.ledger.permits] == [PermitState.GRANTED] * 2


def test_what_was_closed_on_rows_is_whole_and_enough():
    closed = kept(phase=Phase.CLOSED)
    assert is_whole(closed)
    assert not is_whole(kept())
    assert not is_whole(kept(phase=Phase.CLOSED, upto=0x1FFF))
    state = given.state(
        captures=(closed,), server=given.facts(running=False, end=0x2000)
    )
    assert suffices(state, None, closed.order.incident_ids, POLICY)


def test_rows_are_ordered_from_the_winners_fork_on():
    split = replace(SPLIT, verdict=won_by("n2").verdict)
    (order,) = ordered(primary(split, lineages=WINNER, latest=BOTH, alive=BOTH))
    assert Level.ROWS in order.levels
    assert order.fork == FORK


def test_isolation_orders_rows_from_what_was_confirmed():
    state = primary(ALONE, confirmed_xid=99, confirmed_lsn=Lsn(0x900))
    (order,) = ordered(state)
    assert order.fork == Fork(1, Lsn(0x900))
    (blind,) = ordered(primary(ALONE, confirmed_xid=99))
    assert blind.fork is None


def test_the_fork_of_an_order_only_goes_back():
    split = replace(SPLIT, verdict=won_by("n2").verdict)
    first = kept(final_lsn=None)
    for wanted, ordered_before in ((0x800, 0x900), (0x700, 0x700)):
        before = Fork(1, Lsn(ordered_before))
        entry = replace(first, order=replace(first.order, fork=before))
        state = primary(
            split, lineages=WINNER, latest=BOTH, alive=BOTH, captures=(entry,)
        )
        (order,) = ordered(state)
        assert order.fork == Fork(1, Lsn(wanted))


def test_a_capture_on_which_a_grant_rests_is_closed():
    state = asked(kept())
    _, actions = protection.advance(state, given.at(11), POLICY)
    assert [type(action).__name__ for action in actions] == ["CloseCapture"]
