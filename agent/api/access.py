"""Who may ask what: the one place that decides it.

Theory of operation. The rule, in this order:

1. A request over the unix socket comes from this machine's owner or the group
   `splitguard` (the socket's mode says so). It needs no token and may do everything.
   It is known by a mark that only the socket's own server sets (`LocalDoor`). A
   missing client address says nothing: a TCP client that resets at once has none.
2. `/livez`, `/readyz`, `/primary`, `/replica`, `/health`, `/openapi.json` and the
   page's own style and script files are open: they name no peer, no fault and no
   data.
3. Everything else needs a token of the route's scope. No scope includes another.
4. The page at `/` needs `read`. A browser cannot be told to send a bearer token, so
   the page also takes the token as the password of HTTP Basic. And where no tokens
   file is configured and the listener is on loopback, the page alone is open, so that
   a fresh installation can be looked at; the Host header must then be a loopback one,
   or a foreign web site could read the page through a rebound name.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Scope_

from agent.api.context import context
from agent.api.problems import ApiError
from agent.api.tokens import Principal, Scope

LOCAL = Principal("local", frozenset(Scope))
"""Whoever came through the unix socket."""
ONLOOKER = Principal("onlooker", frozenset((Scope.READ,)))
"""Whoever looks at the page of an agent that has no tokens, on its own machine."""
TOKEN_LENGTH_MAX = 500
LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))
REALM = 'realm="Splitguard"'
_READ_ONCE = "an agent reads tokens when it starts, and on SIGHUP (systemctl reload)"


MARK = "splitguard.local"
"""The key in the ASGI scope that says: through the unix socket. No client of a
server can set it."""


class LocalDoor:
    """The application as it is served on the unix socket, and nowhere else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        """Pass the request on, marked as local."""
        await self._app({**scope, MARK: True}, receive, send)


def over_socket(request: Request) -> bool:
    """Whether the request came through the unix socket."""
    return request.scope.get(MARK) is True


def needs(*scopes: Scope) -> Any:  # noqa: ANN401 - what FastAPI's Depends returns
    """Return a dependency that lets through whoever has one of these scopes."""
    return Depends(_Gate(scopes))


class _Gate:
    def __init__(self, scopes: tuple[Scope, ...]) -> None:
        self.scopes = scopes

    # Not a plain function: each of those takes a thread, and a millisecond.
    async def __call__(self, request: Request) -> Principal:
        """Return who asks; refuse with 401 or 403."""
        if over_socket(request):
            return LOCAL
        token = _bearer(request)
        return _checked(request, token, self.scopes, f"Bearer {REALM}")


async def page_reader(request: Request) -> Principal:
    """Return who looks at the page (rule 4)."""
    if over_socket(request):
        return LOCAL
    ctx = context(request)
    token = _bearer(request) or _basic_password(request)
    closed = ctx.tokens is not None and ctx.tokens.for_people
    if token is None and ctx.options.loopback and not closed:
        host = request.url.hostname or ""
        if host in LOOPBACK_HOSTS:
            return ONLOOKER
        raise ApiError(403, "Without tokens the page answers to loopback names only.")
    challenge = f"Basic {REALM}, Bearer {REALM}"
    return _checked(request, token, (Scope.READ,), challenge)


def scopes_of(call: Callable[..., object]) -> tuple[Scope, ...]:
    """Return the scopes that a route's dependency asks for, for the API document."""
    if isinstance(call, _Gate):
        return call.scopes
    return (Scope.READ,) if call is page_reader else ()


def _checked(
    request: Request, token: str | None, scopes: tuple[Scope, ...], challenge: str
) -> Principal:
    """Return the token's owner; refuse with 401 or 403."""
    wanted = " or ".join(scope.value for scope in scopes)
    if token is None:
        raise ApiError(
            401,
            f"This needs a token with the scope {wanted}.",
            "send it as `Authorization: Bearer ...`, or ask through the unix socket",
            headers={"WWW-Authenticate": challenge},
        )
    book = context(request).tokens
    principal = book.find(token) if book is not None else None
    if principal is None:
        raise ApiError(
            401,
            "This token is not known here.",
            "make one with `splitguard token create`, or check auth.tokens_file;"
            f" {_READ_ONCE}",
            headers={"WWW-Authenticate": f'{challenge}, error="invalid_token"'},
        )
    if principal.scopes.isdisjoint(scopes):
        raise ApiError(
            403,
            f"This token lacks the scope {wanted}.",
            f"no scope includes another; {_READ_ONCE}",
            scope=scopes[0].value,
        )
    return principal


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    usable = kind.lower() == "bearer" and 0 < len(token) <= TOKEN_LENGTH_MAX
    return token if usable else None


def _basic_password(request: Request) -> str | None:
    kind, _, packed = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic" or len(packed) > 2 * TOKEN_LENGTH_MAX:
        return None
    try:
        text = base64.b64decode(packed.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text.partition(":")[2] or None
