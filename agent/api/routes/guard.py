"""The gate: whether a resync of the server beside this agent may go on.

A request is answered at once, mostly `pending`; whoever asked waits on its address.
Whoever may operate may ask; whoever asked or reads may look. A release lets every
pending request pass, and is recorded with who and why.
"""

from typing import Annotated

from fastapi import APIRouter, Response

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_keeping import PermitIn, PermitOut, PermitsOut, ReleaseIn
from agent.api.present import Frame, permit_out
from agent.api.problems import ApiError
from agent.api.routes.status import Wait
from agent.api.tokens import Principal, Scope
from agent.core.event import PermitAsked, PermitReleased
from agent.core.observation import ServerFacts
from agent.core.permit import Permit, PermitState
from agent.core.policy import Minimum

router = APIRouter(prefix="/v1/guard", tags=["guard"])


@router.post(
    "/permits",
    summary="Ask for a permit",
    status_code=201,
    dependencies=[needs(Scope.OPERATE)],
)
async def ask_permit(
    ctx: Ctx, response: Response, question: PermitIn | None = None
) -> PermitOut:
    """Enter a request; the answer is at the address in Location."""
    question = question or PermitIn()
    _ours(ctx, question.node)
    _same_folder(ctx, question.data_dir_id)
    permit_id = f"permit-{ctx.options.new_id()}"
    now, purpose = ctx.desk.now(), question.purpose
    event = PermitAsked(now, permit_id, purpose, question.source)
    await ctx.desk.submit(event)
    frame = ctx.frame()
    permit = _find(frame, permit_id)
    response.headers["Location"] = f"/v1/guard/permits/{permit.id}"
    return permit_out(frame, permit)


@router.get(
    "/permits",
    summary="Permits, latest first",
    dependencies=[needs(Scope.READ, Scope.OPERATE)],
)
async def list_permits(ctx: Ctx) -> PermitsOut:
    """Return the requests that this agent remembers."""
    frame = ctx.frame()
    permits = reversed(frame.state.ledger.permits)
    return _listed(frame, [permit_out(frame, permit) for permit in permits])


@router.get(
    "/permits/{permit_id}",
    summary="One permit",
    dependencies=[needs(Scope.READ, Scope.OPERATE)],
)
async def get_permit(ctx: Ctx, permit_id: str, wait: Wait = 0.0) -> PermitOut:
    """Return a permit; with `wait`, once it is no longer pending or the time is up."""
    await ctx.until(lambda: not _pending(ctx.frame(), permit_id), wait)
    frame = ctx.frame()
    return permit_out(frame, _find(frame, permit_id))


@router.post("/release", summary="Let a blocked resync pass without protection")
async def release(
    ctx: Ctx,
    question: ReleaseIn,
    principal: Annotated[Principal, needs(Scope.OPERATE)],
) -> PermitsOut:
    """Release every pending request of this node."""
    _ours(ctx, question.node)
    waiting = [p.id for p in ctx.frame().state.ledger.permits if _blocked(p)]
    if not waiting:
        raise ApiError(409, "No resync waits for a permit here.")
    who = question.who or principal.name
    await ctx.desk.submit(PermitReleased(ctx.desk.now(), who, question.reason))
    frame = ctx.frame()
    permits = [permit_out(frame, _find(frame, one)) for one in waiting]
    return _listed(frame, permits)


def _listed(frame: Frame, permits: list[PermitOut]) -> PermitsOut:
    outlook = frame.state.view.readiness
    no_rows = outlook.no_rows if outlook is not None else ""
    by_rows = frame.policy.guard_minimum is Minimum.ROWS
    return PermitsOut(
        permits=permits,
        minimum="rows" if by_rows else "full",
        no_rows=no_rows or None,
    )


def _ours(ctx: Context, node: str | None) -> None:
    me = ctx.desk.policy.me
    if node is not None and node != me:
        raise ApiError(
            409,
            f"This agent guards {me} and no other node.",
            "ask the agent beside the node that is to be resynced",
        )


def _same_folder(ctx: Context, wanted: str | None) -> None:
    """Refuse who means another server's folder: nothing is known about that one."""
    if wanted is None:
        return
    server = ctx.frame().state.view.server
    if not isinstance(server, ServerFacts):
        reason = "not yet" if server is None else server.reason
        raise ApiError(
            409,
            f"The data directory beside this agent has not been read: {reason}.",
            "" if server is None else server.hint,
        )
    if server.identity.partition(":")[2] != wanted:
        raise ApiError(
            409,
            f"This agent keeps {server.data_dir}, which is another folder.",
            "ask the agent that reads the folder to be resynced (local.data_dir)",
        )


def _blocked(permit: Permit) -> bool:
    return permit.state is PermitState.PENDING


def _pending(frame: Frame, permit_id: str) -> bool:
    return any(p.id == permit_id and _blocked(p) for p in frame.state.ledger.permits)


def _find(frame: Frame, permit_id: str) -> Permit:
    for permit in frame.state.ledger.permits:
        if permit.id == permit_id:
            return permit
    raise ApiError(404, "There is no permit of this id.", "ask for a new one")
