"""What people decide about a snapshot: to keep it, to let it go, to remove it.

Nothing here touches a data folder of PostgreSQL: it is about copies in the capture
folder. A removal that something still needs is refused, with every reason at once,
unless it is forced with a reason of its own; it is recorded either way.
"""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Query

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_keeping import SnapshotOut
from agent.api.models_shelf import PinIn, RemovedOut
from agent.api.ports import SnapshotCard
from agent.api.problems import ApiError
from agent.api.routes.snapshots import LIST_HINT, NO_SNAPSHOT, one
from agent.api.tokens import Principal, Scope
from agent.snapshot.marks import Kept
from agent.snapshot.retention import Bond, holds, in_work

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"])
log = logging.getLogger(__name__)

Operator = Annotated[Principal, needs(Scope.OPERATE)]


@router.post("/{snapshot_id}/pin", summary="Keep a snapshot from being pruned")
async def pin_snapshot(
    ctx: Ctx, snapshot_id: str, question: PinIn, principal: Operator
) -> SnapshotOut:
    """Keep it until the pin is taken away; who pins again replaces the reason."""
    if not question.reason.strip():
        raise ApiError(422, "To keep a snapshot needs a reason.", "give a reason")
    await _card(ctx, snapshot_id)
    who = question.who or principal.name
    mark = Kept(who, question.reason, ctx.desk.now().wall_s)
    await asyncio.to_thread(ctx.shelf.keep, snapshot_id, mark)
    return await one(ctx, snapshot_id)


@router.delete(
    "/{snapshot_id}/pin",
    summary="Keep a snapshot no longer",
    dependencies=[needs(Scope.OPERATE)],
)
async def unpin_snapshot(ctx: Ctx, snapshot_id: str) -> SnapshotOut:
    """Take the pin away; without one nothing changes."""
    await _card(ctx, snapshot_id)
    await asyncio.to_thread(ctx.shelf.release, snapshot_id)
    return await one(ctx, snapshot_id)


@router.delete("/{snapshot_id}", summary="Remove a snapshot for good")
async def remove_snapshot(
    ctx: Ctx,
    snapshot_id: str,
    principal: Operator,
    *,
    force: Annotated[
        bool, Query(description="Remove it although something needs it.")
    ] = False,
    reason: Annotated[
        str, Query(max_length=2000, description="Why; needed to force.")
    ] = "",
    who: Annotated[
        str, Query(max_length=200, description="Default: the token's name.")
    ] = "",
) -> RemovedOut:
    """Remove it, unless it is pinned, an incident is not settled, or a permit rests."""
    if force and not reason.strip():
        raise ApiError(422, "To force a removal needs a reason.", "give reason=...")
    card = await _card(ctx, snapshot_id)
    bond = Bond(
        card.id, card.closed, card.incident_ids, frozenset(card.settled), card.kept
    )
    ledger = ctx.desk.state.ledger
    if in_work(bond, ledger):
        raise ApiError(
            409,
            "The agent still adds to this snapshot.",
            "it ends when its incident is over and its node resynced",
        )
    reasons = holds(bond, ledger)
    if reasons and not force:
        raise ApiError(
            409,
            f"This snapshot is still needed: {'; '.join(reasons)}.",
            "acknowledge open incidents, take the pin away, or force it with a reason",
        )
    by = who or principal.name
    log.warning("snapshot %s is removed by %s: %s", snapshot_id, by, reason or "-")
    wall_s = ctx.desk.now().wall_s
    await asyncio.to_thread(ctx.shelf.remove, snapshot_id, by, reason, wall_s)
    return RemovedOut(id=card.id, who=by, reason=reason, overruled=list(reasons))


async def _card(ctx: Context, snapshot_id: str) -> SnapshotCard:
    card = await asyncio.to_thread(ctx.shelf.show, snapshot_id)
    if card is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    return card
