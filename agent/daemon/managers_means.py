"""With what a manager is asked: client and keeper, made anew when their files change.

Theory of operation. The login is read when something is asked for the first time, and
again after the configuration was read anew. What goes on at that moment ends with what
it began with; only then is that closed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.errors import ManagerError, SplitguardError
from agent.transport import HttpClient
from agent.vnfm.client import ManagerClient
from agent.vnfm.keeping import Keeper
from agent.vnfm.login import LoginKept


@dataclass(frozen=True, slots=True)
class Means:
    """What one reading of the configuration has made."""

    client: ManagerClient
    logins: LoginKept
    keeper: Keeper
    http: HttpClient

    async def close(self) -> None:
        """Give up what is on its way."""
        await self.client.close()
        await self.http.close()

    @property
    def refused(self) -> bool:
        """Whether the manager has refused the login as it stands in its file."""
        return bool(self.logins.reason(self.client.place))


class MeansKept:
    """Gives them to whoever asks, one or several at once."""

    def __init__(self, connect: Callable[[], Means]) -> None:
        """`connect` reads the login; it blocks and raises SplitguardError."""
        self._connect = connect
        self._means: Means | None = None
        self._old: list[Means] = []
        self._users = 0
        self._making = asyncio.Lock()

    @property
    def refused(self) -> bool:
        """Whether the manager refuses the login as it stands in its file."""
        return self._means is not None and self._means.refused

    @asynccontextmanager
    async def at_hand(self) -> AsyncIterator[Means]:
        """Give them while they are used. Raises ManagerError where none can be made."""
        means = self._means or await self._made()
        self._users += 1
        try:
            yield means
        finally:
            self._users -= 1
            if not self._users:
                await self._let_go()

    async def renew(self) -> None:
        """Make new ones for the next that asks."""
        self._put_by()
        if not self._users:
            await self._let_go()

    async def close(self) -> None:
        """Give up what is on its way."""
        self._put_by()
        await self._let_go()

    async def _made(self) -> Means:
        # One for all who ask meanwhile: two would each try a wrong password.
        async with self._making:
            if self._means is None:
                try:
                    self._means = await asyncio.to_thread(self._connect)
                except SplitguardError as error:
                    raise ManagerError(error.message, error.hint) from error
            return self._means

    def _put_by(self) -> None:
        if self._means is not None:
            self._old.append(self._means)
            self._means = None

    async def _let_go(self) -> None:
        while self._old:
            await self._old.pop().close()
