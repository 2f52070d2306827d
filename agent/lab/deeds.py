"""What is done to a cluster of managers: begun, joined, left, led by another one.

Theory of operation. A cluster begins with one manager. The active one adds a name to
its list, and the manager of that name then becomes its standby by a fresh copy: a
joiner has to be empty, because all that it had is gone then. Who is taken off the
list is not touched; it hears of it from the others. The active role moves without a
loss: the server that has it stops, which makes it send all that it has; the other
one is promoted once it has received that, and the first comes back as its standby.
"""

import asyncio
import secrets
import time

from agent.errors import LabError
from agent.lab.manager import Manager
from agent.lab.membership import Membership
from agent.lab.plan import HOST
from agent.lab.resync import copy, write_files
from agent.lab.standing import ServerStanding, Standing, contains
from agent.lab.web import CallError, send_json

PROMOTE_S = 45.0
RECEIVED_S = 10.0
LOOK_S = 0.1


class RefusedError(LabError):
    """A manager does not do that. Holds the code of its answer."""

    def __init__(self, message: str, hint: str = "", *, code: str) -> None:
        super().__init__(message, hint)
        self.code = code


def start_cluster(manager: Manager) -> None:
    """Make a cluster of this one manager. Raises RefusedError."""
    _in_no_cluster(manager)
    name = manager.name
    manager.keep(Membership(secrets.token_hex(8), 1, (name,)))
    manager.say("active, a cluster of one")


def add_member(manager: Manager, name: str) -> Membership:
    """Put another node on the list; return what it needs to join. RefusedError."""
    manager.plan.node(name)
    if manager.membership.has(name):
        raise RefusedError(
            f"{name} belongs to the cluster already",
            f"remove it first: DELETE /cluster/nodes/{name}",
            code="conflict_error",
        )
    manager.keep(manager.membership.with_(name))
    return manager.membership


def remove_member(manager: Manager, name: str) -> None:
    """Take a node off the list. Raises RefusedError: not there, or the active one."""
    if not manager.membership.has(name):
        message = f"Requested `ClusterNode` with ID `{name}` was not found"
        raise RefusedError(message, code="not_found_error")
    if name == manager.name:
        raise RefusedError(
            f"{name} is the active node and cannot be removed",
            "make another node active first",
            code="illegal_action_error",
        )
    manager.keep(manager.membership.without(name))


async def join(manager: Manager, leader: str, membership: Membership) -> None:
    """Begin to become the leader's standby. Raises RefusedError.

    What it had is gone then, so a manager that holds anything is refused.
    """
    _in_no_cluster(manager)
    if manager.busy or manager.work.locked():
        raise RefusedError(
            f"{manager.name} is busy: {manager.standing.note}",
            "try again in a moment",
            code="illegal_action_error",
        )
    if not await asyncio.to_thread(manager.database.is_empty):
        raise RefusedError(
            f"{manager.name} is not empty: joining a cluster would delete what it has",
            f"join a fresh manager: splitguard lab manager remove {manager.name}, "
            f"then install {manager.name}",
            code="illegal_action_error",
        )
    manager.soon(_copied(manager, leader, membership))


async def _copied(manager: Manager, leader: str, membership: Membership) -> None:
    async with manager.work:
        manager.busy = "joining"
        manager.keep(membership)
        await copy(manager.loser(None), leader)
        await manager.look_at_server()
        manager.busy = ""
    manager.say("standby")


async def hand_over(manager: Manager, to: str) -> None:
    """Give the active role to a standby; nothing is lost. Raises RefusedError."""
    async with manager.work:
        mine = await manager.look_at_server()
        if mine is None or not manager.leads:
            raise _not_now(f"{manager.name} is not active now")
        if to == manager.name:
            return
        _may_lead(await manager.look_at(to), mine, to)
        manager.busy = f"handing over to {to}"
        manager.say(manager.busy)
        try:
            await _given(manager, to, mine)
        finally:
            await manager.server.start()
            manager.busy = ""
            await manager.look_at_server()
    manager.say("standby")


async def _given(manager: Manager, to: str, mine: ServerStanding) -> None:
    """Stop, promote the other one, and be its standby from the next start on."""
    await manager.server.stop()
    until = time.monotonic() + RECEIVED_S
    while not _has(await manager.look_at(to), mine):
        if time.monotonic() > until:
            raise _not_now(f"{to} has not received all that {manager.name} has")
        await asyncio.sleep(LOOK_S)
    port = manager.plan.way(manager.name, to, "manager")
    try:
        reply = await asyncio.to_thread(
            send_json,
            "POST",
            f"http://{HOST}:{port}/lab/v1/promote",
            token=manager.plan.secrets.internal,
            timeout_s=PROMOTE_S,
        )
    except CallError as error:
        raise _not_now(f"{to} does not answer: {error.message}") from error
    if not reply.ok:
        raise _not_now(f"{to} was not promoted: {reply.body[:200]!r}")
    manager.leads = False
    write_files(manager.plan, manager.name, manager.server, to)


def _may_lead(other: Standing | None, mine: ServerStanding, to: str) -> None:
    if other is None or other.server is None:
        raise _not_now(f"{to} does not answer")
    if other.busy or not other.server.in_recovery or not contains(mine, other.server):
        raise _not_now(f"{to} is not a standby that follows: {other.note}")


def _has(other: Standing | None, mine: ServerStanding) -> bool:
    """Whether it has received all that this node had before its server stopped."""
    return (
        other is not None
        and other.server is not None
        and (other.server.lsn >= mine.lsn)
    )


def _in_no_cluster(manager: Manager) -> None:
    if manager.membership.lost(manager.name):
        raise RefusedError(
            f"{manager.name} was removed from its cluster",
            f"install it anew: splitguard lab manager remove {manager.name}, then "
            f"install {manager.name}",
            code="removed_from_cluster",
        )
    if manager.membership.cluster:
        raise RefusedError(
            f"{manager.name} belongs to a cluster already",
            code="conflict_error",
        )


def _not_now(message: str) -> RefusedError:
    return RefusedError(
        message, "look at: splitguard lab status", code="illegal_action_error"
    )
