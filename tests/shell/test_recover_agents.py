"""What a recovery has the agents do, through their own API: pin, capture, tell."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.cli.address import Address
from agent.cli.client import AgentClient, RefusedError
from agent.cli.recover_run import Door
from agent.daemon.clock import SystemClock
from agent.transport import HttpClient
from agent.vnfm.client import CreateOptions, ManagerClient
from agent.vnfm.records import Generation
from agent.vnfm.recovery.doors import AgentDoor
from agent.vnfm.recovery.finding import Finder
from agent.vnfm.recovery.hands import Hands, Means
from agent.vnfm.recovery.ports import Seen
from agent.vnfm.recovery.world import World, with_incidents
from agent.vnfm.shelf import Shelf
from tests.fix_desk import split_brain

NODES = ("n1", "n2", "n3")


@dataclass
class OnlyHere:
    """The agent of n1; implements doors.Doors."""

    door: Door

    @property
    def here(self) -> AgentDoor:
        return self.door

    def of(self, node: str) -> AgentDoor | None:
        return self.door if node == "n1" else None


@dataclass
class Bench:
    """Hands at a proven split, seen from n1; the managers are never asked."""

    home: Path
    client: AgentClient
    facts: dict[str, str] = field(default_factory=dict)

    async def _with_hands(self, work: Callable[[Hands], Any]) -> Seen:
        http = HttpClient(None)
        doors = OnlyHere(Door(self.client))
        means = Means(
            managers={
                name: ManagerClient(f"http://{name}.invalid", None, http, SystemClock())
                for name in NODES
            },
            doors=doors,
            finder=Finder(Shelf(self.home / "shelf"), doors, (), self.home),
            certificates=(),
            recipients=(),
            options=CreateOptions(),
            wait_s=5,
            me="n1",
            who="ann",
        )
        hands = Hands(means, Generation.ACTIVE_STANDBY, by_agents=True)
        try:
            seen: Seen = await work(hands)
        finally:
            await http.close()
        self.facts.update(seen.facts)
        return seen

    def do(self, act: str, **facts: str) -> Seen:
        known = {**self.facts, **facts}
        return asyncio.run(
            self._with_hands(lambda hands: hands.do(act, known, self.facts.update))
        )

    def check(self, act: str, **facts: str) -> Seen:
        known = {**self.facts, **facts}
        return asyncio.run(self._with_hands(lambda hands: hands.check(act, known)))


@pytest.fixture
def bench(tmp_path: Path, agent_for: Callable[..., Any]) -> Bench:
    agent = agent_for(split_brain())
    return Bench(tmp_path, AgentClient(Address("http://agent", agent.socket)))


def test_the_sides_of_a_split_are_what_the_agent_says(bench: Bench) -> None:
    seen = bench.check("sides")
    assert seen.ok
    assert {"n1", "n2"} <= set(bench.facts["tips"].split(","))
    assert bench.facts["incident"].startswith("inc-")
    assert bench.facts["losers"]


def test_who_is_chosen_is_pinned_with_name_and_reason(bench: Bench) -> None:
    bench.check("sides")
    seen = bench.do("winner", chosen="n1", reason="it has the orders of the night")
    assert seen.told == "n1 is pinned"
    pin = bench.client.get("/v1/winner")["pin"]
    assert pin["who"] == "ann"
    assert pin["reason"] == "it has the orders of the night"


def test_without_a_choice_nobody_is_pinned(bench: Bench) -> None:
    bench.check("sides")
    assert "nobody was pinned" in bench.do("winner").told
    assert bench.client.get("/v1/winner")["pin"] is None


def test_nobody_unknown_is_pinned(bench: Bench) -> None:
    with pytest.raises(RefusedError):
        bench.do("winner", chosen="n9", reason="x")


def test_a_capture_is_ordered_where_none_is_complete(bench: Bench) -> None:
    bench.check("sides")
    seen = bench.do("capture", node="n1")
    assert seen.ok
    assert "n1" in seen.told
    assert bench.client.get("/v1/snapshots")["snapshots"]


def test_who_takes_no_order_from_here_captures_by_itself(bench: Bench) -> None:
    bench.check("sides")
    assert "no agent of n2 is configured" in bench.do("capture", node="n2").told
    assert bench.do("capture", node="n2", lost="n2").told == "n2 is given up: --lost"


def test_what_cannot_be_reported_does_not_stop_a_recovery(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.vnfm.recovery.hands.REPORT_PAUSE_S", 0.0)
    seen = bench.do("loss", node="n1", snapshot_of_node="n1-none")
    assert seen.ok
    assert "no loss report of n1-none yet: " in seen.left
    assert "On the machine of n1: `splitguard loss report n1-none`" in seen.left
    assert "--token-file FILE" in seen.left
    far = bench.do("loss", node="n2", snapshot_of_node="n2-1")
    assert "no agent of n2 is configured" in far.left
    none = bench.do("loss", node="n1")
    assert "no snapshot of n1" in none.left
    given_up = bench.do("loss", node="n1", lost="n1")
    assert (given_up.undone, given_up.left) == (True, "")


def test_open_incidents_are_read_from_the_agent(bench: Bench) -> None:
    world = with_incidents(
        World(Generation.ACTIVE_STANDBY, ()), bench.client.get("/v1/incidents")
    )
    assert "split-brain" in {one.verdict for one in world.incidents}
    assert {(one.over, one.taken_by) for one in world.incidents} == {(False, "")}
