"""Server-sent events: one event whenever something that people see has changed.

Theory of operation. The stream carries states and not steps: an event is the headline
and the counts as of one revision, and a client that fell behind gets the present ones
and has missed nothing that is still so. The id is the revision; a client that comes
back with `Last-Event-ID` is spared what it has. The stream ends when the agent stops,
and says so every `keepalive_s` while nothing happens.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.present import headline
from agent.api.problems import ApiError
from agent.api.tokens import Scope
from agent.core.standing import standing

router = APIRouter(prefix="/v1", tags=["status"], dependencies=[needs(Scope.READ)])
RETRY_MS = 2000


@router.get(
    "/events",
    summary="Server-sent events: each change of what people see",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def get_events(
    ctx: Ctx,
    request: Request,
    last_id: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=200)
    ] = None,
) -> StreamingResponse:
    """Send the present headline, then each new one, until either side ends it."""
    if ctx.waiting >= ctx.options.waiters_max:
        raise ApiError(503, "Too many requests wait here already.", "ask again later")
    return StreamingResponse(
        _stream(ctx, request, last_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    ctx: Context, request: Request, last_id: str | None
) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    sent = last_id
    while not ctx.options.closing.is_set():
        revision = ctx.desk.revision
        if ctx.revision_tag != sent:
            sent = ctx.revision_tag
            yield _event(ctx, sent)
            continue
        after = await ctx.changed(revision, ctx.options.keepalive_s)
        if await request.is_disconnected():
            return
        if after == revision:
            yield ": nothing new\n\n"
            if ctx.waiting >= ctx.options.waiters_max:
                return  # it may not wait, and must not spin
    yield ": the agent stops\n\n"


def _event(ctx: Context, event_id: str) -> str:
    frame = ctx.frame()
    data = {
        "revision": ctx.desk.revision,
        "headline": headline(frame).model_dump(mode="json"),
        "incidents_open": len(standing(frame.state)),
        "notices": {"undelivered": frame.outbox.undelivered},
    }
    body = json.dumps(data, separators=(",", ":"))
    return f"id: {event_id}\nevent: status\ndata: {body}\n\n"
