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
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import psycopg

from agent.codec import from_plain, to_plain
from agent.errors import CodecError, SplitguardError
from agent.lab.manager import JOINING, Manager
from agent.lab.membership import Membership
from agent.lab.plan import HOST
from agent.lab.resync import write_files
from agent.lab.standin import Peer
from agent.lab.standin.cluster import Note, RefusedError
from agent.lab.standing import ServerStanding, Standing, contains
from agent.lab.web import CallError, send_json

PROMOTE_S = 45.0
RECEIVED_S = 10.0
LOOK_S = 0.1
DEED_S = 30.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the active manager gives out to who is to join."""

    leader: str
    membership: Membership


def start_cluster(manager: Manager) -> None:
    """Make a cluster of this one manager. Raises RefusedError."""
    _in_no_cluster(manager)
    name = manager.name
    manager.keep(Membership(secrets.token_hex(8), 1, (name,)))
    manager.say("active, a cluster of one")


def add_member(manager: Manager, name: str) -> Mapping[str, object]:
    """Put another node on the list; return what it has to show. RefusedError."""
    manager.plan.node(name)
    if manager.membership.has(name):
        raise RefusedError(
            f"{name} belongs to the cluster already",
            f"remove it first: DELETE /cluster/nodes/{name}",
            code="conflict_error",
        )
    manager.keep(manager.membership.with_(name))
    shown = to_plain(_Shown(manager.name, manager.membership))
    return shown if isinstance(shown, dict) else {}


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


async def join(manager: Manager, shown: Mapping[str, object]) -> None:
    """Begin to become the standby of whose list it was put on. Raises RefusedError.

    What it had is gone then, so a manager that holds anything is refused.
    """
    try:
        told = from_plain(dict(shown), _Shown)
    except CodecError as error:
        message = f"the credentials are not those of a cluster: {error}"
        raise RefusedError(message, code="bad_parameters_error") from error
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
    manager.busy = JOINING
    manager.keep(told.membership)
    manager.soon(manager.become_copy(told.leader))


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


class Cluster:
    """A manager's cluster, for the handlers of its API, which run in threads."""

    def __init__(self, manager: Manager, loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop

    @property
    def name(self) -> str:
        """The node's name."""
        return self._manager.name

    @property
    def active(self) -> bool:
        """Whether it takes requests for writes."""
        return self._manager.active

    @property
    def removed(self) -> bool:
        """Whether it was removed from its cluster."""
        return self._manager.removed

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The nodes of its cluster, itself included, as it sees them now."""
        return tuple(_peers(self._manager))

    @property
    def initialized(self) -> bool:
        """Whether it belongs to a cluster, and no join is under way."""
        manager = self._manager
        return manager.membership.has(manager.name) and manager.busy != JOINING

    @property
    def notes(self) -> tuple[Note, ...]:
        """What it did lately, oldest first."""
        return tuple(self._manager.notes)

    def start_cluster(self) -> None:
        """Make a cluster of this one manager. Raises RefusedError."""
        self._wait(_async(start_cluster, self._manager))

    def add_member(self, name: str) -> Mapping[str, object]:
        """Put a node on the list; return what it shows when it joins."""
        return self._wait(_async(add_member, self._manager, name))

    def remove_member(self, name: str) -> None:
        """Take a node off the list. Raises RefusedError."""
        self._wait(_async(remove_member, self._manager, name))

    def join(self, shown: Mapping[str, object]) -> None:
        """Begin to join the cluster that gave this out. Raises RefusedError."""
        self._wait(join(self._manager, shown))

    def set_active(self, name: str) -> None:
        """Begin to move the active role."""
        self._loop.call_soon_threadsafe(
            lambda: self._manager.soon(_told(self._manager, name))
        )

    def _wait(self, deed: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(deed, self._loop).result(DEED_S)


def _peers(manager: Manager) -> Iterator[Peer]:
    """Yield the nodes of a manager's cluster; each has one of every kind."""
    if manager.removed:
        return
    seen = {**manager.others(), manager.name: manager.standing}
    kinds = ("manager", "db", "broker")
    for kind in kinds if manager.plan.options.all_active else kinds[:1]:
        for name in manager.membership.members:
            one = seen.get(name)
            down = one is None or (kind == "db" and one.server is None)
            words = (one.note if one else "it does not answer",) if down else ()
            leads = one is not None and one.active
            yield Peer(kind, name, HOST, not down, leads, words)


async def _async(deed: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what belongs to the loop's thread there."""
    return deed(*args, **kwargs)


async def _told(manager: Manager, name: str) -> None:
    """Hand over; say why it did not work, because nobody waits for the answer."""
    try:
        await hand_over(manager, name)
    except (SplitguardError, OSError, psycopg.Error) as error:
        manager.say(f"{name} was not made active: {error}")
