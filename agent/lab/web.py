"""HTTP inside the lab: a server within our own loop, and a plain client.

The server is uvicorn without its own signal handlers, on a socket that we hold.
The client is the standard library's, blocking, with a timeout on each wait; it is
used in threads.
"""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from agent.errors import LabError

BODY_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 3.0


class EmbeddedServer(uvicorn.Server):
    """A uvicorn that leaves signals to the process that it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a listening socket while the context lasts."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = EmbeddedServer(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


class CallError(LabError):
    """A request got no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == 2  # noqa: PLR2004 - the meaning of 2xx

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return the body as JSON. Raises CallError."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CallError(f"no JSON came back: {self.body[:200]!r}") from error


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout_s: float = TIMEOUT_S
    unix_socket: Path | None = None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def send(call: Call) -> Reply:
    """Send one request. Blocking; raises CallError when nothing comes back."""
    parts = urlsplit(call.url)
    if call.unix_socket is not None:
        connection: http.client.HTTPConnection = _UnixConnection(
            call.unix_socket, call.timeout_s
        )
    else:
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=call.timeout_s
        )
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(call.method, path, call.body, dict(call.headers))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(BODY_BYTES_MAX))
    except (OSError, http.client.HTTPException) as error:
        where = call.unix_socket or parts.netloc
        raise CallError(f"{where} does not answer: {error}") from error
    finally:
        connection.close()


def send_json(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    timeout_s: float = TIMEOUT_S,
    unix_socket: Path | None = None,
) -> Reply:
    """Send one request with a JSON body (or none) and a bearer token (or none)."""
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    return send(Call(method, url, headers, content, timeout_s, unix_socket))
