"""Runs long blocking work on threads that give way, and hold nobody up.

Theory of operation. To read, hash and encrypt an archive takes minutes. It is done
at a low priority, one call on one thread, and the thread is a daemon: when the agent
ends, it ends with it, half-way. What it was writing has no name yet, and is swept away
at the next start.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from agent.snapshot.pace import step_back

T = TypeVar("T")


async def gently(call: Callable[[], T]) -> T:
    """Return what the call returns, or raise what it raises."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(end: Callable[[], object]) -> None:
        def told() -> None:
            if not outcome.done():  # else whoever waited has gone
                end()

        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(told)

    def run() -> None:
        step_back()
        try:
            made = call()
        except Exception as error:  # noqa: BLE001 - handed over to who waits
            failure = error
            tell(lambda: outcome.set_exception(failure))
        else:
            tell(lambda: outcome.set_result(made))

    threading.Thread(target=run, name="gently", daemon=True).start()
    return await outcome
