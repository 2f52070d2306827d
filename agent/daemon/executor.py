"""Carries actions out and turns their outcomes into events.

Theory of operation. Nothing here waits: what takes time is handed to the part that can
do it. While the journal cannot be written, the core decides the same with each event,
because nothing of it can be noted; the same order is then handed on only now and then.
"""

import asyncio
import logging
from collections.abc import Callable

from agent.core.action import Action, AskAgain, CloseCapture, RunCapture, Tell
from agent.core.capture import CaptureOrder
from agent.core.event import Event, Observed
from agent.ports import CaptureEngine, Clock, Prober

log = logging.getLogger(__name__)

SAME_ORDER_S = 5.0
"""The same order within this is no news for the engine, which has it."""


class ActionExecutor:
    """Hands each action to the part that can do it. Never blocks."""

    def __init__(
        self,
        prober: Prober,
        engine: CaptureEngine | None,
        clock: Clock,
        post: Callable[[Event], None],
        wake_outbox: Callable[[], None],
    ) -> None:
        self._prober = prober
        self._engine = engine
        self._clock = clock
        self._post = post
        self._wake_outbox = wake_outbox
        self._questions: dict[str, asyncio.Task[None]] = {}
        self._ordered: tuple[CaptureOrder, float] | None = None
        """The latest order that was handed on, and when (monotonic)."""

    def carry_out(self, action: Action) -> None:
        """Begin this action."""
        match action:
            case AskAgain():
                self._ask(action)
            case RunCapture():
                self._order(action.order)
            case CloseCapture():
                self._ordered = None
                if self._engine is not None:
                    self._engine.finish(action.capture_id)
            case Tell():
                self._wake_outbox()

    def _order(self, order: CaptureOrder) -> None:
        now_s = self._clock.moment().monotonic_s
        known = self._ordered
        if known is not None and known[0] == order and now_s - known[1] < SAME_ORDER_S:
            return
        self._ordered = order, now_s
        log.info("capture %s: %s", order.capture_id, ", ".join(order.levels))
        if self._engine is not None:
            self._engine.run(order)

    def _ask(self, action: AskAgain) -> None:
        """Probe out of turn; one question per channel at a time is enough."""
        key = f"{action.node}/{action.channel}"
        running = self._questions.get(key)
        if running is not None and not running.done():
            return
        self._questions[key] = asyncio.create_task(self._question(action))

    async def _question(self, action: AskAgain) -> None:
        observation = await self._prober.probe(action.node, action.channel)
        self._post(Observed(self._clock.moment(), observation))
