"""Incidents: list, one with its story, and taking one."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_incidents import AckIn, IncidentDetail, IncidentsOut
from agent.api.models_timeline import TimelineOut
from agent.api.present import Frame, incident_detail, incident_out
from agent.api.present.timeline import seen_around, timeline, windows
from agent.api.problems import ApiError
from agent.api.tokens import Principal, Scope
from agent.core.event import Acknowledged
from agent.core.incident import Incident, Status
from agent.errors import SplitguardError

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])


@router.get("", summary="Incidents, latest first", dependencies=[needs(Scope.READ)])
async def list_incidents(
    ctx: Ctx,
    status: Annotated[list[Status] | None, Query(max_length=4)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> IncidentsOut:
    """Return incidents of these statuses; of all of them when none is named."""
    frame = ctx.frame()
    wanted = set(status or Status)
    found = [
        incident_out(frame, incident)
        for incident in reversed(frame.state.ledger.incidents)
        if incident.status in wanted
    ]
    return IncidentsOut(incidents=found[:limit])


@router.get("/{incident_id}", summary="One incident", dependencies=[needs(Scope.READ)])
async def get_incident(ctx: Ctx, incident_id: str) -> IncidentDetail:
    """Return one incident with its evidence, history, notices and captures."""
    frame = ctx.frame()
    return incident_detail(frame, _find(frame, incident_id))


@router.get(
    "/{incident_id}/timeline",
    summary="Who saw what, when, and why the rule fired",
    dependencies=[needs(Scope.READ)],
)
async def get_timeline(ctx: Ctx, incident_id: str) -> TimelineOut:
    """Return in order what was seen around each turn of the incident, and its turns.

    What was seen is known as far back as the journal's rounds reach.
    """
    incident = _find(ctx.frame(), incident_id)
    rounds, me = ctx.options.rounds, ctx.desk.policy.me
    if rounds is None:
        return timeline(ctx.frame(), incident, (), None)
    await rounds.freshen()
    spans = windows(incident)
    try:
        async with ctx.looking_back:
            since_s = await asyncio.to_thread(rounds.begins)
            told = await asyncio.to_thread(
                lambda: seen_around(incident, rounds.recall(spans), me)
            )
    except SplitguardError as error:
        raise ApiError(503, error.message, error.hint or None) from error
    return timeline(ctx.frame(), incident, told, since_s)


@router.post("/{incident_id}/ack", summary="Take an incident")
async def acknowledge(
    ctx: Ctx,
    incident_id: str,
    principal: Annotated[Principal, needs(Scope.OPERATE)],
    question: AckIn | None = None,
) -> IncidentDetail:
    """Note who takes the incident; to take one that is taken changes nothing."""
    _takeable(ctx, incident_id)
    who = (question.who if question else None) or principal.name
    await ctx.desk.submit(Acknowledged(ctx.desk.now(), incident_id, who))
    frame = ctx.frame()
    return incident_detail(frame, _find(frame, incident_id))


def _find(frame: Frame, incident_id: str) -> Incident:
    for incident in frame.state.ledger.incidents:
        if incident.id == incident_id:
            return incident
    hint = "ids are listed by `splitguard incidents list`"
    raise ApiError(404, "There is no incident of this id.", hint)


def _takeable(ctx: Context, incident_id: str) -> None:
    incident = _find(ctx.frame(), incident_id)
    if incident.status is Status.PENDING:
        hint = "it opens by itself when it lasts"
        raise ApiError(409, "This incident has not opened yet.", hint)
