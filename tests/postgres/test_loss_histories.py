"""Drawn histories on both sides of a fork: what is reported is what their client knows.

The client's own log of statements and acknowledgements is the oracle (tests/histories).
It is held against the servers first. `make histories` plays more seeds than this one.
"""

import pytest

from tests.histories.checks import disagreement
from tests.histories.history import COUNTED, LEAST, play
from tests.histories.product import first_problem

pytestmark = pytest.mark.postgres
SEED = 36


def test_of_a_drawn_history_all_rows_are_reported_and_no_other(stage):
    played = play(stage, SEED)
    assert not disagreement(played.loser), "the oracle is wrong"
    assert not disagreement(played.winner), "the oracle is wrong"
    assert all(played.counts()[kind] >= LEAST for kind in COUNTED), played.counts()
    problem = first_problem(stage, played)
    assert not problem, f"seed {SEED}, {problem}"
