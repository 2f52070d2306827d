"""What the losing side lost: the report of a snapshot.

A report is made once and stored beside the snapshot. Who asks before it is there has it
made, by a process of its own that gives way to captures and permits, and gets 202 with
its progress until then. Values of rows are data; the counts are for whoever may read.
"""

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_loss import LossReport
from agent.api.models_progress import LossProgressOut
from agent.api.ports import LossPhase, LossReports, LossStand
from agent.api.problems import ApiError
from agent.api.routes.snapshots import LIST_HINT, NO_SNAPSHOT
from agent.api.tokens import Principal, Scope
from agent.divergence.report import Report
from agent.divergence.report_plain import plain

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"])
AT_WORK = (LossPhase.QUEUED, LossPhase.RUNNING)
RETRY_S = "2"
NOT_YET: dict[int | str, dict[str, Any]] = {
    202: {"model": LossProgressOut, "description": "It is being made."}
}


@router.get(
    "/{snapshot_id}/loss",
    summary="What the losing side wrote, and what of it the winner lacks",
    responses=NOT_YET,
    response_model=LossReport,
)
async def get_loss(
    ctx: Ctx,
    response: Response,
    snapshot_id: str,
    principal: Annotated[Principal, needs(Scope.DATA, Scope.READ)],
    *,
    values: Annotated[
        bool,
        Query(description="With false: counts only, for which scope `read` suffices."),
    ] = True,
) -> LossReport | Response:
    """Return the report of a snapshot, made once; 202 until then."""
    if values and Scope.DATA not in principal.scopes:
        raise ApiError(
            403,
            "Values of rows need a token with the scope data.",
            "values=false gives the counts",
            scope=Scope.DATA.value,
        )
    losses = await _losses(ctx, snapshot_id)
    stand = await asyncio.to_thread(losses.stand, snapshot_id)
    if stand.phase is LossPhase.NONE and Scope.DATA in principal.scopes:
        stand = await asyncio.to_thread(losses.ask, snapshot_id)
    report = await _report(losses, snapshot_id, stand)
    if report is None:
        return _progress(snapshot_id, stand)
    response.headers["Cache-Control"] = "no-store"
    return _out(report if values else without_values(report))


@router.post(
    "/{snapshot_id}/loss",
    summary="Make the report anew",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
)
async def make_loss(ctx: Ctx, snapshot_id: str) -> LossProgressOut:
    """Have the report made once more, against the primary of the other line."""
    losses = await _losses(ctx, snapshot_id)
    stand = await asyncio.to_thread(losses.ask, snapshot_id)
    if stand.phase not in AT_WORK:
        raise _refusal(stand)
    return _progress_out(snapshot_id, stand)


async def _losses(ctx: Context, snapshot_id: str) -> LossReports:
    """Return who makes reports; raise ApiError when none can be of this snapshot."""
    if await asyncio.to_thread(ctx.shelf.show, snapshot_id) is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    if ctx.options.losses is None:
        raise ApiError(
            409,
            "No server stands beside this agent, so it makes no loss reports.",
            f"run `splitguard loss report {snapshot_id}` where the snapshot lies",
        )
    return ctx.options.losses


async def _report(
    losses: LossReports, snapshot_id: str, stand: LossStand
) -> Report | None:
    """Return the stored report; None while it is made.

    Raises ApiError without one, SnapshotError when it cannot be read.
    """
    if stand.phase in AT_WORK:
        return None
    if stand.phase is not LossPhase.MADE:
        raise _refusal(stand)
    found = await asyncio.to_thread(losses.report, snapshot_id)
    if found is None:
        raise ApiError(503, "The report is being replaced just now.", "ask again")
    return found


def _refusal(stand: LossStand) -> ApiError:
    if stand.phase is LossPhase.NONE:
        hint = "POST here has it made (scope operate), and so does asking for values"
        return ApiError(409, "There is no loss report yet.", hint)
    reason = stand.reason or "nobody knows why"
    detail = f"There is no loss report: {reason}."
    return ApiError(409, detail, stand.hint or None)


def _progress(snapshot_id: str, stand: LossStand) -> Response:
    """Return 202 with how far it is."""
    body = _progress_out(snapshot_id, stand).model_dump_json()
    headers = {"Retry-After": RETRY_S, "Cache-Control": "no-store"}
    return Response(body, 202, headers, media_type="application/json")


def _progress_out(snapshot_id: str, stand: LossStand) -> LossProgressOut:
    running = stand.phase is LossPhase.RUNNING
    return LossProgressOut(
        id=snapshot_id,
        state="running" if running else "queued",
        doing=stand.doing if running else stand.reason,
        done=stand.done,
        total=stand.total,
    )


def _out(report: Report) -> LossReport:
    return LossReport.model_validate(plain(report))


def without_values(report: Report) -> Report:
    """Return a report that shows no value of any row."""
    tables = tuple(replace(table, samples=()) for table in report.tables)
    managers = tuple(replace(one, entities=()) for one in report.managers)
    return replace(report, tables=tables, managers=managers)
