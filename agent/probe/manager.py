"""Asks one manager whether it is the active one.

Theory of operation. `GET /api/v3.1/status` answers 200 on an active manager; a
manager of the 4.x line that is not active answers 400 `not_cluster_master`. From
5.0.5 on every manager is active. A manager whose database is a standby holds a
request for 45 s in one of few workers, so impatient probes would block it: there
is never more than one request on its way to a manager. A probe whose deadline
passes leaves the request running, and the next one waits for the same answer.
Source: Cloudify Manager's REST API v3.1, its 4.5.5 documentation of HA clusters,
and `cope_with_db_failover` in its REST service.
"""

import asyncio
import json
import re

from agent.core.observation import ManagerSight, Outcome
from agent.ports import Clock
from agent.probe.result import Result, failure
from agent.probe.web import of_transport
from agent.transport import Answer, HttpClient, TransportError

STATUS_PATH = "/api/v3.1/status"
REQUEST_S = 60.0
"""A request is given up after this: longer than a manager holds one."""
OK = 200
BAD_REQUEST = 400
UNAUTHORIZED = (401, 403)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,59}").fullmatch
"""Anything else is no version: it would travel in every report of this agent."""


class ManagerProbe:
    """The manager channel of one node."""

    def __init__(
        self, base_url: str, deadline_s: float, clock: Clock, http: HttpClient
    ) -> None:
        self._url = base_url.rstrip("/") + STATUS_PATH
        self._deadline_s = deadline_s
        self._clock = clock
        self._http = http
        self._running: asyncio.Task[Result] | None = None
        self._sent_s = 0.0

    async def ask(self) -> Result:
        """Wait for the one request, within the deadline."""
        if self._running is None:
            self._sent_s = self._clock.moment().monotonic_s
            self._running = asyncio.create_task(self._request())
        running = self._running
        done, _ = await asyncio.wait({running}, timeout=self._deadline_s)
        if not done:
            return failure(
                Outcome.TIMED_OUT,
                f"no answer within {self._deadline_s:g} s; the request is left to end",
            )
        self._running = None
        return running.result()

    async def close(self) -> None:
        """Give the request up."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=1.0)
            self._running = None

    async def _request(self) -> Result:
        sent_s = self._clock.moment().monotonic_s
        try:
            result = judge(await self._http.get(self._url, REQUEST_S))
        except TransportError as error:
            result = of_transport(error)
        return Result(
            result.outcome, result.reason, manager=result.manager, sent_s=sent_s
        )


def judge(answer: Answer) -> Result:
    """Return what a manager's answer to the status request means."""
    plain = _object(answer)
    code = plain.get("error_code")
    if answer.status == OK:
        version = plain.get("version")
        known = version if isinstance(version, str) and _VERSION(version) else None
        return Result(Outcome.ANSWERED, manager=ManagerSight(True, known))
    if answer.status == BAD_REQUEST and code == "not_cluster_master":
        return Result(Outcome.ANSWERED, manager=ManagerSight(False, None))
    if answer.status in UNAUTHORIZED:
        return failure(
            Outcome.REFUSED, f"HTTP {answer.status}: the manager wants a login"
        )
    words = code if isinstance(code, str) else answer.excerpt()
    return failure(Outcome.REFUSED, f"HTTP {answer.status}: {words}")


def _object(answer: Answer) -> dict[str, object]:
    try:
        plain = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
