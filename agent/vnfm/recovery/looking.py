"""Asks the managers and an agent, and makes one picture of what they say.

Theory of operation. Every manager is asked at the same time, one question each at a
time. Who does not answer, or answers nonsense, is in the picture with the reason; only
a refused login ends the run, because a second wrong one brings the account nearer to
being locked. An agent that cannot be asked is a reason too: a whole cluster may be
down.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from agent.errors import ManagerError, SplitguardError
from agent.vnfm.client import ManagerClient
from agent.vnfm.records import Generation, Version
from agent.vnfm.recovery.doors import Doors
from agent.vnfm.recovery.world import ManagerSeen, World, told_by

REFUSED = 401


async def look_around(
    managers: Mapping[str, ManagerClient],
    doors: Doors,
    generation: Generation,
    *,
    counted: bool = False,
) -> World:
    """Return what is so now; with `counted` also how much each active manager holds.

    Raises ManagerError only for a refused login.
    """
    sights = await asyncio.gather(
        *(_manager(node, client, counted) for node, client in managers.items())
    )
    bare = World(generation, tuple(sights))
    return await asyncio.to_thread(_told, bare, doors)


async def look_by_agents(
    managers: Mapping[str, ManagerClient], doors: Doors, generation: Generation
) -> World:
    """Return what an agent says; no manager is asked anything."""
    sights = tuple(
        ManagerSeen(node, client.place, answers=False, word="nobody told")
        for node, client in managers.items()
    )
    found = await asyncio.to_thread(_told, World(generation, sights), doors)
    told = {one.node: one for one in found.told_managers}
    return replace(
        found,
        managers=tuple(
            replace(told[one.node], place=one.place) if one.node in told else one
            for one in sights
        ),
    )


async def generation_of(managers: Mapping[str, ManagerClient]) -> Generation | None:
    """Return how the managers' cluster is built; None when none says it."""
    for client in managers.values():
        try:
            return await client.generation()
        except ManagerError as error:
            _unless_refused(error)
    return None


def generation_told(doors: Doors) -> Generation | None:
    """Return how the cluster is built by the versions that an agent knows. Blocking."""
    try:
        nodes = doors.here.get("/v1/status")["nodes"]
    except SplitguardError:
        return None
    versions = [one["manager_version"] for one in nodes if one["manager_version"]]
    return Version(str(versions[0])).generation if versions else None


async def _manager(node: str, client: ManagerClient, counted: bool) -> ManagerSeen:
    bare = ManagerSeen(node, client.place, answers=False)
    try:
        status = await client.status()
    except ManagerError as error:
        _unless_refused(error)
        return replace(bare, word=error.message)
    sight = replace(bare, answers=True, active=status.active, word=status.word)
    return await _described(client, sight, counted) if status.active else sight


async def _described(
    client: ManagerClient,
    sight: ManagerSeen,
    counted: bool,
) -> ManagerSeen:
    """Add what only an active manager tells; what fails is left out, with a reason."""
    try:
        sight = replace(sight, version=(await client.version()).version)
        cluster = await client.cluster_status()
        sight = replace(sight, cluster=cluster.status, members=cluster.members)
        return replace(sight, holds=await client.holds()) if counted else sight
    except ManagerError as error:
        _unless_refused(error)
        return replace(sight, word=error.message)


def _unless_refused(error: ManagerError) -> None:
    if error.status == REFUSED:
        raise error


def _told(bare: World, doors: Doors) -> World:
    try:
        here = doors.here
        status = here.get("/v1/status")
        lineage = here.get("/v1/lineage")
        snapshots = here.get("/v1/snapshots")
    except SplitguardError as error:
        return replace(bare, agent=error.message)
    return told_by(bare, status, lineage, snapshots)
