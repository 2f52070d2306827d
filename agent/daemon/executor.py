"""Carries actions out and turns their outcomes into events."""

import asyncio
import logging
from collections.abc import Callable

from agent.core.action import Action, AskAgain, CloseCapture, RunCapture, Tell
from agent.core.event import Event, Observed
from agent.ports import CaptureEngine, Clock, Prober

log = logging.getLogger(__name__)


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

    def carry_out(self, action: Action) -> None:
        """Begin this action."""
        match action:
            case AskAgain():
                self._ask(action)
            case RunCapture():
                log.info(
                    "capture %s: %s",
                    action.order.capture_id,
                    ", ".join(action.order.levels),
                )
                if self._engine is not None:
                    self._engine.run(action.order)
            case CloseCapture():
                if self._engine is not None:
                    self._engine.finish(action.capture_id)
            case Tell():
                self._wake_outbox()

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
