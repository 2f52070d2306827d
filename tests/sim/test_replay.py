"""Whatever happens to an agent, its field journal gives the same verdicts again.

The daemon's recorder listens to one agent of a played seed; what it has written is
exported, read back from a file and judged again, as `splitguard replay` does.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.rerun import Rerun
from agent.core import machine
from agent.core.event import Event
from agent.core.machine import Step
from agent.core.moment import Moment
from agent.core.state import State
from agent.daemon.recorder import Recorder
from agent.store.field import FieldJournal
from agent.store.memory import MemoryJournal
from tests.sim.harness import Agent, Watcher
from tests.sim.play import Play

HOURS = 0.03
FLUSH = 150
"""Notes between two writings, as many as some ten seconds bring."""


class Clock:
    """Only dates the export."""

    def moment(self) -> Moment:
        return Moment(0.0, 1_800_000_000.0)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


async def _here(call: Callable[[], object]) -> object:
    return call()


class Listening(Watcher):
    """Records what one agent is told, from boot to boot."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.rounds = MemoryJournal()
        self.noted = self.refused = 0
        self.booted(agent)

    def booted(self, agent: Agent) -> None:
        if agent.name == self.agent.name:
            self.recorder = Recorder(agent.policy, self.rounds, Clock(), _here)

    def stepped(self, agent: Agent, event: Event, before: State, made: Step) -> None:
        if agent.name != self.agent.name:
            return
        plain = machine.step(before, event, agent.policy).state
        committed = plain == made.state
        self.noted += 1
        self.refused += not committed
        self.recorder.note(event, before, made.state, committed=committed)
        if self.noted % FLUSH == 0:
            self.flush()

    def flush(self) -> None:
        asyncio.run(self.recorder.freshen())

    def export(self, path: Path) -> None:
        self.flush()
        path.write_bytes(b"".join(self.recorder.export(None)))


@pytest.mark.parametrize("_", range(2))
def test_a_played_seed_is_judged_again_to_the_same_end(_, tmp_path, monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 45.0)
    seed = random.SystemRandom().randrange(10**9)
    play = Play(seed)
    play.recorded = False
    listening = Listening(random.Random(seed).choice([*play.sim.agents.values()]))
    play.sim.watchers.append(listening)
    play.play(HOURS)
    path = tmp_path / "field.jsonl"
    listening.export(path)
    rerun = Rerun()
    rerun.run(FieldJournal(path))
    assert not rerun.differences, (seed, listening.agent.name, rerun.differences[0])
    # What waited to be written when the agent was killed is lost, and nothing else.
    assert 0 < rerun.events <= listening.noted
    assert rerun.turns
