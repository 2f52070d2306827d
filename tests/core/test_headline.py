"""Which trouble is named first while not all is seen."""

from dataclasses import replace

import pytest

from agent.core.headline import unsettled
from agent.core.incident import Flip, Status
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given

SPLIT = given.incident()
UNKNOWN = given.verdict(VerdictCode.UNKNOWN, Family.OTHER, severity=Severity.UNKNOWN)
HEALTHY = given.verdict(VerdictCode.HEALTHY, Family.OTHER, severity=Severity.OK)
SUSPECT = given.verdict(VerdictCode.NODE_SUSPECT, Family.REACH, "n3", Severity.WARNING)
ALONE = given.verdict(
    VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1", Severity.WARNING
)
DOWN = given.incident(given.verdict(VerdictCode.NODE_DOWN, Family.REACH, "n2"))


def first(*verdicts, incidents=(SPLIT,)):
    return unsettled(given.state(verdicts=verdicts, incidents=incidents))


@pytest.mark.parametrize("verdicts", [(UNKNOWN,), (), (SUSPECT,), (HEALTHY,)])
def test_a_critical_incident_of_which_nobody_can_say_that_it_is_over_goes_first(
    verdicts,
):
    assert first(*verdicts) == SPLIT
    taken = replace(SPLIT, status=Status.ACKNOWLEDGED)
    assert first(*verdicts, incidents=(taken,)) == taken


def test_while_it_clears_it_goes_before_the_unknown_only():
    clearing = replace(SPLIT, clear_since_s=1.0)
    assert first(UNKNOWN, incidents=(clearing,)) == clearing
    assert first(HEALTHY, incidents=(clearing,)) is None
    assert first(SUSPECT, incidents=(clearing,)) is None


def test_what_is_seen_to_be_critical_goes_first():
    assert first(given.verdict(VerdictCode.NODE_DOWN, Family.REACH, "n2")) is None


def test_who_is_cut_off_says_that_and_accuses_nobody():
    assert first(ALONE, incidents=(DOWN,)) is None


def test_what_is_over_and_waits_for_a_person_is_no_headline():
    moved = given.verdict(VerdictCode.FAILOVER, Family.PRIMARY)
    waiting = given.incident(replace(moved, sticky=True))
    assert first(UNKNOWN, incidents=(waiting,)) is None
    for status in (Status.PENDING, Status.RESOLVED):
        assert first(UNKNOWN, incidents=(replace(SPLIT, status=status),)) is None
    milder = replace(SPLIT, verdict=replace(SPLIT.verdict, severity=Severity.WARNING))
    assert first(UNKNOWN, incidents=(milder,)) is None


def test_a_failover_that_was_more_for_a_while_is_no_headline_when_that_is_over():
    moved = Flip(1.0, Status.OPEN, "failover", 401, "the primary moved")
    waiting = given.incident(given.verdict(VerdictCode.NO_PRIMARY, Family.PRIMARY))
    assert first(HEALTHY, incidents=(waiting,)) == waiting
    waiting = replace(waiting, history=(moved,))
    assert first(HEALTHY, incidents=(waiting,)) is None
    assert first(UNKNOWN, incidents=(waiting,)) == waiting


def test_of_several_the_family_that_people_want_to_read_first_goes_first():
    assert first(UNKNOWN, incidents=(DOWN, SPLIT)) == SPLIT
