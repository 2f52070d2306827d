"""What is over under one number is not told under it again, whoever had held it."""

from dataclasses import replace

import pytest

from agent.core import incidents, spent
from agent.core.incident import incident_key
from agent.core.reporting import make_report
from agent.core.state import Knowledge, State
from tests.core import given
from tests.core.test_incidents import DOWN, PRIMARY
from tests.core.test_view import brief, fold, seen_by_all

KEY = incident_key(given.SYSTEM, "reach", "n3", "")


def told(seconds=1.0, **more):
    """A report of n2 that has come here."""
    return given.heard("n2", given.report("n2", **more), seconds)


def occurrences(known, *heard):
    """What is known to be over, after these reports, in its order."""
    return list(fold(given.state(occurrences=known), *heard).ledger.occurrences.items())


def test_who_never_held_a_trouble_that_is_over_hears_its_number_from_who_did_not():
    """n2 has heard of the number while n1 was cut off, and holds no incident of it."""
    over = given.state(occurrences={KEY: 1})
    report = make_report(over, given.at(1), given.policy(me="n2"))
    state = fold(State(), *seen_by_all(1, n1=given.sight()))
    state = fold(state, given.heard("n2", report, 2))
    state = replace(state, knowledge=Knowledge(primary=PRIMARY))
    ledger, _ = incidents.advance(
        state.ledger, (DOWN,), state, given.at(2.1), given.policy()
    )
    (incident,) = ledger.incidents
    assert (incident.key, incident.occurrence) == (KEY, 2)


def test_a_report_tells_of_the_numbers_that_were_raised_last():
    many = {str(number): 1 for number in range(spent.PASSED_ON + 1)}
    assert list(spent.passed_on(many)) == list(many)[1:]
    again = spent.raised(many, [("0", 2)])
    assert list(spent.passed_on(again)) == [*list(many)[2:], "0"]
    assert spent.passed_on({}) == {}


def test_the_highest_number_counts_whoever_tells_it_and_comes_last():
    known = {"a": 5, "b": 1, "c": 1}
    assert occurrences(known, told(spent={"a": 4, "b": 3})) == [
        ("a", 5), ("c", 1), ("b", 3),
    ]  # fmt: skip
    both = told(spent={"k": 2}, incidents=(brief(3),))
    assert occurrences({}, both) == [("k", 3)]
    assert occurrences({}, told(spent={"k": 4}, incidents=(brief(3),))) == [("k", 4)]


def test_what_was_known_before_leaves_the_ledger_as_it_was():
    state = given.state(occurrences={"a": 5})
    assert fold(state, told(spent={"a": 5, "b": 0})).ledger is state.ledger
    assert spent.raised(state.ledger.occurrences, []) is state.ledger.occurrences


@pytest.mark.parametrize(
    ("key", "number", "believed"),
    [
        ("k" * spent.KEY_MAX, spent.OCCURRENCE_MAX, True),
        ("k" * (spent.KEY_MAX + 1), 1, False),
        ("k", spent.OCCURRENCE_MAX + 1, False),
        ("k", 0, False),
        ("k", -1, False),
    ],
)
def test_what_names_no_trouble_and_counts_nothing_is_left_aside(key, number, believed):
    found = occurrences({}, told(spent={key: number}))
    assert found == ([(key, number)] if believed else [])


def test_without_room_for_further_keys_those_that_are_known_are_raised():
    almost = {str(number): 1 for number in range(spent.OCCURRENCES_MAX - 1)}
    found = dict(occurrences(almost, told(spent={"new": 1, "more": 1, "0": 2})))
    assert found == almost | {"new": 1, "0": 2}
    assert dict(occurrences(found, told(spent={"more": 1, "1": 3}))) == found | {"1": 3}
