"""Carrying out what was decided: an order is handed on once, however often it comes."""

import asyncio
from dataclasses import dataclass, field, replace

from agent.core import event as events
from agent.core.action import CloseCapture, RunCapture
from agent.core.capture import CaptureOrder, Level
from agent.core.moment import Moment
from agent.core.observation import Observation
from agent.daemon.executor import SAME_ORDER_S, ActionExecutor
from tests.shell.test_runtime import CALM, FullDisk, asked, read, running

ORDER = CaptureOrder("n1-1", "n1", (Level.TAIL,), ("inc-1",), "a test", None, None)


@dataclass
class Hand:
    """A clock that is set by hand."""

    now_s: float = 100.0

    def moment(self) -> Moment:
        return Moment(self.now_s, self.now_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Engine:
    """Notes what it is told."""

    orders: list[CaptureOrder] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def run(self, order: CaptureOrder) -> None:
        self.orders.append(order)

    def finish(self, capture_id: str) -> None:
        self.finished.append(capture_id)

    def stop(self) -> None:
        """Nothing runs."""


class Nobody:
    """A prober that nobody asks."""

    async def probe(self, *_: object) -> Observation:
        raise AssertionError("nothing is to be probed")

    async def close(self) -> None:
        """Nothing is open."""


def executor(engine: Engine, clock: Hand) -> ActionExecutor:
    return ActionExecutor(Nobody(), engine, clock, lambda _: None, lambda: None)


def test_the_same_order_is_handed_on_again_only_after_a_while():
    engine, clock = Engine(), Hand()
    mine = executor(engine, clock)
    for _ in range(5):
        mine.carry_out(RunCapture(ORDER))
    wider = replace(ORDER, levels=tuple(Level))
    mine.carry_out(RunCapture(wider))
    mine.carry_out(RunCapture(wider))
    assert engine.orders == [ORDER, wider]
    clock.now_s += SAME_ORDER_S
    mine.carry_out(RunCapture(wider))
    assert engine.orders == [ORDER, wider, wider]
    mine.carry_out(CloseCapture(ORDER.capture_id))
    mine.carry_out(RunCapture(wider))
    assert len(engine.orders) == 4
    assert engine.finished == [ORDER.capture_id]


async def test_a_journal_that_fails_does_not_order_a_capture_with_each_event():
    engine, journal = Engine(), FullDisk()
    async with running(journal) as (runtime, _):
        runtime.employ(executor(engine, Hand()), lambda: None)
        await runtime.submit(read(runtime))
        for _ in range(20):
            await runtime.submit(asked(runtime))
            await runtime.submit(events.Ticked(runtime.now(), CALM))
        (order,) = engine.orders
        assert order.capture_id == "n1-asked"
        assert runtime.journal_error is not None
