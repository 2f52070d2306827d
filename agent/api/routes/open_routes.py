"""The routes that need no token: is the agent alive, and what may a balancer send here.

A balancer asks with GET, HEAD or OPTIONS (HAProxy's bare `httpchk` sends OPTIONS), so
all three are answered alike.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from agent.api.balancer import Check, parse_lag, rule
from agent.api.context import Context, Ctx
from agent.api.models import BalancerOut, LiveOut, ReadyOut
from agent.api.problems import ApiError

router = APIRouter(tags=["open"])
METHODS = ["GET", "HEAD", "OPTIONS"]
HEADER_LENGTH_MAX = 200
CLOSED: dict[int | str, dict[str, Any]] = {
    503: {"model": BalancerOut, "description": "No traffic may come"}
}


@router.get("/livez", summary="This process answers")
async def livez() -> LiveOut:
    """Say that the process and its event loop run."""
    return LiveOut()


@router.get(
    "/readyz",
    summary="The journal is writable and a probe round has finished",
    response_model=ReadyOut,
    responses={503: {"model": ReadyOut, "description": "Not ready"}},
)
async def readyz(ctx: Ctx) -> JSONResponse:
    """Say whether the agent can do its work."""
    reasons = []
    if ctx.desk.journal_error is not None:
        reasons.append("the journal cannot be written")
    if not ctx.desk.state.view.verdicts:
        reasons.append("no probe round has finished yet")
    body = ReadyOut(ready=not reasons, reasons=reasons)
    return JSONResponse(
        body.model_dump(mode="json"),
        503 if reasons else 200,
        {"Cache-Control": "no-store"},
    )


def _balancer(name: str, summary: str) -> None:
    """Register one check under its three methods, of which GET is documented."""

    async def check(
        ctx: Ctx, lag: Annotated[str | None, Query(max_length=30)] = None
    ) -> JSONResponse:
        return _answer(ctx, Check(name), lag)

    check.__name__ = name
    check.__doc__ = f"{summary}."
    for method in METHODS:
        router.add_api_route(
            f"/{name}",
            check,
            methods=[method],
            summary=summary,
            response_model=BalancerOut,
            responses=CLOSED,
            include_in_schema=method == "GET",
        )


_balancer("primary", "PostgreSQL on this node is out of recovery")
_balancer("replica", "PostgreSQL on this node is in recovery, at most `lag` behind")
_balancer("health", "PostgreSQL on this node answers")


def _answer(ctx: Context, check: Check, lag: str | None) -> JSONResponse:
    try:
        lag_max = parse_lag(lag) if lag is not None else None
    except ValueError as error:
        raise ApiError(422, f"{error}.") from error
    fail_closed = ctx.options.fail_closed
    ruling = rule(ctx.frame(), check, lag_max=lag_max, fail_closed=fail_closed)
    body = BalancerOut(
        node=ctx.desk.policy.me,
        role=ruling.role,
        open=ruling.passes,
        reason=ruling.reason,
        lag_bytes=ruling.lag_bytes,
    )
    headers = {"Cache-Control": "no-store"}
    if ruling.doubt is not None:
        headers["X-Splitguard-Doubt"] = _header(ruling.doubt)
    content = body.model_dump(mode="json")
    return JSONResponse(content, 200 if ruling.passes else 503, headers)


def _header(text: str) -> str:
    """Return text that can stand in a header: one line of printable ASCII."""
    ascii_only = text.encode("ascii", "replace").decode()
    printable = "".join(char if char.isprintable() else " " for char in ascii_only)
    return printable[:HEADER_LENGTH_MAX]
