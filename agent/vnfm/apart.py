"""Blocking work on a thread of its own, which nobody has to wait for at the end.

Theory of operation. To read an archive through takes minutes. A thread of the loop's
own pool would hold up the end of the agent for as long; this one ends with the process,
and gives way to a database on the same machine.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from agent.snapshot.pace import step_back

T = TypeVar("T")


async def apart(work: Callable[[], T]) -> T:
    """Do the work on a thread and return what it returns; raise what it raises.

    Whoever is cancelled meanwhile leaves it to end by itself.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # T may hold None

    def run() -> None:
        step_back()
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - it is raised where it is awaited
            error = caught
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="vnfm", daemon=True).start()
    return await future
