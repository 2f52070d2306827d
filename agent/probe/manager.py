"""Asks one manager whether it is the active one, without a login.

Theory of operation. `GET /api/v3.1/status` wants a login in every version: 401
`unauthorized_error` is a sign of life. A manager of the 4.x line that is not active
says 400 `not_cluster_master` before it looks at a login; so where any manager of the
cluster has said that, a 401 comes from an active one. From 5.0.5 on every manager is
active, and from 7.0 on `GET /ok` says without a login whether it is well: it is asked
in place of `/status` where it is there, and writes nothing anywhere.

A manager whose database is a standby holds a request for 45 s in one of few workers, so
impatient probes would block it: there is never more than one request on its way to a
manager. A probe whose deadline passes leaves the request running, and the next one
waits for the same answer. After one that was held so long it is left in peace for a
minute, and counts as silent: it serves nobody.
Source: Cloudify Manager's REST API v3.1, its 4.5.5 documentation of HA clusters,
`cope_with_db_failover` and the class OK in its REST service.
"""

import asyncio
import json
import re
from dataclasses import dataclass

from agent.core.care import ManagerSight
from agent.core.observation import Outcome
from agent.ports import Clock
from agent.probe.result import Result, failure
from agent.probe.web import of_transport
from agent.transport import Answer, HttpClient, TransportError

STATUS_PATH = "/api/v3.1/status"
OK_PATH = "/api/v3.1/ok"
REQUEST_S = 60.0
"""A request is given up after this: longer than a manager holds one."""
STALL_S = 10.0
"""An answer that took longer was held back, and is no hurry of the network."""
PEACE_S = 60.0
"""So long nothing is asked after that."""
OK = 200
BAD_REQUEST = 400
UNAUTHORIZED = (401, 403)
FAILED = 500
SINCE_7 = "7.x"
"""The version of whoever has `/ok`, as far as that shows."""
UNTIL_5 = "4.x"
"""The version of a cluster in which somebody says that it is not active."""
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,59}").fullmatch
"""Anything else is no version: it would travel in every report of this agent."""
_KNOWN = {
    "SSL_REQUIRED": "the manager wants https: write https:// in [[nodes]] manager",
    "removed_from_cluster": "this manager was removed from its cluster",
    "maintenance_mode_active": "the manager is in maintenance mode",
    "entering_maintenance_mode": "the manager is entering maintenance mode",
    "in_snapshot_restore_error": "the manager restores a snapshot",
}
"""What error codes mean that say all that there is to say."""
_READ_ONLY = "read-only transaction"


@dataclass(slots=True)
class Line:
    """What the managers of one cluster have shown of their version."""

    divided: bool = False
    """Whether one has said that it is not active: only the 4.x line does."""


