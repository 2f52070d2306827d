"""One request at a time to one manager, and what may be concluded from no answer.

Theory of operation. A manager has a few workers, and one whose database is a standby
holds each request in one of them for 45 s: impatient questions would block it. So there
is never more than one on its way, and one whose asker has gone is left to end. What
streams (an archive) has a lane of its own. JSON goes out as exactly `application/json`,
which is all that managers take. The first 401 closes the breaker of login.py.
Source: `cope_with_db_failover` and `get_json_and_verify_params` in the REST service.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from agent.errors import ConfigError, ManagerError
from agent.transport import Answer, HttpClient, Request, TransportError, place
from agent.vnfm.login import Login, LoginKept
from agent.vnfm.refusals import line, object_of, refusal, unanswered

PREFIX = "/api/v3.1"
ANSWER_MAX_BYTES = 64 << 20
"""A thousand executions with their parameters have a few MiB."""
JSON_TYPE = "application/json"
Query = Mapping[str, str | int]
UNAUTHORIZED_STATUS = 401
BYPASS = {"x-bypass-maintenance": "True"}
"""Without it most questions are 503 in maintenance mode, where restores are made."""
UNREADABLE = "login_unreadable"
"""The code where the file with the login cannot be read."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question."""

    what: str
    """In words, for messages: "list the snapshots"."""
    method: str
    path: str
    """Below /api/v3.1."""
    query: Query = field(default_factory=dict, repr=False)
    body: Mapping[str, object] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: bool = True
    """Without, no login is sent: each one costs the manager a write."""
    once: bool = False
    deadline_s: float | None = None


class Wire:
    """The way to one manager."""

    def __init__(
        self, url: str, logins: LoginKept, http: HttpClient, *, deadline_s: float
    ) -> None:
        self._base = url.rstrip("/") + PREFIX
        self._logins = logins
        self._http = http
        self._deadline_s = deadline_s
        self._asking = asyncio.Lock()
        self._streaming = asyncio.Lock()
        self._running: set[asyncio.Task[Answer]] = set()
        self.place = place(url)

    async def answer(self, ask: Ask) -> Answer:
        """Return the answer, whatever its status, but a refused login.

        Raises ManagerError.
        """
        task = asyncio.create_task(self._sent(ask))
        self._running.add(task)
        task.add_done_callback(self._ended)
        # Who asked may go; the request stays in its lane until the manager is done.
        return await asyncio.shield(task)

    async def told(self, ask: Ask) -> dict[str, object]:
        """Return the JSON object of a good answer. Raises ManagerError."""
        answer = await self.answer(ask)
        if not answer.ok:
            raise self.refusal(answer, ask.what)
        return self.object(answer, ask.what)

    def object(self, answer: Answer, what: str) -> dict[str, object]:
        """Return the JSON object that was answered. Raises ManagerError."""
        plain = object_of(answer)
        if plain is None:
            raise self.refusal(answer, what)
        return plain

    def refusal(self, answer: Answer, what: str) -> ManagerError:
        """Return the error that this answer is."""
        try:
            login = self.login()
        except ManagerError:
            login = None
        return refusal(answer, self.place, what, login)

    def unanswered(self, error: TransportError, what: str) -> ManagerError:
        """Return the error for a request without an answer."""
        return unanswered(error, self.place, what)

    def check(self, answer: Answer, what: str, login: Login | None) -> Answer:
        """Return the answer; close the breaker when it refuses the login.

        Raises ManagerError.
        """
        if answer.status != UNAUTHORIZED_STATUS:
            return answer
        error = refusal(answer, self.place, what, login)
        if login is not None:
            self._logins.refuse(self.place, line(error.message))
        raise error

    def url(self, path: str, query: Query | None = None) -> str:
        """Return a whole address."""
        return self._base + path + (f"?{urlencode(query)}" if query else "")

    def login(self) -> Login | None:
        """Return who asks. Raises ManagerError: refused before, or not to be read."""
        try:
            return self._logins.for_manager(self.place)
        except ConfigError as error:
            raise ManagerError(
                f"{self.place}: not asked: {error.message}", error.hint, code=UNREADABLE
            ) from error

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[HttpClient]:
        """Hold the lane for archives."""
        async with self._streaming:
            yield self._http

    async def close(self) -> None:
        """Give up what nobody waits for any more."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _sent(self, ask: Ask) -> Answer:
        async with self._asking:
            login = self.login() if ask.login else None
            try:
                answer = await self._http.request(
                    self._request(ask, login), ask.deadline_s or self._deadline_s
                )
            except TransportError as error:
                raise self.unanswered(error, ask.what) from error
            return self.check(answer, ask.what, login)

    def _request(self, ask: Ask, login: Login | None) -> Request:
        headers = dict(ask.headers)
        content = None
        if login is not None:
            headers |= login.headers()
        if ask.body is not None:
            headers["content-type"] = JSON_TYPE
            content = json.dumps(ask.body).encode()
        return Request(
            ask.method,
            self.url(ask.path, ask.query),
            headers,
            content,
            limit_bytes=ANSWER_MAX_BYTES,
            once=ask.once,
        )

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits hears it; nobody need
