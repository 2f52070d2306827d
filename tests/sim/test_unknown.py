"""Who goes away is missed, and for no moment does anybody say that all is unknown."""

from collections.abc import Callable
from functools import partial

import pytest

from agent.core.event import Event
from agent.core.machine import Step
from agent.core.state import State
from tests.sim.harness import Agent, Simulation, Watcher

OFFSETS = [0.0, 0.13, 0.55, 0.97]
"""Seconds into a round: agents ask one after the other, so each sees another order."""


class Unknowns(Watcher):
    """Notes each step after which an agent says `unknown`, and about what."""

    def __init__(self, about: str) -> None:
        self.about = about
        self.said: set[tuple[str, str]] = set()

    def stepped(self, agent: Agent, event: Event, before: State, made: Step) -> None:
        for verdict in made.state.view.verdicts:
            if verdict.code.value == "unknown" and agent.name != self.about:
                self.said.add((agent.name, repr(dict(verdict.evidence))))


def powered_off(sim: Simulation, name: str) -> None:
    sim.world.kill(name)


def cut_off(sim: Simulation, name: str) -> None:
    sim.world.cut_off(name)


def without_agent(sim: Simulation, name: str) -> None:
    sim.crash(name)


def without_server(sim: Simulation, name: str) -> None:
    sim.world.servers[name].running = False


def _says(sim: Simulation, verdict: str) -> bool:
    return verdict in sim.codes("n2")


@pytest.mark.parametrize("managers", [False, True])
@pytest.mark.parametrize("name", ["n1", "n3"])
@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (powered_off, "node-down"),
        (cut_off, "node-down"),
        (without_agent, "agent-down"),
        (without_server, "postgres-down"),
    ],
)
def test_who_goes_away_leaves_no_moment_of_unknown(
    fault: Callable[[Simulation, str], None], verdict: str, name: str, managers: bool
):
    for offset_s in OFFSETS:
        sim = Simulation(managers=managers)
        sim.run(8 + offset_s)
        watcher = Unknowns(name)
        sim.watchers.append(watcher)
        fault(sim, name)
        sim.until(partial(_says, sim, verdict), 10)
        sim.run(3)
        assert watcher.said == set()
