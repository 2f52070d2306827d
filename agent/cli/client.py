"""The client of an agent's HTTP API, as all commands use it.

Theory of operation. One question, one answer, within a deadline. No answer is an
AgentUnreachableError that says where was asked and what to look at; a refusal carries
the agent's own sentence and hint. What comes back is plain JSON: the commands print
what the agent says and do not judge it again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from agent.cli.address import Address
from agent.errors import AgentUnreachableError, SplitguardError
from agent.transport import (
    Answer,
    Begin,
    Request,
    Tls,
    TransportError,
    download_sync,
    request_sync,
)

DEADLINE_S = 10.0
"""A question that waits for nothing is answered well within this."""
ANSWER_LIMIT_BYTES = 16 << 20


class RefusedError(SplitguardError):
    """The agent answered, and the answer is no."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


class AgentClient:
    """Asks one agent."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> dict[str, Any]:
        """Return the JSON object at `path`.

        Raises AgentUnreachableError or RefusedError.
        """
        answer = self.ask("GET", path, query, deadline_s=deadline_s)
        return _object(answer, self.address)

    def post(
        self, path: str, body: Mapping[str, object], *, deadline_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        """Send `body` to `path` and return the JSON object that came back.

        Raises AgentUnreachableError or RefusedError.
        """
        content = json.dumps(body).encode()
        answer = self.ask("POST", path, content=content, deadline_s=deadline_s)
        return _object(answer, self.address)

    def delete(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        """Remove what is at `path`; return the JSON object that came back.

        Raises AgentUnreachableError or RefusedError.
        """
        return _object(self.ask("DELETE", path, query), self.address)

    def status_change(
        self, known_tag: str, wait_s: float
    ) -> tuple[dict[str, Any] | None, str]:
        """Return the status and its tag once the tag is another one than `known_tag`.

        None stands for no change within `wait_s` seconds. Raises like `get`.
        """
        headers = {"if-none-match": known_tag} if known_tag else {}
        query = {"wait": wait_s} if known_tag else None
        answer = self.ask(
            "GET", "/v1/status", query, headers=headers, deadline_s=wait_s + DEADLINE_S
        )
        if answer.status == 304:  # noqa: PLR2004 - HTTP's word for no change
            return None, known_tag
        return _object(answer, self.address), answer.headers.get("etag", "")

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Answer:
        """Send one request; see `get`."""
        own = {"accept": "application/json"}
        if content is not None:
            own["content-type"] = "application/json"
        if self.address.token:
            own["authorization"] = f"Bearer {self.address.token}"
        suffix = f"?{urlencode(query)}" if query else ""
        request = Request(
            method,
            f"{self.address.base}{path}{suffix}",
            {**own, **(headers or {})},
            content,
            ANSWER_LIMIT_BYTES,
        )
        return self._checked(
            lambda: request_sync(
                request,
                deadline_s,
                tls=Tls(ca=self.address.ca),
                uds=self.address.socket,
            )
        )

    def download(
        self,
        path: str,
        write: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        begin: Begin | None = None,
    ) -> None:
        """Hand what is at `path` to `write`, piece by piece; see `get`.

        `begin` sees status and headers first. An answer that does not come to its end
        raises AgentUnreachableError too.
        """
        token = self.address.token
        own = {"authorization": f"Bearer {token}"} if token else {}
        url = f"{self.address.base}{path}"
        request = Request("GET", url, {**own, **(headers or {})})
        self._checked(
            lambda: download_sync(
                request,
                write,
                DEADLINE_S,
                tls=Tls(ca=self.address.ca),
                uds=self.address.socket,
                begin=begin,
            )
        )

    def _checked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = ask()
        except TransportError as error:
            raise _unreachable(self.address, error) from error
        if not answer.ok and answer.status != 304:  # noqa: PLR2004 - see above
            raise _refused(answer, self.address)
        return answer


def _unreachable(address: Address, error: TransportError) -> AgentUnreachableError:
    reason = error.message.removeprefix("agent: ")
    if address.socket is None:
        return AgentUnreachableError(
            f"no agent answers at {address.base}: {reason}",
            error.hint or "is it running there, and does it listen on this address?",
        )
    hint = "is it running? see `systemctl status splitguard`, or give --socket or --url"
    if "ermission denied" in reason:
        hint = "the socket is for the agent's user and the group splitguard: join it"
    return AgentUnreachableError(
        f"no agent answers at {address.socket}: {reason}", hint
    )


def _refused(answer: Answer, address: Address) -> RefusedError:
    try:
        problem = json.loads(answer.body)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        text = f"{address.place} answers {answer.status}: {answer.excerpt()}"
        return RefusedError(answer.status, text, "is it a Splitguard agent?")
    hint = problem.get("hint") or ""
    if answer.status == 401 and not address.token:  # noqa: PLR2004 - HTTP's number
        hint = "give --token-file FILE or SPLITGUARD_TOKEN"
    return RefusedError(answer.status, problem["detail"], str(hint))


def _object(answer: Answer, address: Address) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        text = f"{address.place} does not answer in JSON: {answer.excerpt()}"
        raise RefusedError(answer.status, text, "is it a Splitguard agent?") from error
    if not isinstance(value, dict):
        raise RefusedError(answer.status, f"{address.place}: no JSON object came back")
    return value
