"""Asks the managers and an agent, and makes one picture of what they say.

Theory of operation. The login is tried at one manager; once it was taken all are asked
at the same time, one question each at a time. Who does not answer, or answers nonsense,
is in the picture with the reason; only a refused login ends the run, because four wrong
ones lock the account. An agent that cannot be asked is a reason too: a whole cluster
may be down.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from agent.errors import ManagerError, SplitguardError
from agent.vnfm.client import ManagerClient
from agent.vnfm.records import Generation, Version
from agent.vnfm.recovery.doors import Doors
from agent.vnfm.recovery.world import ManagerSeen, World, told_by, with_incidents

REFUSED = 401
PATIENCE_S = 15.0
"""A manager that is well answers in a second; one over a standby takes 45 s."""
REST_S = 60.0


class Looker:
    """Looks around, as often as it is wanted."""

    def __init__(self, managers: Mapping[str, ManagerClient], doors: Doors) -> None:
        self._managers = managers
        self._doors = doors
        self._taken = False
        """Whether a manager has taken the login."""
        self._resting: dict[str, tuple[float, ManagerSeen]] = {}

    async def around(self, generation: Generation, *, counted: bool = False) -> World:
        """Return what is so now; with `counted` also how much active managers hold.

        Raises ManagerError only for a refused login.
        """
        names = list(self._managers)
        sights: dict[str, ManagerSeen] = {}
        while names and not self._taken:
            name = names.pop(0)
            sights[name] = await self._manager(name, counted=counted)
            self._taken = sights[name].answers
        rest = (self._manager(name, counted=counted) for name in names)
        sights |= dict(zip(names, await asyncio.gather(*rest), strict=True))
        bare = World(generation, tuple(sights[name] for name in self._managers))
        return await asyncio.to_thread(_told, bare, self._doors)

    async def by_agents(self, generation: Generation) -> World:
        """Return what an agent says; no manager is asked anything."""
        sights = tuple(
            ManagerSeen(node, client.place, answers=False, word="nobody told")
            for node, client in self._managers.items()
        )
        found = await asyncio.to_thread(_told, World(generation, sights), self._doors)
        told = {one.node: one for one in found.told_managers}
        return replace(
            found,
            managers=tuple(
                replace(told[one.node], place=one.place) if one.node in told else one
                for one in sights
            ),
        )

    async def _manager(self, node: str, *, counted: bool) -> ManagerSeen:
        """Ask one manager; one that was silent too long is left in peace for a while.

        A question that it holds stays the only one: more would take all its workers.
        """
        client = self._managers[node]
        until_s, before = self._resting.get(node, (0.0, None))
        if before is not None and client.clock.moment().monotonic_s < until_s:
            return before
        try:
            async with asyncio.timeout(PATIENCE_S):
                seen = await _asked(node, client, counted=counted)
        except TimeoutError:
            seen = ManagerSeen(
                node,
                client.place,
                answers=False,
                word=f"{client.place}: no answer within {PATIENCE_S:g} s",
            )
            until_s = client.clock.moment().monotonic_s + REST_S
            self._resting[node] = (until_s, seen)
        return seen


async def generation_of(managers: Mapping[str, ManagerClient]) -> Generation | None:
    """Return how the managers' cluster is built; None when none says it.

    One is asked after the other, because a wrong login counts. Raises ManagerError for
    a refused one.
    """
    for client in managers.values():
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await client.generation()
        except TimeoutError:
            continue
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


async def _asked(node: str, client: ManagerClient, *, counted: bool) -> ManagerSeen:
    bare = ManagerSeen(node, client.place, answers=False)
    try:
        status = await client.status()
    except ManagerError as error:
        _unless_refused(error)
        return replace(bare, word=error.message)
    sight = replace(bare, answers=True, active=status.active, word=status.word)
    if not sight.active:
        return sight
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
        incidents = here.get("/v1/incidents")
    except SplitguardError as error:
        return replace(bare, agent=error.message)
    return with_incidents(told_by(bare, status, lineage, snapshots), incidents)
