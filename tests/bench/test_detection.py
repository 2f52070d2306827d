"""How soon a trouble is an open incident, with three agents that have all defaults.

Each figure is the slowest of several. A trouble begins when the machine is killed, or
when the server that is promoted has written its history file, which is just before it
takes writes; it is told when the first agent has opened the incident.
"""

import time
from collections.abc import Iterator

import pytest

from agent.lab.handle import find
from agent.lab.sights import agents_trouble
from agent.lab.stage import Stage, flip_at
from tests.bench.benchlab import agent_of, folder, splitguard_lab
from tests.bench.table import Table

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(900)]

TOLD_S = 60.0
HEALTHY_S = 180.0
ROUND = "probe round"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A lab of three nodes that is healthy."""
    with folder() as state_dir:
        splitguard_lab("up", "--detach", "--state-dir", state_dir, "-o", "json")
        yield Stage(find(state_dir), lambda _: None)


def until_told(stage: Stage, verdict: str, since_s: float) -> float:
    """Return when the first agent had an incident of this verdict open."""

    def first() -> float | None:
        flips = (flip_at(telling, since_s, verdict) for telling in stage.incidents())
        return min((at for at in flips if at is not None), default=None)

    return stage.until(f"an agent to say {verdict}", TOLD_S, first)


def until_healthy(stage: Stage) -> None:
    """Take what waits for a person, until every agent calls the cluster healthy."""

    def healthy() -> bool | None:
        for telling in stage.incidents():
            if telling.detail["sticky"] and telling.detail["status"] == "open":
                stage.acknowledge(telling)
        return None if agents_trouble(stage.plan) else True

    if stage.may(HEALTHY_S, healthy) is None:
        pytest.fail(f"not healthy: {agents_trouble(stage.plan)}")


def primary(stage: Stage) -> str | None:
    active = [one.name for one in stage.standings().values() if one.active]
    return active[0] if len(active) == 1 else None


def promoted_at(stage: Stage, node: str) -> float:
    """Return when the server there wrote the history of its latest timeline."""
    wal = stage.plan.layout.node(node).data_dir / "pg_wal"
    return max(path.stat().st_mtime for path in wal.glob("*.history"))


def killed(stage: Stage, node: str) -> float:
    stage.lab.ask("kill", node=node)
    return time.time()


def add(found: Table, stage: Stage, what: str, spans: list[float], goal: float) -> None:
    round_s = agent_of(stage.plan, stage.plan.nodes[0].name).round_s
    name = f"{what}, slowest of {len(spans)}"
    found.at_size(name, max(spans), goal, (round_s, ROUND))


def test_a_dead_node(found: Table, stage: Stage):
    spans = []
    for node in ("n2", "n3", "n2"):
        began_s = killed(stage, node)
        spans.append(until_told(stage, "node-down", began_s) - began_s)
        stage.lab.ask("start", node=node)
        until_healthy(stage)
    add(found, stage, "node killed to open incident", spans, 4)


def test_a_promotion(found: Table, stage: Stage):
    spans = []
    for _ in range(3):
        old = stage.until("one primary", TOLD_S, lambda: primary(stage))
        began_s = killed(stage, old)

        def moved(old: str = old) -> str | None:
            now = primary(stage)
            return now if now != old else None

        new = stage.until("another primary", TOLD_S, moved)
        told_s = until_told(stage, "failover", began_s)
        spans.append(told_s - promoted_at(stage, new))
        stage.lab.ask("start", node=old)
        until_healthy(stage)
    add(found, stage, "promotion to `failover` open", spans, 2)


def test_two_primaries(found: Table, stage: Stage):
    """A standby is promoted beside a primary that everybody sees."""
    spans = []
    for _ in range(3):
        old = stage.until("one primary", TOLD_S, lambda: primary(stage))
        names = [node.name for node in stage.plan.nodes]
        new = next(name for name in names if name != old)
        began_s = time.time()
        stage.lab.ask("promote", node=new)
        told_s = until_told(stage, "split-brain", began_s)
        spans.append(told_s - promoted_at(stage, new))
        until_healthy(stage)
    add(found, stage, "two primaries visible to proven", spans, 3)
