"""What stands still is on record with all who could see it, or somebody is blamed.

Theory of operation. Each trouble is made by hand in a small world in which nobody
mends it, and is looked at for long: by the core as it is, and by one that is blind to
such things.
"""

from collections.abc import Callable

import pytest

from agent.core import rules_primary, rules_reach
from tests.sim.checkers import COURT_S, Oracles, ViolatedError
from tests.sim.harness import Simulation
from tests.sim.outages import Outages
from tests.sim.plants import Plant
from tests.sim.truth import Truth

LONG_S = int(3 * COURT_S)
NO_CHANNEL = Plant("", "", ((rules_reach, "_channel_down"),), lambda _: nobody)
NO_PRIMARY = Plant(
    "", "", ((rules_primary, "known_not_writable"),), lambda _: lambda *_: False
)


def nobody(*_: object) -> None:
    """Find nothing, whatever is asked."""


def a_server_stops(sim: Simulation) -> None:
    sim.world.stop("n2")


def an_agent_stops(sim: Simulation) -> None:
    sim.crash("n2")


def the_primary_stops(sim: Simulation) -> None:
    sim.world.stop("n1")


def the_primary_is_off(sim: Simulation) -> None:
    sim.crash("n1")
    sim.world.crash("n1")


def looked(trouble: Callable[[Simulation], None]) -> Simulation:
    """A world in which this happened, looked at for long."""
    sim = Simulation()
    truth = Truth(sim)
    outages = Outages(Oracles(sim, truth))
    for second in range(2 * LONG_S):
        if second == LONG_S:
            trouble(sim)
        for _ in range(4):
            truth.look()
            sim.run(0.25)
        outages.look()
    return sim


@pytest.mark.parametrize(
    ("trouble", "verdict"),
    [
        (a_server_stops, "postgres-down"),
        (an_agent_stops, "agent-down"),
        (the_primary_stops, "no-primary"),
        (the_primary_is_off, "no-primary"),
    ],
)
def test_what_stands_still_is_told_by_all_in_time(trouble, verdict):
    sim = looked(trouble)
    assert verdict in sim.codes("n3")
    assert verdict in {one.verdict.code.value for one in sim.incidents("n3")}


@pytest.mark.parametrize(
    ("trouble", "blind", "words"),
    [
        (a_server_stops, NO_CHANNEL, "n1 does not say that PostgreSQL of n2 is down"),
        (an_agent_stops, NO_CHANNEL, "n1 does not say that the agent of n2 is down"),
        (the_primary_stops, NO_PRIMARY, "does not say that nobody accepts writes"),
        (the_primary_is_off, NO_PRIMARY, "does not say that nobody accepts writes"),
    ],
)
def test_who_says_nothing_of_it_is_blamed(trouble, blind, words):
    with blind.planted(), pytest.raises(ViolatedError, match=words):
        looked(trouble)


def test_a_side_that_a_split_has_stopped_is_on_record_with_that():
    def split(sim: Simulation) -> None:
        sim.world.promote("n2")
        sim.run(5)
        sim.world.stop("n1")

    sim = looked(split)
    assert "postgres-down" not in sim.codes("n3")
