"""Sends requests over kept connections, each within its time.

Theory of operation. httpx has a timeout per phase and none for the whole, so each
request runs inside `asyncio.timeout` and ends when its time is up, however slowly
the other side drips. What streams has no limit to the whole, only to each silence.
"""

import asyncio
import contextlib
import ssl
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from pathlib import Path

from agent.transport.failing import (
    DeadlineError,
    UnreachableError,
    UnreadableAnswerError,
    cut,
    named,
    place,
)
from agent.transport.library import httpx
from agent.transport.message import Answer, Begin, Request, Tls

KEEPALIVE_S = 120.0
"""A connection that nobody has used for so long is closed."""

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpClient:
    """Sends requests over kept connections.

    `uds` makes it speak to a unix socket, whatever host the address names. Raises
    ConfigError when a file of `tls` cannot be used. What this machine trusts is read
    with the first https address: it takes 1 MB that an agent on loopback does not need.
    """

    def __init__(self, tls: Tls | None = None, uds: Path | None = None) -> None:
        self._uds = uds
        # Only ever given an http address, or one that leads to the socket.
        self._plain = _client(False, uds)
        self._secure = None if tls is None else _client(tls.context())

    def _for(self, url: httpx.URL) -> httpx.AsyncClient:
        if self._uds is not None or url.scheme == "http":
            return self._plain
        if self._secure is None:
            self._secure = _client(Tls().context())
        return self._secure

    async def request(self, request: Request, deadline_s: float) -> Answer:
        """Send the request and read the whole answer within `deadline_s` seconds.

        Raises UnreachableError, DeadlineError or UnreadableAnswerError.
        """
        with _told(request, f"no answer within {deadline_s:g} s"):
            async with asyncio.timeout(deadline_s):
                return await self._twice(request)

    async def get(
        self,
        url: str,
        deadline_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for `url`; see `request`."""
        return await self.request(Request("GET", url, headers or {}), deadline_s)

    async def download(
        self,
        request: Request,
        write: Callable[[bytes], object],
        idle_s: float,
        begin: Begin | None = None,
    ) -> Answer:
        """Stream an answer; see `download_sync`.

        Where `write` returns something to wait for, the next piece is read after that.
        """
        with _told(request, f"silent for {idle_s:g} s"):
            return await self._poured(request, write, idle_s, begin)

    async def _poured(
        self,
        request: Request,
        write: Callable[[bytes], object],
        idle_s: float,
        begin: Begin | None,
    ) -> Answer:
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(idle_s):
                response = await stack.enter_async_context(self._stream(request))
            if not response.is_success:
                async with asyncio.timeout(idle_s):
                    return await _whole(request, response)
            if begin is not None:
                begin(_answer(response, b""))
            chunks = response.aiter_raw()
            while True:
                async with asyncio.timeout(idle_s):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return _answer(response, b"")
                waiting = write(chunk)
                if isinstance(waiting, Awaitable):
                    await waiting

    async def upload(
        self,
        request: Request,
        pieces: AsyncIterable[bytes],
        size: int,
        *,
        idle_s: float,
        answer_s: float,
    ) -> Answer:
        """Send a body of `size` bytes piece by piece, and read the whole answer.

        There is no limit to the whole, only to each silence while it is sent, `idle_s`
        seconds; from the last piece on there are `answer_s` seconds for the answer. It
        is never sent twice. What `pieces` raises goes through to the caller.
        Raises UnreachableError, DeadlineError or UnreadableAnswerError.
        """
        loop = asyncio.get_running_loop()
        headers = {**request.headers, "content-length": str(size)}
        with _told(request, f"silent for {idle_s:g} s, or {answer_s:g} s at the end"):
            url = httpx.URL(request.url)
            async with asyncio.timeout(idle_s) as limit:

                async def timed() -> AsyncIterator[bytes]:
                    async for piece in pieces:
                        yield piece
                        limit.reschedule(loop.time() + idle_s)
                    limit.reschedule(loop.time() + answer_s)

                async with self._for(url).stream(
                    request.method, url, headers=headers, content=timed()
                ) as response:
                    return await _whole(request, response)

    async def close(self) -> None:
        """Close all kept connections."""
        await self._plain.aclose()
        if self._secure is not None:
            await self._secure.aclose()

    async def _twice(self, request: Request) -> Answer:
        """Send; once more when a kept connection turned out to be dead."""
        try:
            return await self._once(request)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            again = request.method in _IDEMPOTENT and not request.once
            if not again or not cut(error):
                raise
        return await self._once(request)

    async def _once(self, request: Request) -> Answer:
        async with self._stream(request) as response:
            return await _whole(request, response)

    def _stream(
        self, request: Request
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        url = httpx.URL(request.url)
        return self._for(url).stream(
            request.method,
            url,
            headers=dict(request.headers),
            content=request.content,
        )


@contextlib.contextmanager
def _told(request: Request, late: str) -> Iterator[None]:
    """Turn what httpx raises into one of the three errors."""
    where = place(request.url)
    try:
        yield
    except TimeoutError as error:
        raise DeadlineError(f"{where}: {late}") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise UnreachableError(
            f"{where}: not an address", "give http://host:port or https://host:port"
        ) from error
    except (httpx.LocalProtocolError, UnicodeEncodeError):
        # The library's own words repeat the header, which may be a password.
        raise UnreachableError(
            f"{where}: not asked: a header cannot be sent as it is",
            "a login, token or tenant for it has a line break, a space at an end, or a"
            " letter outside ASCII",
        ) from None
    except httpx.RequestError as error:
        raise named(error, where) from error


def _client(
    verify: ssl.SSLContext | bool, uds: Path | None = None
) -> httpx.AsyncClient:
    limits = httpx.Limits(
        max_connections=None,
        max_keepalive_connections=None,
        keepalive_expiry=KEEPALIVE_S,
    )
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(
            verify=verify,
            uds=str(uds) if uds else None,
            limits=limits,
            trust_env=False,
        ),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # asyncio.timeout bounds the whole request
        headers={"user-agent": "splitguard", "accept-encoding": "identity"},
    )


async def _whole(request: Request, response: httpx.Response) -> Answer:
    """Read an answer to its end, as far as the request allows."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > request.limit_bytes:
            raise UnreadableAnswerError(
                f"{place(request.url)}: answers with more than"
                f" {request.limit_bytes} bytes"
            )
        chunks.append(chunk)
    return _answer(response, b"".join(chunks))


def _answer(response: httpx.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)
