"""Requests from code without an event loop.

Theory of operation. Each call runs a loop and a client of its own, which ends with it.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from agent.transport.client import HttpClient
from agent.transport.message import Answer, Begin, Request, Tls


def request_sync(
    request: Request,
    deadline_s: float,
    *,
    tls: Tls | None = None,
    uds: Path | None = None,
) -> Answer:
    """Send one request from code without an event loop; see HttpClient.request."""

    async def ask() -> Answer:
        client = HttpClient(tls, uds)
        try:
            return await client.request(request, deadline_s)
        finally:
            await client.close()

    return asyncio.run(ask())


def download_sync(
    request: Request,
    write: Callable[[bytes], object],
    idle_s: float,
    *,
    tls: Tls | None = None,
    uds: Path | None = None,
    begin: Begin | None = None,
) -> Answer:
    """Send one request and hand a 2xx answer's body to `write` as it comes.

    There is no limit to the whole, only to each silence: `idle_s`. The Answer's body
    is empty then, and `begin` sees it before the first byte; any other status comes
    back whole, within the request's limit.
    Raises UnreachableError, DeadlineError or UnreadableAnswerError, also when the body
    ends before its announced end.
    """

    async def fetch() -> Answer:
        client = HttpClient(tls, uds)
        try:
            return await client.download(request, write, idle_s, begin)
        finally:
            await client.close()

    return asyncio.run(fetch())
