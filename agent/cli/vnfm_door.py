"""The way to a manager: a client for each, and which one answers as active.

Theory of operation. Whoever is asked with a wrong password counts it, and four lock the
account; with a database for all managers they count together. So a login is tried on
one manager first, and on the others once it was taken; one that does not answer soon
holds nobody up, but no more than two are ever asked with a login that nobody has taken
yet. A manager of the 4.x line that is not active says so; from 5.0.5 on all are
active, and the first one of the configuration is taken.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.cli.console import say
from agent.cli.vnfm_call import NO_LOGIN, NO_LOGIN_HINT, Place, Profile
from agent.errors import ConfigError, ManagerError, SplitguardError
from agent.vnfm.records import Generation

if TYPE_CHECKING:
    from agent.transport import HttpClient
    from agent.vnfm.client import ManagerClient

T = TypeVar("T")
PATIENCE_S = 5.0
"""After this the next manager is asked as well."""
UNTRIED_MAX = 2
"""So many managers are asked at once with a login that none has taken yet."""
LATE_S = 10.0
"""How long the others may still take once an active one has answered."""
REFUSED = "unauthorized_error"
NOT_ASKED = "not_asked"
"""The code of who was not asked, because another one has refused the login."""


class Asked(Generic[T]):
    """What came of asking one manager: an answer, or why there is none."""

    def __init__(
        self, place: Place, answer: T | None, error: SplitguardError | None
    ) -> None:
        self.place = place
        self.answer = answer
        self.error = error

    @property
    def refused(self) -> bool:
        """Whether it did not take the login."""
        return isinstance(self.error, ManagerError) and self.error.code == REFUSED


class Door:
    """Gives clients for managers, over one kept connection each."""

    def __init__(self, profile: Profile, http: "HttpClient") -> None:
        self.profile = profile
        self._http = http
        self._clients: dict[Place, ManagerClient] = {}

    def client(self, place: Place, *, anybody: bool = False) -> "ManagerClient":
        """Return the client of one manager.

        Raises ConfigError without a login, unless `anybody` may ask.
        """
        from agent.daemon.clock import SystemClock
        from agent.vnfm.client import ManagerClient

        if self.profile.login is None and not anybody:
            raise ConfigError((NO_LOGIN,), NO_LOGIN_HINT)
        if place not in self._clients:
            self._clients[place] = ManagerClient(
                place.url, self.profile.login, self._http, SystemClock()
            )
        return self._clients[place]

    async def active(self) -> "tuple[Place, ManagerClient]":
        """Return the manager that is meant: the named, or the active one.

        Raises ManagerError where none is active, two are, or the login is refused.
        """
        places = self.profile.places
        if self.profile.named or len(places) == 1:
            return places[0], self.client(places[0])
        asked = await ask_all(places, self._is_active, late_s=LATE_S)
        refused = [one for one in asked if one.refused]
        if refused:
            assert refused[0].error is not None  # noqa: S101 - what refused means
            raise refused[0].error
        found = [one.place for one in asked if one.answer]
        if not found:
            raise none_active(asked)
        for one in asked:
            if one.error is not None:
                say(f"splitguard: {one.place.name}: {one.error.message}")
        client = self.client(found[0])
        if len(found) > 1 and await client.generation() is Generation.ACTIVE_STANDBY:
            raise two_active(found)
        say(f"splitguard: {found[0].name} answers as the active manager")
        return found[0], client

    async def close(self) -> None:
        """Give up what nobody waits for any more."""
        for client in self._clients.values():
            await client.close()

    async def _is_active(self, place: Place) -> bool:
        return (await self.client(place).status()).active


@contextlib.asynccontextmanager
async def opened(profile: Profile) -> AsyncIterator[Door]:
    """Open the way to the managers, and close it at the end. Raises ConfigError."""
    from agent.transport import HttpClient, Tls
    from agent.vnfm.connect import http_of

    if profile.settings is not None:
        http = http_of(profile.settings)
    else:
        http = HttpClient(Tls(ca=profile.ca) if profile.ca else None)
    door = Door(profile, http)
    try:
        yield door
    finally:
        await door.close()
        await http.close()


async def ask_all(
    places: tuple[Place, ...],
    ask: Callable[[Place], Awaitable[T]],
    *,
    late_s: float | None = None,
) -> list[Asked[T]]:
    """Ask all managers as the theory of operation says; the rest after a refusal not.

    With `late_s`, whoever has not answered so many seconds after the first answer is
    left out. A ConfigError, which all would end with, is raised.
    """
    running: dict[Place, asyncio.Task[Asked[T]]] = {}
    try:
        for place in places:
            await _wait_for_trust(list(running.values()))
            if any(task.done() and task.result().refused for task in running.values()):
                break
            running[place] = asyncio.create_task(_asked(place, ask))
        await _all_or_late(list(running.values()), late_s)
    finally:
        left = [task for task in running.values() if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
    return [_outcome(place, running.get(place), late_s) for place in places]


async def _asked(place: Place, ask: Callable[[Place], Awaitable[T]]) -> Asked[T]:
    try:
        return Asked(place, await ask(place), None)
    except ConfigError:
        raise
    except SplitguardError as error:
        return Asked(place, None, error)


async def _wait_for_trust(tasks: "list[asyncio.Task[Asked[T]]]") -> None:
    """Return once the login was taken, was refused, or one more may be asked."""
    patience: float | None = PATIENCE_S
    while waiting := [task for task in tasks if not task.done()]:
        if any(_told(task) for task in tasks):
            return
        if len(waiting) >= UNTRIED_MAX:
            patience = None
        done, _ = await asyncio.wait(
            waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return


def _told(task: "asyncio.Task[Asked[T]]") -> bool:
    """Whether this one says that the login is good, or that it is not."""
    if not task.done():
        return False
    found = task.result()
    return found.error is None or found.refused


async def _all_or_late(
    tasks: "list[asyncio.Task[Asked[T]]]", late_s: float | None
) -> None:
    while waiting := [task for task in tasks if not task.done()]:
        answered = any(task.done() and task.result().answer for task in tasks)
        done, _ = await asyncio.wait(
            waiting,
            timeout=late_s if answered else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            return
    for task in tasks:
        task.result()


def _outcome(
    place: Place, task: "asyncio.Task[Asked[T]] | None", late_s: float | None
) -> Asked[T]:
    if task is None:
        reason = "not asked, because another manager has refused the login"
        return Asked(place, None, ManagerError(reason, code=NOT_ASKED))
    if task.cancelled():
        reason = f"no answer {late_s:g} s after the active one's"
        return Asked(place, None, ManagerError(reason))
    return task.result()


def none_active(asked: list[Asked[T]]) -> ManagerError:
    """Return what to say where nobody answers as active."""
    why = "; ".join(
        f"{one.place.name}: {one.error.message if one.error else 'not active'}"
        for one in asked
    )
    return ManagerError(
        f"no manager answers as active: {why}",
        "mend the way to one, or name it: --manager NODE; `splitguard status` says"
        " what is so of the cluster",
    )


def two_active(found: list[Place]) -> ManagerError:
    """Return what to say where two managers of the 4.x line both say active."""
    names = " and ".join(place.name for place in found)
    return ManagerError(
        f"{names} both answer as the active manager: so it is when the cluster is"
        " split, and what you ask of one is not on the other",
        "`splitguard status` says whether it is; to ask one of them all the same:"
        f" --manager {found[0].name}",
    )
