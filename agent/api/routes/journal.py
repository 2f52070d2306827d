"""The field journal: what this agent saw, round by round, for replay elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.problems import ApiError
from agent.api.tokens import Scope
from agent.errors import SplitguardError

router = APIRouter(prefix="/v1", tags=["status"], dependencies=[needs(Scope.READ)])
MEDIA_TYPE = "application/x-ndjson"


@router.get(
    "/journal",
    summary="What this agent saw, round by round",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {}}}},
)
async def get_journal(
    ctx: Ctx,
    since: Annotated[
        datetime | None, Query(description="RFC 3339; default: all that is kept")
    ] = None,
) -> StreamingResponse:
    """Stream the field journal: a header, the rounds, an end with their SHA-256.

    It begins at the last whole state before `since`. Without its last line it is not
    whole.
    """
    rounds = ctx.options.rounds
    if rounds is None:
        raise ApiError(503, "This agent keeps no rounds.")
    await rounds.freshen()
    pieces = rounds.export(_wall_s(since))
    try:
        first = await asyncio.to_thread(next, pieces, b"")
    except SplitguardError as error:
        raise ApiError(503, error.message, error.hint or None) from error
    return StreamingResponse(_sent(first, pieces), media_type=MEDIA_TYPE)


def _wall_s(since: datetime | None) -> float | None:
    if since is None:
        return None
    aware = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
    return aware.timestamp()


async def _sent(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces, each made in a thread."""
    piece = first
    while piece:
        yield piece
        piece = await asyncio.to_thread(next, pieces, b"")
