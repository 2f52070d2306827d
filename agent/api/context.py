"""What every route works with, and how it waits.

Theory of operation. The app carries one `Context`; a route asks for it by type. Waiting
is bounded in number and in time and ends when the daemon stops: a request that may not
wait is answered at once, which a client that asks again in a loop does not notice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from agent.api.ports import ApiOptions, SnapshotShelf
from agent.api.present import Frame
from agent.api.tokens import TokenBook
from agent.ports import Desk


@dataclass(slots=True)
class Context:
    """The agent as the routes see it."""

    desk: Desk
    shelf: SnapshotShelf
    tokens: TokenBook | None
    options: ApiOptions
    waiting: int = 0
    looking_back: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One look into the rounds at a time: it costs up to a second of a processor."""

    def frame(self) -> Frame:
        """Return everything that an answer is made from, at one instant."""
        desk = self.desk
        return Frame(
            state=desk.state,
            policy=desk.policy,
            at=desk.now(),
            outbox=desk.outbox,
        )

    @property
    def revision_tag(self) -> str:
        """Return what names the present revision, across restarts of the agent."""
        return f"{self.desk.state.view.boot_id or 'starting'}-{self.desk.revision}"

    async def changed(self, since: int, timeout_s: float) -> int:
        """Wait for a revision past `since`; return the present one."""
        if (
            timeout_s <= 0
            or self.options.closing.is_set()
            or self.waiting >= self.options.waiters_max
        ):
            return self.desk.revision
        self.waiting += 1
        try:
            return await self._first_of(since, timeout_s)
        finally:
            self.waiting -= 1

    async def until(self, done: Callable[[], bool], wait_s: float) -> None:
        """Wait until `done()`, looking again at each change, for at most `wait_s`."""
        end_s = self.desk.now().monotonic_s + min(wait_s, self.options.wait_s_max)
        while not done():
            before = self.desk.revision
            left_s = end_s - self.desk.now().monotonic_s
            after = await self.changed(before, left_s)
            if after == before:  # time is up, we stop, or too many wait
                return

    async def _first_of(self, since: int, timeout_s: float) -> int:
        news = asyncio.ensure_future(self.desk.changed(since, timeout_s))
        closing = asyncio.ensure_future(self.options.closing.wait())
        try:
            await asyncio.wait((news, closing), return_when=asyncio.FIRST_COMPLETED)
            return news.result() if news.done() else self.desk.revision
        finally:
            for task in (news, closing):
                task.cancel()
            await asyncio.gather(news, closing, return_exceptions=True)


def context(request: Request) -> Context:
    """Return the app's context."""
    return cast("Context", request.app.state.context)


async def _provided(request: Request) -> Context:
    """Return the same, without a thread of its own."""
    return context(request)


Ctx = Annotated[Context, Depends(_provided)]
