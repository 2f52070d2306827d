"""Who was kept in a split that is over: who says so, and how it is told then."""

from dataclasses import replace

import pytest

from agent.core.incident import Incident
from agent.core.loss import Loss
from agent.core.lsn import Lsn
from agent.core.scene import build
from agent.core.settling import KEPT, kept_in, noted, settled
from agent.core.state import State
from agent.core.verdict import VerdictCode
from tests.core import given
from tests.core.test_view import fold, seen_by_all


def split(code: VerdictCode = VerdictCode.SPLIT_BRAIN, **evidence) -> Incident:
    said = replace(given.verdict(code), evidence=evidence)
    return replace(given.incident(said), sides=("n1", "n2"))


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        (VerdictCode.SPLIT_BRAIN, None),
        (VerdictCode.LINEAGE_DIVERGED, "n2"),
        (VerdictCode.LINEAGE_TWIN, "n2"),
    ],
)
def test_only_beside_a_single_primary_the_winner_is_no_prediction(code, kept):
    incident = split(code, winner="n2")
    assert kept_in(incident, (incident,)) == kept


def test_who_was_seen_to_be_kept_counts_before_who_was_named_a_winner():
    incident = split(VerdictCode.LINEAGE_DIVERGED, winner="n1", kept="n2")
    assert kept_in(incident, ()) == "n2"


def test_whom_the_loss_was_compared_with_was_kept():
    read = Loss("n1-1", "n1", "3 rows", 1, 3, Lsn(0x2000))
    incident = replace(split(), losses=(read,))
    assert kept_in(incident, ()) is None
    compared = replace(read, snapshot="n1-2", winner="n2")
    assert kept_in(replace(incident, losses=(read, compared)), ()) == "n2"


def test_a_node_that_was_no_side_was_not_kept():
    assert kept_in(split(kept="n3"), ()) is None


def test_once_it_is_known_the_prediction_and_what_it_followed_from_are_told_no_more():
    predicted = split(
        tips="n1,n2",
        winner="n1",
        losers="n2",
        winner_rule="pinned",
        winner_otherwise="n2",
    )
    told = settled(predicted, "n2").verdict
    assert told.evidence == {
        "tips": "n1,n2",
        "winner": "n2",
        "losers": "n1",
        "kept": "n2",
    }
    assert replace(told, evidence=predicted.verdict.evidence) == predicted.verdict


@pytest.mark.parametrize("name", ["", 7])
def test_what_is_no_name_says_nothing_of_who_was_kept(name):
    compared = Loss("n1-1", "n1", "3 rows", 1, 3, Lsn(0x2000), winner="n2")
    incident = split(VerdictCode.LINEAGE_DIVERGED, winner=name)
    assert kept_in(replace(incident, losses=(compared,)), ()) == "n2"


def test_only_a_split_without_a_known_end_is_noted_with_who_is_left():
    state = fold(State(), *seen_by_all(10, n1=given.sight()))
    scene = build(state, given.at(10.5), given.policy())
    assert noted(split(), scene).verdict.evidence == {KEPT: "n1"}
    known, diverged = split(kept="n2"), split(VerdictCode.LINEAGE_DIVERGED)
    assert noted(known, scene) is known
    assert noted(diverged, scene) is diverged
