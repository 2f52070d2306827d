"""What came of an event, and what stays of a step that the journal did not take."""

from dataclasses import replace

import pytest

from agent.core import replay
from agent.core.action import CloseCapture, RunCapture
from agent.core.event import Ticked
from agent.core.incident import Status
from agent.core.machine import Step
from agent.core.replay import Held, Outcome, Stand
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given
from tests.core.cluster import FINE, Cluster
from tests.core.given import at

POLICY = given.policy()
HEALTHY = given.verdict(VerdictCode.HEALTHY, Family.OTHER, "cluster", Severity.OK)
HEALTHY = replace(HEALTHY, evidence={"nodes": 3}, rule=903)
SPLIT = given.verdict()
SUSPECTED = replace(SPLIT, code=VerdictCode.SPLIT_BRAIN_SUSPECTED, rule=509)


def state(*verdicts, incidents=()):
    return given.state(verdicts=verdicts, incidents=incidents)


def test_an_outcome_names_verdicts_and_incidents():
    made = replay.outcome(state(SPLIT, incidents=(given.incident(),)))
    assert made == Outcome(
        (Held("split", "cluster", "split-brain", 501, "critical"),),
        (Stand(given.incident().id, "open", "split-brain", "cluster"),),
    )


@pytest.mark.parametrize(
    ("before", "after", "turns"),
    [
        ((), (HEALTHY,), [("", "healthy")]),
        ((HEALTHY,), (SPLIT,), [("", "split-brain")]),
        ((SUSPECTED,), (SPLIT,), [("split-brain-suspected", "split-brain")]),
        ((SPLIT,), (HEALTHY,), [("", "healthy"), ("split-brain", "")]),
        ((SPLIT,), (replace(SPLIT, rule=507),), []),
        ((SPLIT,), (SPLIT,), []),
    ],
)
def test_a_turn_goes_from_one_conclusion_to_the_next(before, after, turns):
    found = replay.turns(state(*before), state(*after), at(5), POLICY)
    assert [(one.before, one.after) for one in found] == turns


def test_a_turn_says_when_by_which_rule_and_why():
    (turn,) = replay.turns(state(HEALTHY), state(SPLIT), at(5), POLICY)
    assert (turn.wall_s, turn.rule, turn.severity) == (at(5).wall_s, 501, "critical")
    assert "accepted writes at once" in turn.sentence


def test_a_turn_of_a_verdict_is_of_no_incident():
    (turn,) = replay.turns(state(HEALTHY), state(SPLIT), at(5), POLICY)
    assert turn.incident == ""


def test_a_turn_to_nothing_tells_what_it_was():
    _, turn = replay.turns(state(SPLIT), state(HEALTHY), at(5), POLICY)
    assert (turn.verdict, turn.rule) == ("split-brain", 501)
    assert "accepted writes at once" in turn.sentence


def test_an_incident_turns_from_status_to_status():
    opened = given.incident()
    taken = replace(opened, status=Status.ACKNOWLEDGED)
    (turn,) = replay.turns(
        state(SPLIT, incidents=(opened,)),
        state(SPLIT, incidents=(taken,)),
        at(5),
        POLICY,
    )
    assert (turn.incident, turn.before, turn.after) == (
        opened.id,
        "open",
        "acknowledged",
    )


def test_an_old_incident_that_leaves_the_ledger_is_no_turn():
    over = replace(given.incident(), status=Status.RESOLVED, resolved_wall_s=1.0)
    assert not replay.turns(
        state(SPLIT, incidents=(over,)), state(SPLIT), at(5), POLICY
    )


def test_a_pending_incident_that_comes_to_nothing_is_one():
    pending = given.incident(status=Status.PENDING)
    (turn,) = replay.turns(
        state(SPLIT, incidents=(pending,)), state(SPLIT), at(5), POLICY
    )
    assert (turn.before, turn.after) == ("pending", "")


def test_without_a_journal_the_ledger_stays_and_only_captures_begin():
    before = given.state(incidents=(given.incident(),))
    after = given.state(verdicts=(SPLIT,), in_hand=frozenset({"n1-1"}))
    run = RunCapture(given.capture().order)
    made = replay.uncommitted(before, Step(after, (run, CloseCapture("n1-1"))))
    assert made.actions == (run,)
    assert made.state.ledger == before.ledger
    assert made.state.view == replace(after.view, in_hand=before.view.in_hand)


def test_the_same_is_shown_while_only_ages_move():
    cluster = Cluster()
    cluster.run(5)
    before = cluster.agents["n1"].state
    cluster.run()
    after = cluster.agents["n1"].state
    assert before != after
    assert replay.same_outcome(before, after)
    assert replay.unequal_parts(before, before) == ()
    assert "view.sequence" in replay.unequal_parts(before, after)


def test_the_same_is_shown_of_an_incident_that_was_written_down_anew():
    opened = given.incident()
    before = state(SPLIT, incidents=(opened,))
    after = state(SPLIT, incidents=(replace(opened, clear_since_s=2.0),))
    assert replay.same_outcome(before, after)
    taken = replace(opened, status=Status.ACKNOWLEDGED)
    assert not replay.same_outcome(before, state(SPLIT, incidents=(taken,)))


def test_an_event_again_gives_the_same_state_again():
    cluster = Cluster()
    cluster.run(5)
    agent = cluster.agents["n1"]
    before, event = agent.state, Ticked(cluster.at("n1", 0.9), FINE)
    agent.step(event)
    assert replay.again(before, event, agent.policy, committed=True) == agent.state
    kept = replay.again(before, event, agent.policy, committed=False)
    assert kept.ledger is before.ledger
