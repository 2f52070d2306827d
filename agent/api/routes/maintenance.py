"""Announced switchovers: list, add, end.

An announcement is journalled before it is answered, and known to all agents that this
one can talk to a round later.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.models_decisions import (
    MaintenanceIn,
    MaintenanceOut,
    MaintenancesOut,
)
from agent.api.present import Frame
from agent.api.present.decisions import maintenance_out
from agent.api.problems import ApiError
from agent.api.tokens import Principal, Scope
from agent.core.event import MaintenanceBegun, MaintenanceEnded
from agent.core.maintenance import RUNNING_MAX, running
from agent.core.plan import Maintenance

router = APIRouter(prefix="/v1/maintenance", tags=["decisions"])
Operator = Annotated[Principal, needs(Scope.OPERATE)]
NOT_KEPT = "The journal did not take it, so it is not in force."
HINT = "see `splitguard status`, and the agent's log for what ails the journal"


@router.get("", summary="Announced switchovers", dependencies=[needs(Scope.READ)])
async def list_maintenance(
    ctx: Ctx,
    *,
    everything: Annotated[
        bool, Query(alias="all", description="Those that are over too.")
    ] = False,
) -> MaintenancesOut:
    """Return what is in force, or with `all` what is remembered, latest first."""
    frame = ctx.frame()
    known = frame.state.ledger.maintenance
    found = known if everything else running(frame.state, frame.at)
    ordered = sorted(found, key=lambda one: one.begun_wall_s, reverse=True)
    return MaintenancesOut(maintenance=[maintenance_out(frame, one) for one in ordered])


@router.post("", summary="Announce a switchover", status_code=201)
async def begin_maintenance(
    ctx: Ctx, response: Response, question: MaintenanceIn, principal: Operator
) -> MaintenanceOut:
    """Announce it; the failover that it covers is then news and no trouble."""
    policy, frame = ctx.desk.policy, ctx.frame()
    if not question.reason.strip():
        raise ApiError(422, "To announce a switchover needs a reason.", "give a reason")
    nodes = [spec.name for spec in policy.nodes if spec.has_postgres]
    if question.node is not None and question.node not in nodes:
        raise ApiError(
            422,
            "There is no node of this name with a PostgreSQL.",
            f"the nodes are {', '.join(nodes)}",
        )
    if len(running(frame.state, frame.at)) >= RUNNING_MAX:
        hint = "end those that are over: `splitguard maintenance list`"
        raise ApiError(409, f"{RUNNING_MAX} announcements are in force already.", hint)
    wanted = f"mnt-{ctx.options.new_id()}"
    await ctx.desk.submit(
        MaintenanceBegun(
            ctx.desk.now(),
            wanted,
            question.node,
            question.owner or principal.name,
            question.reason,
            question.seconds,
        )
    )
    frame = ctx.frame()
    made = _find(frame, wanted)
    if made is None:
        raise ApiError(503, NOT_KEPT, HINT)
    response.headers["Location"] = "/v1/maintenance"
    return maintenance_out(frame, made)


@router.delete("/{maintenance_id}", summary="End an announcement")
async def end_maintenance(
    ctx: Ctx,
    maintenance_id: str,
    principal: Operator,
    who: Annotated[
        str, Query(max_length=200, description="Default: the token's name.")
    ] = "",
) -> MaintenanceOut:
    """End it now; what is over already stays as it is."""
    if _find(ctx.frame(), maintenance_id) is None:
        hint = "ids are listed by `splitguard maintenance list --all`"
        raise ApiError(404, "There is no announcement of this id.", hint)
    by = who or principal.name
    await ctx.desk.submit(MaintenanceEnded(ctx.desk.now(), maintenance_id, by))
    frame = ctx.frame()
    one = _find(frame, maintenance_id)
    if one is None or one.runs(frame.at.wall_s):
        raise ApiError(503, "The journal did not take it: it is still in force.", HINT)
    return maintenance_out(frame, one)


def _find(frame: Frame, wanted: str) -> Maintenance | None:
    for one in frame.state.ledger.maintenance:
        if one.id == wanted:
            return one
    return None
