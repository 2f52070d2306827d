"""Looks every few minutes whether the next split would be survived.

Theory of operation. The look walks the data directory and connects to the server, so
it runs in a thread and rarely; while something is missing it is repeated sooner, for
whoever mends it and watches. What it finds becomes an event like any other.
"""

import asyncio
import logging
from collections.abc import Callable

from agent.core.event import Event, Surveyed
from agent.core.readiness import Obstacle, Readiness
from agent.daemon.beside import ServerBeside
from agent.errors import PostgresError
from agent.ports import Clock

log = logging.getLogger(__name__)

EVERY_S = 300.0
AGAIN_S = 20.0
"""While there is an obstacle."""


async def keep_looking(
    beside: ServerBeside, clock: Clock, post: Callable[[Event], None]
) -> None:
    """Look, and tell the core, until cancelled."""
    known: tuple[Obstacle, ...] = ()
    while True:
        found = await asyncio.to_thread(_look, beside)
        if found is not None:
            if found.obstacles != known and found.obstacles:
                log.warning("a capture would fail: %s", found.reasons)
            known = found.obstacles
            post(Surveyed(clock.moment(), found))
        good = found is not None and not found.obstacles
        await clock.sleep(EVERY_S if good else AGAIN_S)


def _look(beside: ServerBeside) -> Readiness | None:
    try:
        return beside.outlook()
    except PostgresError:
        return None  # no PGDATA yet: reading the disk says so each round
