"""A soak is green only where all that can occur did, and nothing was found."""

from collections import Counter

import pytest

from tests.sim import soak
from tests.sim.checkers import Score
from tests.sim.play import Outcome

KINDS = tuple(soak.Rough(0).faults.kinds)


def cluster(**score: object) -> Outcome:
    """A cluster in which everything occurred."""
    codes = Counter(soak.EXPECTED)
    found = Score(verdicts=codes, **score)  # type: ignore[arg-type]
    return Outcome(7, rounds=100, faults=Counter(KINDS), score=found)


def test_a_run_in_which_all_occurred_and_nothing_was_found_is_green(capsys):
    assert soak.show([cluster()], 1.0)
    assert "never occurred: nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "found",
    [
        {"broken": ["one trouble under two ids"]},
        {"words": ["false stale-primary at 1.00 s: n1"]},
        {"words": ["missed node-down at 1.00 s: n1"]},
    ],
)
def test_a_run_in_which_anything_was_found_is_red(found):
    assert not soak.show([cluster(), cluster(**found)], 1.0)


def test_a_cluster_that_an_oracle_ended_is_red(capsys):
    red = cluster()
    red.oracle, red.words = "what_is_over", "what_is_over: again"
    assert not soak.show([red], 1.0)
    assert "red: seed 7: what_is_over: again" in capsys.readouterr().out


@pytest.mark.parametrize("gone", [KINDS[3], soak.EXPECTED[2]])
def test_a_run_in_which_something_never_occurred_is_red(gone, capsys):
    one = cluster()
    del one.faults[gone], one.score.verdicts[gone]
    assert not soak.show([one], 1.0)
    assert f"never occurred: {gone}" in capsys.readouterr().out
