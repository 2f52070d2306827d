"""One run of chaos: what a seed draws, and how it is played on a real cluster.

Theory of operation. A seed decides everything that can be decided beforehand: which
fault parts the cluster, how much is written, what else goes on while two sides take
writes, whether and when the loser's agent dies. The rest (when a lock expires, who is
promoted) is the cluster's. Every fourth seed runs without shim and agents: what is lost
there shows that the faults are worth something.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.ledger import Count
from tests.system.node import Node

STORIES: dict[str, Callable[[Cluster, int], stories.Split]] = {
    "frozen": stories.frozen,
    "cut off": stories.cut_off,
    "deaf": stories.deaf,
    "killed": stories.killed,
    "minority wins": stories.minority,
}
BULK = "INSERT INTO bulk SELECT repeat('y', 500) FROM generate_series(1, {})"
NOISE = {
    "nothing": (),
    "checkpoint": ("CHECKPOINT",),
    "switch of WAL": ("SELECT pg_switch_wal()",),
    "much WAL": (BULK.format(60000),),
    "WAL and checkpoints": (BULK.format(40000), "CHECKPOINT", BULK.format(40000)),
    "vacuum": ("DELETE FROM bulk", "VACUUM bulk", "VACUUM kept"),
}
AGENT_DIES = ("never", "never", "before", "during", "after")


@dataclass(frozen=True)
class Draw:
    """What a seed decides."""

    seed: int
    guarded: bool
    story: str
    rows: int
    noise_before: str
    noise_on_loser: str
    noise_on_winner: str
    agent_dies: str
    hold_rows: int
    """How many more rows the loser takes, where it still does, before the heal."""

    @classmethod
    def of(cls, seed: int) -> "Draw":
        rng = random.Random(seed)
        story = rng.choice(list(STORIES))
        return cls(
            seed=seed,
            guarded=seed % 4 != 3,
            story="minority wins" if seed % 4 == 0 else story,
            rows=rng.randint(20, 200),
            noise_before=rng.choice(list(NOISE)),
            noise_on_loser=rng.choice(list(NOISE)),
            noise_on_winner=rng.choice(list(NOISE)),
            agent_dies=rng.choice(AGENT_DIES),
            hold_rows=rng.randint(0, 300),
        )

    def __str__(self) -> str:
        guard = f"agent dies {self.agent_dies}" if self.guarded else "NO GUARD"
        return (
            f"{self.story}, {self.rows} rows, before: {self.noise_before}, loser: "
            f"{self.noise_on_loser}, winner: {self.noise_on_winner}, {guard}"
        )


@dataclass
class Played:
    """A run and what it came to."""

    draw: Draw
    counted: Count | None = None
    snapshots: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        counted = self.counted or "did not end"
        return f"SEED={self.draw.seed}: {counted} ({self.draw})"


def make_noise(node: Node, name: str) -> None:
    """Run what may move or recycle WAL on a node that accepts writes."""
    if node.writable():
        for statement in NOISE[name]:
            node.query(statement)


def play(cluster: Cluster, draw: Draw) -> Count:
    """Play a run to its end, and count."""
    first = cluster.primary()
    first.query("CREATE TABLE bulk (content text)")
    make_noise(first, draw.noise_before)
    if draw.agent_dies == "before" and draw.guarded:
        first.agent.kill()
    split = STORIES[draw.story](cluster, draw.rows)
    make_noise(split.loser, draw.noise_on_loser)
    make_noise(split.winner, draw.noise_on_winner)
    if draw.agent_dies == "during" and draw.guarded:
        split.loser.agent.kill()
    for client in cluster.clients:
        if client.box is split.loser.box and split.loser.writable():
            client.until(draw.hold_rows)
    stories.recover(cluster, split)
    if draw.guarded:
        revive(cluster, split.loser, draw)
    stories.until_all_follow(cluster, split)
    cluster.stop_clients()
    return cluster.count(split.winner)


def revive(cluster: Cluster, loser: Node, draw: Draw) -> None:
    """Start the loser's agent again, wherever the draw has it die."""
    if draw.agent_dies == "after":
        loser.agent.kill()
    if not loser.agent.running:
        cluster.start_agent(loser.name)