class ManagerProbe:
    """The manager channel of one node."""

    def __init__(
        self,
        base_url: str,
        deadline_s: float,
        clock: Clock,
        http: HttpClient,
        line: Line | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._deadline_s = deadline_s
        self._clock = clock
        self._http = http
        self._line = line or Line()
        self._has_ok: bool | None = None
        self._running: asyncio.Task[Result] | None = None
        self._peace_until_s = 0.0
        self._held = ""
        self._late = ""
        """What came of the last request, where it came after the deadline."""

    async def ask(self) -> Result:
        """Wait for the one request, within the deadline."""
        if self._running is None:
            if self._clock.moment().monotonic_s < self._peace_until_s:
                return failure(Outcome.TIMED_OUT, self._held)
            self._running = asyncio.create_task(self._request())
        running = self._running
        done, _ = await asyncio.wait({running}, timeout=self._deadline_s)
        if not done:
            return failure(
                Outcome.TIMED_OUT,
                f"no answer within {self._deadline_s:g} s;"
                f" {self._late or 'the request is left to end'}",
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
            result = await self._result()
        except TransportError as error:
            result = of_transport(error)
        else:
            self._note_pace(sent_s, result)
        return Result(
            result.outcome, result.reason, manager=result.manager, sent_s=sent_s
        )

    async def _result(self) -> Result:
        """Ask where this manager answers without a login, and find out where."""
        if self._has_ok:
            answer = await self._http.get(self._base + OK_PATH, REQUEST_S)
            self._has_ok = says_ok(answer) is not None or answer.status >= FAILED
            if self._has_ok:
                return judge_ok(answer)
        answer = await self._http.get(self._base + STATUS_PATH, REQUEST_S)
        result = judge(answer, self._line)
        if result.manager is None or not result.manager.silent:
            return result
        if self._has_ok is None:
            asked = await self._http.get(self._base + OK_PATH, REQUEST_S)
            self._has_ok = says_ok(asked) is not None
            if self._has_ok:
                return judge_ok(asked)
        return result

    def _note_pace(self, sent_s: float, result: Result) -> None:
        """Remember what came late, and ask nothing for a while if it was held back."""
        now_s = self._clock.moment().monotonic_s
        took_s, said = now_s - sent_s, result.reason or "then it answered"
        self._late = ""
        if took_s > self._deadline_s:
            self._late = f"the last one came after {took_s:.0f} s ({said})"
        if took_s >= STALL_S:
            self._peace_until_s = now_s + PEACE_S
            self._held = (
                f"it held the last request for {took_s:.0f} s ({said}) and is asked"
                f" again {PEACE_S:.0f} s after"
            )


def judge(answer: Answer, line: Line | None = None) -> Result:
    """Return what a manager's answer to the status request means.

    What it shows of the cluster's version is noted in `line`.
    """
    line = line or Line()
    plain = _object(answer)
    code = plain.get("error_code")
    if answer.status == OK:
        return _answered(answer, plain)
    if answer.status == BAD_REQUEST and code == "not_cluster_master":
        line.divided = True
        return Result(Outcome.ANSWERED, manager=ManagerSight(False, UNTIL_5))
    if answer.status in UNAUTHORIZED and code == "unauthorized_error":
        known = UNTIL_5 if line.divided else None
        sight = ManagerSight(line.divided, known, silent=not line.divided)
        return Result(Outcome.ANSWERED, manager=sight)
    if answer.status in UNAUTHORIZED:
        return failure(
            Outcome.REFUSED, f"HTTP {answer.status}: the manager wants a login"
        )
    return _complaint(answer, plain)


def judge_ok(answer: Answer) -> Result:
    """Return what the answer of a manager means that has `/ok`."""
    well = says_ok(answer)
    if well is None:
        return _complaint(answer, _object(answer))
    if well:
        return Result(Outcome.ANSWERED, manager=ManagerSight(True, SINCE_7))
    return failure(
        Outcome.REFUSED,
        f"HTTP {answer.status}: the manager says FAIL: a service of it is down",
    )


def says_ok(answer: Answer) -> bool | None:
    """Whether a manager says that it is well; None where that was no such answer."""
    word = answer.body.strip().strip(b'"')
    if answer.status == OK and word == b"OK":
        return True
    return False if answer.status == FAILED and word == b"FAIL" else None


def _answered(answer: Answer, plain: dict[str, object]) -> Result:
    if _is_html(answer):
        return failure(
            Outcome.GARBLED,
            "HTTP 200: a web page, which no manager answers here: check the address"
            " in [[nodes]] manager",
        )
    version = plain.get("version")
    known = version if isinstance(version, str) and _VERSION(version) else None
    return Result(Outcome.ANSWERED, manager=ManagerSight(True, known))


def _complaint(answer: Answer, plain: dict[str, object]) -> Result:
    """Return a failure that says what the manager complains of."""
    code = plain.get("error_code")
    message = plain.get("message")
    words = code if isinstance(code, str) else answer.excerpt()
    if isinstance(code, str) and code in _KNOWN:
        words = f"{_KNOWN[code]} ({code})"
    elif isinstance(message, str) and _READ_ONLY in message:
        words = "its database is a standby and takes no writes (read-only transaction)"
    elif _is_html(answer) and answer.status > FAILED:
        words = "the web server answers, the manager's REST service behind it does not"
    return failure(Outcome.REFUSED, f"HTTP {answer.status}: {words}")


def _is_html(answer: Answer) -> bool:
    kind = answer.headers.get("content-type", "")
    return "text/html" in kind or answer.body[:200].lstrip().startswith(b"<")


def _object(answer: Answer) -> dict[str, object]:
    try:
        plain = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
