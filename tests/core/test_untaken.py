"""What the engine told while the journal could not be written is not lost."""

from dataclasses import replace

from agent.core import replay, untaken
from agent.core.action import RunCapture
from agent.core.capture import Grade, Phase
from agent.core.event import CaptureReported, Ticked
from agent.core.machine import step
from agent.core.observation import SelfHealth
from agent.core.protection import CAPTURES_KEPT
from agent.core.state import State
from tests.core import given

POLICY = given.policy()
CALM = SelfHealth(0.0, 0.0, 0.0)


def writable(**more):
    """A server in a split, which is captured whole."""
    latest = {"n1/postgres": given.postgres("n1", given.sight(), 1)}
    parts = {
        "server": given.facts(),
        "latest": latest,
        "incidents": (given.incident(),),
    }
    return given.state(**(parts | more))


def stepped(state: State, event, *, full: bool = False) -> State:
    made = step(state, event, POLICY)
    return replay.uncommitted(state, made).state if full else made.state


def complete(status):
    return replace(status, phase=Phase.FOLLOWING, grade=Grade.COMPLETE)


def the_only(state: State):
    (capture,) = state.ledger.captures
    return capture.status


def test_a_capture_that_began_without_a_journal_is_not_waited_for_in_vain():
    before = writable()
    made = step(before, Ticked(given.at(2), CALM), POLICY)
    (order,) = [one.order for one in made.actions if isinstance(one, RunCapture)]
    status = complete(replace(the_only(made.state), capture_id=order.capture_id))
    state = replay.uncommitted(before, made).state
    assert state.ledger.captures == ()
    state = stepped(state, CaptureReported(given.at(3), status), full=True)
    assert state.ledger.captures == ()
    for seconds in (4, 5):
        state = stepped(state, Ticked(given.at(seconds), CALM))
    assert the_only(state) == status
    state = stepped(state, Ticked(given.at(6), CALM))
    assert state.view.untaken == {}


def test_a_status_whose_commit_failed_is_taken_over_with_the_next_one():
    state = stepped(writable(), Ticked(given.at(2), CALM))
    ordered = the_only(state)
    status = complete(ordered)
    state = stepped(state, CaptureReported(given.at(3), status), full=True)
    assert the_only(state) == ordered
    state = stepped(state, Ticked(given.at(4), CALM), full=True)
    assert the_only(state) == ordered
    state = stepped(state, Ticked(given.at(5), CALM))
    assert the_only(state) == status


def test_of_two_statuses_that_were_lost_the_later_one_counts():
    state = stepped(writable(), Ticked(given.at(2), CALM))
    status = complete(the_only(state))
    state = stepped(state, CaptureReported(given.at(3), status), full=True)
    later = replace(status, phase=Phase.FAILED, grade=Grade.NONE, reason="gone")
    state = stepped(state, CaptureReported(given.at(4), later), full=True)
    assert the_only(stepped(state, Ticked(given.at(5), CALM))) == later


def test_a_closed_capture_that_the_ledger_does_not_have_is_let_go():
    closed = replace(complete(given.capture().status), phase=Phase.CLOSED)
    state = untaken.told(given.state(), closed, given.at(2))
    assert untaken.caught_up(state, given.at(3)).view.untaken == {}


def test_no_more_statuses_wait_than_captures_are_kept():
    state, status = given.state(), given.capture().status
    for number in range(CAPTURES_KEPT + 5):
        one = replace(status, capture_id=f"n1-{number}")
        state = untaken.told(state, one, given.at(2))
    assert len(state.view.untaken) == CAPTURES_KEPT
    assert f"n1-{CAPTURES_KEPT + 4}" in state.view.untaken
