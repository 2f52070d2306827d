"""What a person has taken, what it covers, and what is news that nobody has taken."""

from dataclasses import replace

import pytest

from agent.core import agreement, stages, taking
from agent.core.incident import Flip, Status, Taken
from agent.core.observation import IncidentBrief
from agent.core.state import Ledger
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given
from tests.core.given import at

POLICY = given.policy()
SPLIT, SUSPECTED = VerdictCode.SPLIT_BRAIN, VerdictCode.SPLIT_BRAIN_SUSPECTED
DIVERGED = VerdictCode.LINEAGE_DIVERGED


def flip(code, second=0.0, status=Status.OPEN):
    return Flip(at(second).wall_s, status, code.value, 501, "said")


def known(*codes, status=Status.OPEN, severity=Severity.CRITICAL, **more):
    """An incident that has been in these stages, one a second; the last is present."""
    verdict = given.verdict(codes[-1], severity=severity)
    one = given.incident(verdict, status)
    history = tuple(flip(code, second) for second, code in enumerate(codes))
    return replace(one, history=history, **more)


def taken(code=SPLIT, worst=Severity.CRITICAL, second=5.0):
    return Taken(code.value, worst.value, at(second).wall_s)


# --- the order of stages ------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [
        ("capture-not-ready", "destructive-config"),
        ("node-suspect", "agent-down", "manager-down", "postgres-down"),
        ("postgres-down", "node-unreachable", "node-down"),
        ("failover", "no-primary", "writes-blocked", "stale-primary"),
        ("split-brain-suspected", "lineage-diverged", "lineage-twin", "split-brain"),
    ],
)
def test_each_stage_is_graver_than_the_one_before_it(family):
    found = [stages.gravity(code) for code in family]
    assert found == sorted(set(found))
    assert found[0] > 0


def test_what_has_no_stages_has_no_gravity():
    assert [stages.gravity(code) for code in ("healthy", "of-tomorrow")] == [0, 0]


def test_the_gravest_stage_may_be_past_or_present():
    assert taking.gravest(known(SPLIT, DIVERGED)) == "split-brain"
    assert taking.gravest(known(SUSPECTED, SPLIT)) == "split-brain"
    assert taking.gravest(replace(known(SPLIT), history=())) == "split-brain"


# --- taking --------------------------------------------------------------------------


def test_who_takes_it_takes_it_as_far_as_it_has_gone():
    before = known(SPLIT, DIVERGED)
    after = taking.acknowledged(before, "ann", at(9), POLICY)
    assert (after.status, after.acknowledged_by) == (Status.ACKNOWLEDGED, "ann")
    assert after.taken == Taken("split-brain", "critical", at(9).wall_s)
    assert after.history[:-1] == before.history
    last = after.history[-1]
    assert (last.wall_s, last.status, last.verdict, last.rule) == (
        at(9).wall_s,
        Status.ACKNOWLEDGED,
        "lineage-diverged",
        501,
    )


@pytest.mark.parametrize("status", [Status.PENDING, Status.ACKNOWLEDGED])
def test_what_nobody_knows_of_or_somebody_took_is_not_taken(status):
    one = known(SPLIT, status=status)
    assert taking.acknowledged(one, "ann", at(9), POLICY) is one


def test_what_is_over_can_be_taken_once():
    over = known(SPLIT, status=Status.RESOLVED)
    after = taking.acknowledged(over, "ann", at(9), POLICY)
    assert (after.status, after.acknowledged_by) == (Status.RESOLVED, "ann")
    assert after.history == over.history
    assert taking.acknowledged(after, "bob", at(10), POLICY) is after


def test_only_the_incident_that_is_named_is_taken():
    one = known(SPLIT)
    other = replace(one, id="inc-other")
    ledger = Ledger(incidents=(one, other))
    after = taking.acknowledge(ledger, "inc-other", "ann", at(9), POLICY)
    assert [each.acknowledged_by for each in after.incidents] == [None, "ann"]


def test_a_history_is_bounded_and_the_latest_stays():
    one = known(*[SPLIT, DIVERGED] * 5)
    after = taking.flipped(one, at(50), replace(POLICY, history_limit=3))
    assert len(after.history) == 3
    assert after.history[-1].wall_s == at(50).wall_s
    dated = taking.flipped(one, at(50), POLICY, at(40).wall_s)
    assert dated.history[-1].wall_s == at(40).wall_s


@pytest.mark.parametrize(
    ("of", "code", "severity", "more"),
    [
        (taken(SUSPECTED), SPLIT, Severity.CRITICAL, True),
        (taken(SPLIT), SUSPECTED, Severity.CRITICAL, False),
        (taken(SPLIT), SPLIT, Severity.CRITICAL, False),
        (taken(SPLIT, Severity.WARNING), SPLIT, Severity.CRITICAL, True),
        (taken(SPLIT), SPLIT, Severity.WARNING, False),
        # An older version wrote down no more than that it was taken.
        (None, SPLIT, Severity.CRITICAL, True),
        (None, SUSPECTED, Severity.CRITICAL, False),
    ],
)
def test_a_graver_stage_or_severity_is_more_than_was_taken(of, code, severity, more):
    one = known(SUSPECTED, status=Status.ACKNOWLEDGED, taken=of)
    verdict = given.verdict(code, severity=severity)
    assert taking.outgrown(one, verdict) is more
    assert not taking.outgrown(replace(one, status=Status.OPEN), verdict)


