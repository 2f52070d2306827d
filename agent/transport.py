"""HTTP, one request at a time, within one deadline: the only owner of httpx.

Theory of operation. httpx has a timeout per phase and none for the whole, so each
request runs inside `asyncio.timeout` and ends when its time is up, however slowly
the other side drips. Connections are kept per target and dropped when they fail;
an idempotent request that meets a kept connection which the other side has just
closed is sent once more. Environment variables (proxies, CA files) have no say:
a peer is reached directly or not at all. Redirects are not followed, and no more
of a body is read than the caller allows. What comes back is an Answer, whatever
its status, or one of three errors: nobody there, no answer in time, or an answer
that is no HTTP as agreed. Messages name host and port and never the rest of an
address, because the address of a webhook can be a secret.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ConfigError, SplitguardError

# httpx would import its own command line, which takes 5 MB; and its lower half looks
# for sniffio, which nothing here needs, on the disk, ten times in each request.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # says: not there
if "sniffio" not in sys.modules:
    sys.modules["sniffio"] = None  # type: ignore[assignment] # says: not there

import httpx  # noqa: E402 - only now

BODY_LIMIT_BYTES = 1 << 20
"""The longest body that is read unless the caller says otherwise."""

KEEPALIVE_S = 120.0
"""A connection that nobody has used for so long is closed."""

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class TransportError(SplitguardError):
    """A request got no answer that could be read."""


class UnreachableError(TransportError):
    """Nobody there: refused, reset, no route, no such name, no such socket."""


class DeadlineError(TransportError):
    """The time was up before the whole answer had come."""


class UnreadableAnswerError(TransportError):
    """No HTTP, a certificate that is not trusted, or more bytes than are read."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS. `ca` None trusts what this machine trusts."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return the client side's context.

        Raises ConfigError when a file cannot be read or does not fit the others.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            problem = f"tls: {self.ca or '-'}, {self.cert or '-'}, {self.key or '-'}"
            raise ConfigError(
                (f"{problem}: {error.strerror or error}",),
                "give readable PEM files; the key must belong to the certificate",
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: any status, with the whole body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the meaning of 2xx

    def excerpt(self, limit: int = 200) -> str:
        """Return the body's beginning as one printable line, for a message."""
        text = self.body[: limit * 4].decode("utf-8", "replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line[:limit]


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    limit_bytes: int = BODY_LIMIT_BYTES


Begin = Callable[[Answer], object]
"""Called with status and headers of a 2xx answer before its body is read."""


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
        where = place(request.url)
        try:
            async with asyncio.timeout(deadline_s):
                return await self._twice(request)
        except TimeoutError as error:
            raise DeadlineError(f"{where}: no answer within {deadline_s:g} s") from (
                error
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise UnreachableError(
                f"{where}: not an address", "give http://host:port or https://host:port"
            ) from error
        except httpx.RequestError as error:
            raise _named(error, where) from error

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
        """Stream an answer; see `download_sync`."""
        where = place(request.url)
        try:
            return await self._poured(request, write, idle_s, begin)
        except TimeoutError as error:
            raise DeadlineError(f"{where}: silent for {idle_s:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise UnreachableError(
                f"{where}: not an address", "give http://host:port or https://host:port"
            ) from error
        except httpx.RequestError as error:
            raise _named(error, where) from error

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
                write(chunk)

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
            if request.method not in _IDEMPOTENT or not _cut(error):
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
        timeout=None,  # noqa: S113 - asyncio.timeout bounds the whole request
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


def place(url: str) -> str:
    """Return host and port of an address, the only part that may be shown."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "address"
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.host}{port}" or "address"


def _cut(error: httpx.RequestError) -> bool:
    """Whether the connection ended, as against bytes that are no HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        # h11's words for an end of stream in the middle of an answer.
        return "disconnected" in str(error) or "closed connection" in str(error)
    return True


def _named(error: httpx.RequestError, where: str) -> TransportError:
    """Return which of the three errors this is."""
    tls = _tls_reason(error)
    if tls is not None:
        return UnreadableAnswerError(
            f"{where}: TLS failed: {tls}",
            "compare the certificate there with [tls] ca, and https:// with http://",
        )
    if isinstance(error, httpx.RemoteProtocolError) and not _cut(error):
        return UnreadableAnswerError(f"{where}: answers, but not in HTTP")
    if isinstance(error, httpx.ConnectError):
        return UnreachableError(f"{where}: cannot connect: {_cause(error)}")
    return UnreachableError(f"{where}: the connection was cut: {_cause(error)}")


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what had caused it, at most ten links."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    # An error of ours in the chain is what the caller was dealing with before.
    while (
        link is not None and not isinstance(link, SplitguardError) and len(chain) < 10  # noqa: PLR2004 - a bound
    ):
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _tls_reason(error: BaseException) -> str | None:
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return link.verify_message or "certificate not trusted"
        if isinstance(link, ssl.SSLError):
            return link.reason or "no TLS there"
    return None


def _cause(error: BaseException) -> str:
    """Return the operating system's words where there are some."""
    for link in _chain(error):
        if isinstance(link, socket.gaierror):
            return f"no such name ({link.strerror})"
        if isinstance(link, OSError) and link.errno:
            return os.strerror(link.errno)
    return str(error) or type(error).__name__
