"""What the server beside this agent did past a fork: for the agent of a losing side.

Places of rows are told, values never. The story is read from the server's own log by a
process that gives way, one at a time; it ends at the moment that the asker sees.
"""

import asyncio
import re
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.problems import ApiError
from agent.api.tokens import Scope
from agent.core.lsn import Lsn
from agent.core.plausible import TIMELINE_MAX

router = APIRouter(prefix="/v1", tags=["peer"], dependencies=[needs(Scope.PEER)])
DATABASES_MAX = 1000
LSN_PATTERN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"
_SHOWN = re.compile(r"([0-9]{1,10})/([0-9]{1,20}:[0-9]{1,20}:[0-9,]{0,60000})")
LsnText = Annotated[str, Query(pattern=LSN_PATTERN)]


@router.get(
    "/changes",
    summary="What the server here did past a fork, as lines of JSON",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}}}},
)
async def get_changes(
    ctx: Ctx,
    timeline: Annotated[
        int, Query(ge=1, le=TIMELINE_MAX, description="That the server is on.")
    ],
    fork_lsn: LsnText,
    lsn: Annotated[
        str, Query(pattern=LSN_PATTERN, description="Where the server stood.")
    ],
    shown: Annotated[
        list[str] | None,
        Query(
            max_length=DATABASES_MAX,
            description="For each database OID/SNAPSHOT, as txid_current_snapshot()"
            " printed it: what the asker sees.",
        ),
    ] = None,
) -> StreamingResponse:
    """Tell places of rows that were written past the fork, and whose transactions."""
    if ctx.options.changes is None:
        raise ApiError(409, "No server stands beside this agent.")
    pieces = ctx.options.changes.told(
        timeline, Lsn.parse(fork_lsn), Lsn.parse(lsn), _moments(shown or [])
    )
    # The first piece is made before the answer begins: what fails is then a problem.
    first = await asyncio.to_thread(next, pieces, b"")
    return StreamingResponse(
        chain((first,), pieces),
        media_type="application/jsonl",
        headers={"Cache-Control": "no-store"},
    )


def _moments(shown: list[str]) -> dict[str, str]:
    found = [_SHOWN.fullmatch(one) for one in shown]
    if None in found:
        raise ApiError(
            422, "shown is no OID/SNAPSHOT.", "such as 16384/740:745:741,743"
        )
    return {match[1]: match[2] for match in found if match is not None}
