"""An agent killed at any moment of a split brain changes neither its end nor its names.

At each named crash point, and at twenty drawn moments, the agent beside the losing
server dies while two sides take writes, meet, and one is resynced. Every acknowledged
write must still be in the winner or in a snapshot, and the incidents must have the ids
that they have when nobody dies: ids are hashes of the cluster's system id, which is a
new one for each lab, so they are computed here from what the undisturbed play told.
"""

import hashlib
import random

import pytest

from agent.daemon.crash import POINTS
from tests.crash.plays import BEGINS, HEALS, UNDISTURBED, Case, Draw, Played, Theatre

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(900)]

SEEDS = range(2026112201, 2026112221)


def drawn(seed: int) -> Case:
    """A kill somewhere in the story; every second one between heal and resync."""
    begins = (BEGINS, HEALS)[seed % 2]
    return Case(str(seed), draw=Draw(seed, begins, random.Random(seed).random()))


CASES = [
    *(Case(point, point=point) for point in POINTS),
    *(drawn(seed) for seed in SEEDS),
]


def names(played: Played) -> set[tuple[str, str, int]]:
    """Family, subject and occurrence of the incidents that a split brain makes."""
    return {
        (one["family"], one["subject"], one["occurrence"])
        for one in played.told["incidents"]
        if one["family"] == "split"
        or (one["family"] == "self" and one["worst"] == "critical")
    }


def incident_id(played: Played, family: str, subject: str, occurrence: int) -> str:
    """The id that every agent must derive; the fork left timeline 1."""
    parent = "1" if family == "split" else ""
    key = f"{played.system_id}/{family}/{subject}/{parent}#{occurrence}"
    return f"inc-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def assert_ends_well(played: Played) -> None:
    """Nothing is lost, although the resync took more than a hundred writes."""
    assert played.code == 0, played.why()
    assert played.told["writes"]["lost"] == 0, played.why()
    assert played.told["without_splitguard"]["lost"] >= 100
    # Of two standbys the one is promoted that had received more when the link was cut.
    assert played.told["winner"] in ("n2", "n3")


def assert_names(played: Played, expected: set[tuple[str, str, int]]) -> None:
    """The incidents are those expected, under the ids that all must derive."""
    assert names(played) == expected, played.why()
    told = {
        (one["family"], one["subject"], one["occurrence"]): one["id"]
        for one in played.told["incidents"]
    }
    for name in expected:
        assert told[name] == incident_id(played, *name), played.why()
    split = next(one for one in played.told["incidents"] if one["family"] == "split")
    assert sorted(split["agents"]) == ["n1", "n2", "n3"]
    pages = {
        notice["webhook_id"]
        for notice in played.told["notices"]
        if notice["incident"] == split["id"] and notice["type"].endswith(".opened")
    }
    assert len(pages) == 1, played.why()


def test_undisturbed_one_split_and_one_isolation_are_told(theatre: Theatre):
    played = theatre.result(UNDISTURBED.name)
    assert_ends_well(played)
    assert_names(played, {("split", "cluster", 1), ("self", "n1", 1)})
    assert len(played.agents) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_crash_changes_neither_the_end_nor_the_names(theatre: Theatre, case: Case):
    played = theatre.result(case.name)
    assert played.died_s is not None, f"the agent did not die: {played.why()}"
    assert len(played.agents) > 1, f"it was not started again: {played.why()}"
    assert_ends_well(played)
    assert_names(played, names(theatre.result(UNDISTURBED.name)))
