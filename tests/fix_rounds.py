"""A small cluster whose agent on n1 records what it sees, as the daemon lets it.

The real core runs in the world of tests/core/cluster.py; the real Recorder notes every
event of one agent and writes it to a journal. Nothing of ours is replaced.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core import replay
from agent.core.event import Event
from agent.core.machine import step
from agent.core.moment import Moment
from agent.daemon.recorder import Recorder
from agent.ports import Rounds
from agent.store.memory import MemoryJournal
from tests.core.cluster import Agent, Cluster


class WorldClock:
    """The clock of the small world; nobody sleeps by it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def moment(self) -> Moment:
        return self._cluster.at("n1")

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the small world does not sleep")


async def _here(call: Callable[[], object]) -> object:
    return call()


class RecordingAgent(Agent):
    """An agent as the runtime has it: it steps, notes, and may have no journal."""

    recorder: Recorder
    journal_works = True

    def step(self, event: Event) -> None:
        before = self.state
        made = step(before, event, self.policy)
        kept = made if self.journal_works else replay.uncommitted(before, made)
        self.state = kept.state
        self.actions.extend(kept.actions)
        self.recorder.note(event, before, kept.state, committed=self.journal_works)


class RecordedCluster(Cluster):
    """A cluster whose agent on n1 records into `rounds`."""

    def __init__(self, rounds: Rounds | None = None, **policy) -> None:
        self.rounds = rounds or MemoryJournal()
        super().__init__(**policy)
        plain = self.agents["n1"]
        self.recording = RecordingAgent(plain.policy, plain.clock_s)
        self.agents["n1"] = self.recording
        self.start_agent("n1")

    def start_agent(self, name: str) -> None:
        agent = self.agents[name]
        if isinstance(agent, RecordingAgent):
            agent.recorder = Recorder(
                agent.policy, self.rounds, WorldClock(self), _here
            )
        super().start_agent(name)

    def flush(self) -> None:
        """Write what was noted."""
        asyncio.run(self.recording.recorder.freshen())

    def export(self, since_wall_s: float | None = None) -> bytes:
        """Return the field journal of n1."""
        self.flush()
        return b"".join(self.recording.recorder.export(since_wall_s))


def split_and_healed(cluster: RecordedCluster | None = None) -> RecordedCluster:
    """A split brain from the cut to the resync, as n1 saw it, written in parts."""
    cluster = cluster or RecordedCluster()
    cluster.run(5)
    cluster.flush()
    cluster.cut("n1")
    cluster.run(4)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    for name in ("n1", "n2"):
        cluster.servers[name].write(5)
    cluster.run(3)
    cluster.flush()
    cluster.heal()
    cluster.run(6)
    cluster.servers["n1"].up = False
    cluster.run(3)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(15)
    return cluster


@pytest.fixture
def field_journal(tmp_path: Path) -> Path:
    """The field journal of n1 over a split brain and its end."""
    path = tmp_path / "field.jsonl"
    path.write_bytes(split_and_healed().export())
    return path