def test_what_has_got_graver_is_nobodys():
    one = taking.acknowledged(known(SUSPECTED), "ann", at(9), POLICY)
    again = taking.reopened(one)
    assert (again.status, again.acknowledged_by, again.taken) == (
        Status.OPEN,
        None,
        None,
    )


# --- at a peer ------------------------------------------------------------------------


def heard(one, status="acknowledged", verdict="split-brain", of=None):
    told = IncidentBrief(one.id, one.key, 1, status, verdict, one.since_wall_s, of)
    report = given.heard("n2", given.report("n2", incidents=(told,)), 9.999)
    state = given.state(reports={"n2": report})
    told_now = agreement.heard(state, at(10), POLICY)
    return taking.taken_at_peer(one, told_now, at(10), POLICY)


def test_taken_at_a_peer_is_taken_here():
    after = heard(known(SPLIT), of=taken())
    assert after.status is Status.ACKNOWLEDGED
    assert after.acknowledged_by == "somebody at n2"
    assert after.taken == taken()


@pytest.mark.parametrize("status", ["open", "pending", "resolved"])
def test_what_nobody_took_there_is_not_taken_here(status):
    one = known(SPLIT)
    assert heard(one, status=status, of=taken()) is one


def test_the_end_of_a_sticky_trouble_there_was_a_persons_word():
    sticky = replace(given.verdict(VerdictCode.FAILOVER, Family.PRIMARY), sticky=True)
    one = given.incident(sticky)
    after = heard(one, status="resolved", verdict="failover")
    assert after.status is Status.ACKNOWLEDGED
    assert after.taken == Taken("failover", "critical", at(10).wall_s)


@pytest.mark.parametrize(
    ("more", "waited"),
    [
        ({}, False),
        ({"moved": True}, True),
        ({"taken": taken()}, True),
        ({"verdict": "failover"}, True),
    ],
)
def test_who_saw_no_move_has_waited_for_nobody_to_take_it(more, waited):
    sticky = replace(given.verdict(VerdictCode.FAILOVER, Family.PRIMARY), sticky=True)
    one = given.incident(sticky)
    brief = IncidentBrief(one.id, one.key, 1, "resolved", "no-primary", 0.0)
    report = given.report("n2", incidents=(replace(brief, **more),))
    state = given.state(reports={"n2": given.heard("n2", report, 9.999)})
    told = agreement.heard(state, at(10), POLICY)
    after = taking.taken_at_peer(one, told, at(10), POLICY)
    assert (after.status is Status.ACKNOWLEDGED) is waited


@pytest.mark.parametrize(
    ("ours", "theirs", "moved", "waits"),
    [
        (Status.OPEN, "open", True, True),
        (Status.OPEN, "open", False, False),
        (Status.OPEN, "acknowledged", True, False),
        (Status.OPEN, "resolved", True, False),
        (Status.ACKNOWLEDGED, "open", True, False),
    ],
)
def test_what_a_peer_keeps_open_for_a_person_is_not_ended_here(
    ours, theirs, moved, waits
):
    one = given.incident(
        given.verdict(VerdictCode.NO_PRIMARY, Family.PRIMARY), status=ours
    )
    brief = IncidentBrief(one.id, one.key, 1, theirs, "no-primary", 0.0, moved=moved)
    report = given.report("n2", incidents=(brief,))
    state = given.state(reports={"n2": given.heard("n2", report, 9.999)})
    told = agreement.heard(state, at(10), POLICY)
    assert taking.awaited_at_peer(one, told) is waits


@pytest.mark.parametrize(
    ("codes", "of", "covered"),
    [
        ((SUSPECTED, SPLIT), taken(SPLIT, second=0.0), True),
        # Taken there at a lesser stage: before, or after, the graver one began here.
        ((SUSPECTED, SPLIT), taken(SUSPECTED, second=0.9), False),
        ((SUSPECTED, SPLIT), taken(SUSPECTED, second=1.0), True),
        ((SPLIT, SPLIT), taken(SUSPECTED, second=0.0), True),
        ((SUSPECTED, SPLIT), taken(SPLIT, Severity.WARNING), False),
    ],
)
def test_it_covers_stages_no_graver_or_begun_before(codes, of, covered):
    after = heard(known(*codes), of=of)
    assert (after.status is Status.ACKNOWLEDGED) is covered


@pytest.mark.parametrize(
    ("verdict", "covered"),
    [
        ("split-brain", True),
        ("lineage-diverged", True),
        ("split-brain-suspected", False),
    ],
)
def test_of_an_older_peer_its_present_stage_counts(verdict, covered):
    after = heard(known(DIVERGED), verdict=verdict)
    assert (after.status is Status.ACKNOWLEDGED) is covered


def test_what_is_taken_here_is_not_taken_once_more():
    one = taking.acknowledged(known(SPLIT), "ann", at(9), POLICY)
    assert heard(one, of=taken()) is one
