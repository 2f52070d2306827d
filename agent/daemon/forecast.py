"""Looks every few minutes whether the next split would be survived.

Theory of operation. One look walks the data directory and connects to the server,
another one reads what HA software on this machine is told to do with a loser. Both run
in threads and rarely; while something is missing they are repeated sooner, for whoever
mends it and watches. What they find becomes an event like any other.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.config import Settings
from agent.core.event import Event, GateSeen, Surveyed
from agent.core.gate import Gate
from agent.core.observation import ServerFacts
from agent.core.readiness import Obstacle, Readiness
from agent.core.state import State
from agent.daemon.beside import ServerBeside
from agent.errors import PostgresError, SnapshotError
from agent.guard.survey import Mine, survey
from agent.ports import Clock
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue

log = logging.getLogger(__name__)

EVERY_S = 300.0
AGAIN_S = 20.0
"""While there is an obstacle."""
UNSURE_S = 60.0
"""While something could not be found out, such as of a Patroni that just starts, or an
archive is not off-site."""
NOT_FOUND_S = 1.0
"""Until the server's data directory is found: each round looks for it."""


async def keep_looking(
    beside: ServerBeside,
    settings: Settings,
    clock: Clock,
    post: Callable[[Event], None],
) -> None:
    """Look, and tell the core, until cancelled."""
    known: tuple[Obstacle, ...] = ()
    while True:
        found = await asyncio.to_thread(_look, beside, settings)
        if found is not None:
            if found.obstacles != known and found.obstacles:
                log.warning("a capture would fail: %s", found.reasons)
            known = found.obstacles
            post(Surveyed(clock.moment(), found))
        good = found is not None and not found.obstacles
        sent = found is None or not found.offsite
        await clock.sleep((EVERY_S if sent else UNSURE_S) if good else AGAIN_S)


def _look(beside: ServerBeside, settings: Settings) -> Readiness | None:
    try:
        found = beside.outlook()
    except PostgresError:
        return None  # no PGDATA yet: reading the disk says so each round
    if settings.offsite.url is None:
        return found
    return replace(found, offsite=unsent(Catalogue(settings.capture_dir)))


def unsent(catalogue: Catalogue) -> str:
    """Return how many archives failed to get off-site, and why the last one did."""
    try:
        twins = [marks.twin(catalogue.folder(one.id)) for one in catalogue.list()]
    except SnapshotError:
        return ""  # what is wrong with the folder is an obstacle already
    failed = [twin for twin in twins if twin is not None and twin.error]
    if not failed:
        return ""
    last = max(failed, key=lambda twin: twin.attempts)
    many = "1 archive is" if len(failed) == 1 else f"{len(failed)} archives are"
    return f"{many} not off-site, tried {last.attempts} times: {last.error}"


async def keep_watching_the_gate(
    settings: Callable[[], Settings],
    state: Callable[[], State],
    clock: Clock,
    post: Callable[[Event], None],
) -> None:
    """Look at the HA software of the server that was found, until cancelled."""
    known: tuple[str, ...] = ()
    while True:
        server = state().view.server
        if not isinstance(server, ServerFacts):
            await clock.sleep(NOT_FOUND_S)
            continue
        gate = await asyncio.to_thread(survey, _mine(settings(), server))
        if gate.reasons != known and gate.reasons:
            log.warning("not ready: %s", "; ".join(gate.reasons))
        known = gate.reasons
        post(GateSeen(clock.moment(), gate))
        await clock.sleep(_pause_s(gate))


def _mine(settings: Settings, server: ServerFacts) -> Mine:
    return Mine(
        data_dir=Path(server.data_dir),
        socket=settings.socket,
        patroni=settings.guard.patroni,
        repmgr=settings.guard.repmgr,
    )


def _pause_s(gate: Gate) -> float:
    if gate.reasons:
        return AGAIN_S
    return UNSURE_S if gate.unsure else EVERY_S
