"""What a prediction says besides the node: its rule, its pin, who else it might be."""

from dataclasses import replace

import pytest

from agent.core import prediction
from agent.core.incident import Status
from agent.core.observation import Channel, Observation, Outcome
from agent.core.plan import Pin
from agent.core.policy import WinnerRule
from agent.core.prediction import Prediction, candidates, decided, winner
from agent.core.state import Ledger, SplitProof, State
from agent.core.verdict import Family
from tests.core import given
from tests.core.given import at
from tests.core.test_view import fold

POLICY = given.policy("n1")


def pin(node, revision=1, who="ann"):
    return Pin(node, who, "orders", revision, at(0).wall_s)


def writing(*nodes, pins=(), **sights):
    seen = (given.postgres(n, given.sight(**sights.get(n, {})), 1) for n in nodes)
    state = fold(State(), *seen)
    return replace(state, ledger=Ledger(pins=pins))


def proven(state, proven_s=2.0):
    proof = SplitProof("n1", "n2", "overlapping intervals", proven_s, {})
    return replace(state, view=replace(state.view, proofs=(proof,)))


def test_a_pin_of_one_of_several_sides_counts_and_the_other_is_told():
    mine = pin("n1")
    state = writing("n1", "n2", pins=(mine,), n2={"timeline": 2})
    assert winner(state, POLICY) == Prediction(
        "n1", "pinned", "pinned by ann because orders", mine, "n2"
    )
    assert decided(state, winner(state, POLICY)) == {
        "pinned_by": "ann",
        "pinned_because": "orders",
        "winner_otherwise": "n2",
    }


def test_a_pin_counts_for_a_proven_side_that_nobody_has_read_since():
    mine = pin("n2")
    state = proven(writing("n1", pins=(mine,)))
    found = winner(state, POLICY)
    assert (found.node, found.rule, found.otherwise) == ("n2", "pinned", None)


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_a_pin_of_the_only_side_or_of_no_side_changes_nothing(node):
    state = writing("n1", pins=(pin(node),))
    found = winner(state, POLICY)
    assert (found.node, found.rule, found.pin) == ("n1", "only", None)
    assert decided(state, found) == {}


def test_decisions_that_exclude_each_other_are_told_and_none_counts():
    pins = (pin("n1"), pin("n2", who="bob"), pin(None, who="eve"))
    state = writing("n1", "n2", pins=pins)
    found = winner(state, POLICY)
    assert (found.rule, found.pin) == ("highest-timeline", None)
    assert decided(state, found) == {"pins_disputed": "ann: n1; bob: n2; eve: no pin"}


def test_nobody_writable_is_nobody_known():
    found = winner(State(), POLICY)
    assert (found.node, found.rule, found.pin, found.otherwise) == (
        None,
        "none",
        None,
        None,
    )
    assert found.reason == "no node is known to accept writes"


def test_an_unread_rival_leaves_the_question_open():
    found = winner(proven(writing("n1")), POLICY)
    assert (found.node, found.rule) == (None, "none")
    assert found.reason == "n2 accepted writes too, and was not read since"


@pytest.mark.parametrize(("proven_s", "node"), [(1.001, "n1"), (1.002, None)])
def test_a_rival_read_at_the_instant_of_the_proof_is_read(proven_s, node):
    state = writing("n1", "n2", n2={"in_recovery": True})
    assert winner(proven(state, proven_s), POLICY).node == node


@pytest.mark.parametrize(
    ("evidence", "kept"),
    [
        ({"winner": "n1", "winner_rule": "highest-timeline"}, "n1"),
        (
            {"winner": "n1", "winner_rule": "pinned", "winner_otherwise": "n2"},
            "n2",
        ),
        ({"winner": "n1", "winner_rule": "pinned", "winner_otherwise": None}, "n3"),
    ],
)
def test_the_first_prediction_and_no_later_pin_is_what_is_frozen(evidence, kept):
    verdict = replace(given.verdict(), evidence=evidence)
    reach = replace(given.verdict(), family=Family.REACH, evidence={"winner": "x"})
    old = given.incident(replace(verdict, evidence={"winner": "x"}), Status.RESOLVED)
    ledger = Ledger(incidents=(old, given.incident(reach), given.incident(verdict)))
    state = replace(writing("n1", "n2", "n3", n3={"timeline": 3}), ledger=ledger)
    found = winner(state, POLICY)
    rule = "highest-timeline" if kept == "n3" else "frozen"
    assert (found.node, found.rule) == (kept, rule)


def test_the_newest_commit_is_nobodys_to_tell_unless_one_is_alone():
    policy = replace(POLICY, winner_rule=WinnerRule.NEWEST_COMMIT)
    assert winner(writing("n1"), policy).node == "n1"
    found = winner(writing("n1", "n2"), policy)
    assert (found.node, found.rule) == (None, "newest-commit")


def test_what_was_read_last_counts_even_when_nobody_answers_now():
    silent = Observation("n2", Channel.POSTGRES, Outcome.TIMED_OUT, "", 5.0, 5.8)
    state = fold(writing("n1", "n2"), silent)
    assert list(candidates(state, POLICY)) == ["n1", "n2"]


def test_the_local_disk_and_a_peer_s_report_say_who_is_stopped():
    stopped = given.facts(running=False)
    peer = given.heard("n2", given.report("n2", server=stopped), 2)
    state = fold(writing("n1", "n2", "n3"), peer)
    assert list(candidates(state, POLICY)) == ["n1", "n3"]
    state = replace(state, view=replace(state.view, server=stopped))
    assert list(candidates(state, POLICY)) == ["n3"]
    assert prediction.PINNED == "pinned"
