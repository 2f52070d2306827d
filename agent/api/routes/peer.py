"""What peers exchange: this agent's report.

The asker may name itself in `X-Splitguard-Node`; only names of the list are believed.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from agent import codec
from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.tokens import Scope

router = APIRouter(prefix="/v1", tags=["peer"], dependencies=[needs(Scope.PEER)])


@router.get("/report", summary="What this agent is and what it sees")
async def get_report(
    ctx: Ctx,
    asker: Annotated[
        str | None, Header(alias="X-Splitguard-Node", max_length=200)
    ] = None,
) -> Response:
    """Return the report in the form of `agent.codec`, with ages instead of times."""
    known = {spec.name for spec in ctx.desk.policy.nodes}
    report = ctx.desk.report(asker if asker in known else None)
    return Response(
        codec.to_json(report),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
