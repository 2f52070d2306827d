"""The metrics, for Prometheus."""

from fastapi import APIRouter, Response

from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.tokens import Scope

router = APIRouter(tags=["status"], dependencies=[needs(Scope.READ)])


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def get_metrics(ctx: Ctx) -> Response:
    """Return all metrics in Prometheus' text format."""
    # 2 MB that an agent spends once somebody scrapes it.
    from agent.api.metrics import CONTENT_TYPE, expose  # noqa: PLC0415

    writable = ctx.desk.journal_error is None
    body = expose(ctx.frame(), journal_writable=writable)
    return Response(body, headers={"Content-Type": CONTENT_TYPE})
