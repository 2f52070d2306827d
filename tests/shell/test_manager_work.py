"""What looks after a manager, where nothing answers and the shelf has its troubles."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.care import KeptBrief
from agent.core.moment import Moment
from agent.daemon.managers import Habits, ManagerWork, Stock
from agent.daemon.managers_means import Means, MeansKept
from agent.daemon.managers_rota import Rota
from agent.daemon.managers_shelf import ManagerShelf, pruner
from agent.errors import ManagerError
from agent.vnfm.seasons import Limits
from agent.vnfm.shelf import Shelf
from tests.fix_desk import SimulatedDesk
from tests.shell.test_vnfm_shelf import put
from tests.sim.harness import Simulation

LIMITS = Limits(1, 0, 0, 0)


class Quick:
    """Implements ports.Clock: a second is over soon, and is counted."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.seconds = 0
        self.ticked = asyncio.Condition()

    def moment(self) -> Moment:
        return self.sim.moment()

    async def sleep(self, seconds: float) -> None:
        self.seconds += 1
        await asyncio.sleep(0.005)
        async with self.ticked:
            self.ticked.notify_all()


class Agent:
    """The work of one agent of a simulation, that never gets a way to its manager."""

    def __init__(self, folder: Path) -> None:
        self.sim = Simulation(managers=True)
        self.sim.run(4)
        self.desk = SimulatedDesk(self.sim, "n1")
        self.shelf = Shelf(folder)
        self.tried = 0
        self.clock = clock = Quick(self.sim)
        self.work = ManagerWork(
            self.desk,
            clock,
            lambda event: self.sim.submit("n1", event),
            MeansKept(self.connect),
            Stock(
                self.shelf,
                Rota(folder, None, clock.moment().wall_s),
                pruner(self.shelf, LIMITS, "UTC", lambda: 1e9, None),
            ),
            Habits(protect=True, look_s=1e6, alert_after_s=3600.0),
        )

    def connect(self) -> Means:
        self.tried += 1
        raise ManagerError("no way there")

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.work.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, what: Any) -> None:
        async with asyncio.timeout(20), self.clock.ticked:
            await self.clock.ticked.wait_for(what)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "shelf")


async def test_what_cannot_be_removed_hides_nothing_that_is_kept(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A full or read-only disk must not keep an agent from what it is there for."""
    for day in range(3):
        put(agent.shelf, f"sg-a-{day}", at=1e9 + day * 86_400)
    (agent.shelf.place / "removed.jsonl").mkdir()  # so nothing can be written down
    with caplog.at_level(logging.WARNING):
        async with agent.working():
            await agent.until(lambda: agent.work.care.kept)
    assert [one.id for one in agent.work.care.kept] == ["sg-a-2", "sg-a-1", "sg-a-0"]
    assert "cannot be removed" in caplog.text


async def test_what_lost_its_archive_does_not_count_and_pushes_nothing_out(
    agent: Agent,
):
    good = put(agent.shelf, "sg-a-1", at=1e9)
    put(agent.shelf, "sg-a-2", at=1e9 + 86_400)
    agent.shelf.archive("sg-a-2").unlink()
    async with agent.working():
        await agent.until(lambda: agent.work.care.kept)
    assert agent.work.care.kept == (
        KeptBrief(good.id, "schedule", ("i-1",), 1e9, good.size_bytes, good=True),
    )
    assert agent.work.care.last_good_wall_s == 1e9
    assert agent.shelf.archive("sg-a-1").is_file()


async def test_on_a_clean_side_that_is_cut_off_a_person_is_refused_and_told_why(
    agent: Agent,
):
    door = ManagerShelf(agent.shelf, agent.work)
    assert door.refusal() == ("", "")
    agent.sim.world.cut_off("n1")
    agent.sim.run(8)
    why, what = door.refusal()
    assert "cut off" in why
    assert what
    agent.work.ask("now")  # as if it had been asked for just before
    async with agent.working():
        await agent.until(lambda: agent.clock.seconds > 30)
        assert agent.tried == 0
        agent.sim.world.heal()
        agent.sim.run(8)
        assert door.refusal() == ("", "")
        await agent.until(lambda: agent.work.care.failed)
