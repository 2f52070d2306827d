"""What can go wrong with a request: three errors, and which of them it is.

Theory of operation. Whatever httpx raises becomes "nobody there", "no answer in time"
or "no HTTP as agreed", in the operating system's own words where there are some.
"""

import os
import socket
import ssl

from agent.errors import SplitguardError
from agent.transport.library import httpx


class TransportError(SplitguardError):
    """A request got no answer that could be read."""


class UnreachableError(TransportError):
    """Nobody there: refused, reset, no route, no such name, no such socket."""


class DeadlineError(TransportError):
    """The time was up before the whole answer had come."""


class UnreadableAnswerError(TransportError):
    """No HTTP, a certificate that is not trusted, or more bytes than are read."""


def place(url: str) -> str:
    """Return host and port of an address, the only part that may be shown."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "address"
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.host}{port}" or "address"


def cut(error: httpx.RequestError) -> bool:
    """Whether the connection ended, as against bytes that are no HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        # h11's words for an end of stream in the middle of an answer.
        return "disconnected" in str(error) or "closed connection" in str(error)
    return True


def named(error: httpx.RequestError, where: str) -> TransportError:
    """Return which of the three errors this is."""
    tls = _tls_reason(error)
    if tls is not None:
        return UnreadableAnswerError(
            f"{where}: TLS failed: {tls}",
            "compare the certificate there with [tls] ca, and https:// with http://",
        )
    if isinstance(error, httpx.RemoteProtocolError) and not cut(error):
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
