"""Drawn histories on both sides of a fork: what the client knows, and what is said.

The client's own log of statements and acknowledgements is the oracle
(tests/histories); `make histories` plays more seeds than one.
"""

import pytest

from tests.histories.checks import disagreement
from tests.histories.history import COUNTED, LEAST, play

pytestmark = pytest.mark.postgres
SEED = 4


def test_the_client_knows_what_both_servers_hold_and_has_enough_of_each_kind(stage):
    played = play(stage, SEED)
    assert not disagreement(played.loser)
    assert not disagreement(played.winner)
    assert all(played.counts()[kind] >= LEAST for kind in COUNTED), played.counts()
