"""Every refusal, in one shape: RFC 9457 problem details.

Theory of operation. A route raises `ApiError`, or a SplitguardError comes through from
below, or the framework refuses by itself; the handlers here make one JSON body of each.
What was sent is never quoted back, and no traceback leaves the process: an error that
nobody foresaw is logged and answered with a plain 500.
"""

import logging
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.api.models import Problem
from agent.errors import (
    CaptureError,
    CatalogueError,
    CodecError,
    DivergenceError,
    JournalError,
    SnapshotError,
    SplitguardError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_MAX = 20

TITLES = {
    400: "Bad request",
    401: "Who asks?",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Not possible now",
    413: "Too large",
    422: "Does not fit",
    500: "Internal error",
    503: "Not available now",
}

MISFITS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_too_long": "is longer than {max_length} characters",
    "string_type": "must be a text",
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "json_invalid": "is not JSON",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}
"""What does not fit, by pydantic's name of the error."""

STATUS_OF: tuple[tuple[type[SplitguardError], int], ...] = (
    (CodecError, 400),
    (CatalogueError, 503),
    (SnapshotError, 404),
    (CaptureError, 409),
    (DivergenceError, 409),
    (JournalError, 503),
)


class ApiError(Exception):
    """A refusal with its HTTP status, one sentence and what to do."""

    def __init__(
        self,
        status: int,
        detail: str,
        hint: str | None = None,
        *,
        scope: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.scope = scope
        self.headers = headers or {}


def answer(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the response that carries this problem."""
    body = problem.model_dump(mode="json", exclude_none=True)
    head = {"Cache-Control": "no-store", **(headers or {})}
    return JSONResponse(body, problem.status, head, media_type=MEDIA_TYPE)


def make(status: int, detail: str, hint: str | None = None) -> Problem:
    """Return a problem of this status; its type follows from the status."""
    title = TITLES.get(status, "Refused")
    slug = title.rstrip("?").lower().replace(" ", "-")
    return Problem(
        type=f"urn:splitguard:problem:{slug}",
        title=title,
        status=status,
        detail=detail,
        hint=hint,
    )


def install(app: FastAPI) -> None:
    """Answer every kind of error of this app with problem details."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_misfit)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(SplitguardError, _on_our_error)


async def _on_api_error(_: Request, error: Exception) -> JSONResponse:
    refusal = cast("ApiError", error)
    problem = make(refusal.status, refusal.detail, refusal.hint)
    return answer(problem.model_copy(update={"scope": refusal.scope}), refusal.headers)


async def _on_misfit(_: Request, error: Exception) -> JSONResponse:
    refusal = cast("RequestValidationError", error)
    fields = [
        {"field": ".".join(str(part) for part in one["loc"]), "reason": _plain(one)}
        for one in refusal.errors()[:ERRORS_MAX]
    ]
    said = "; ".join(f"{one['field']} {one['reason']}" for one in fields[:3])
    problem = make(422, f"The request does not fit: {said}.", "see /openapi.json")
    return answer(problem.model_copy(update={"errors": fields}))


def _plain(misfit: Mapping[str, Any]) -> str:
    """Return in our words what is wrong with one field."""
    limits = misfit.get("ctx") or {}
    if misfit["type"] == "string_too_short" and limits.get("min_length") == 1:
        return "must not be empty"
    told = MISFITS.get(misfit["type"])
    return f"is no fit ({misfit['msg']})" if told is None else told.format_map(limits)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    refusal = cast("HTTPException", error)
    said = {
        404: f"There is nothing at {request.url.path[:200]}.",
        405: f"{request.method} is not possible at {request.url.path[:200]}.",
        413: "The body of the request is larger than this agent takes.",
    }
    detail = said.get(refusal.status_code, str(refusal.detail)[:500])
    headers = dict(refusal.headers) if refusal.headers else None
    return answer(make(refusal.status_code, detail), headers)


async def _on_our_error(_: Request, error: Exception) -> JSONResponse:
    refusal = cast("SplitguardError", error)
    status = next((code for kind, code in STATUS_OF if isinstance(refusal, kind)), 500)
    return answer(make(status, refusal.message, refusal.hint or None))


class LastResort:
    """The outermost layer: an error that nobody foresaw becomes a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http":
                raise
            log.exception("request for %s failed", scope["path"])
            if begun:
                # The status is out already. An ended connection, without the end of
                # the body, is the only way left to say that the body is not whole.
                raise ConnectionAbortedError("the answer broke off") from None
            hint = "the agent's log has the cause"
            response = answer(make(500, "The agent could not answer this.", hint))
            await response(scope, receive, send)
