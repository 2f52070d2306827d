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

from agent.transport.blocking import download_sync, request_sync
from agent.transport.client import KEEPALIVE_S, HttpClient
from agent.transport.failing import (
    DeadlineError,
    TransportError,
    UnreachableError,
    UnreadableAnswerError,
    place,
)
from agent.transport.message import BODY_LIMIT_BYTES, Answer, Begin, Request, Tls

__all__ = [
    "BODY_LIMIT_BYTES",
    "KEEPALIVE_S",
    "Answer",
    "Begin",
    "DeadlineError",
    "HttpClient",
    "Request",
    "Tls",
    "TransportError",
    "UnreachableError",
    "UnreadableAnswerError",
    "download_sync",
    "place",
    "request_sync",
]
