"""Snapshots: the catalogue beside this agent, one on demand, the check."""

import asyncio

from fastapi import APIRouter, Response

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_keeping import (
    CaptureIn,
    ElsewhereOut,
    SnapshotBegunOut,
    SnapshotOut,
    SnapshotsOut,
    VerifyOut,
)
from agent.api.models_shelf import KeptOut, OffsiteOut
from agent.api.ports import SnapshotCard
from agent.api.ports_managers import ManagerSnapshotCard
from agent.api.present import Frame, capture_out
from agent.api.present.frame import lsn_text, rfc3339, rfc3339_or_none
from agent.api.present.side import side
from agent.api.problems import ApiError
from agent.api.routes.status import Wait
from agent.api.tokens import Scope
from agent.core.capture import Capture, Phase
from agent.core.event import CaptureAsked
from agent.core.protection import unfinished
from agent.errors import ManagerError
from agent.snapshot.marks import Kept, Twin

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"])
NO_SNAPSHOT = "There is no snapshot of this id beside this agent."
LIST_HINT = "ids are listed by `splitguard snapshots list`"


@router.get("", summary="Snapshots, latest first", dependencies=[needs(Scope.READ)])
async def list_snapshots(ctx: Ctx) -> SnapshotsOut:
    """Return the catalogue beside this agent, and what its peers told of theirs."""
    return await catalogue(ctx)


@router.post(
    "",
    summary="Take a full snapshot of the server beside this agent",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
)
async def create_snapshot(
    ctx: Ctx, response: Response, question: CaptureIn | None = None
) -> SnapshotBegunOut:
    """Order a snapshot; what is being captured already is widened to a full copy."""
    desk = ctx.desk
    if not desk.policy.capture_enabled:
        raise ApiError(409, "Captures are switched off.", "set capture.enabled = true")
    if not desk.policy.spec(desk.policy.me).has_postgres:
        raise ApiError(409, "There is no PostgreSQL beside this agent.")
    if not desk.policy.spec(desk.policy.me).local:
        raise ApiError(
            409,
            "PostgreSQL and its agent stand on two machines (local = false).",
            "run an agent on the database's own machine; only that one can copy it",
        )
    wanted = f"{desk.policy.me}-{ctx.options.new_id()}"
    reason = (question or CaptureIn()).reason
    state = await desk.submit(CaptureAsked(desk.now(), wanted, reason))
    capture = _capture(ctx.frame(), wanted) or unfinished(state, desk.policy)
    if capture is None:
        raise ApiError(503, "The snapshot was not begun.", "see `splitguard status`")
    response.headers["Location"] = f"/v1/snapshots/{capture.order.capture_id}"
    begun = _merged(ctx.frame(), None, capture)
    joined = capture.order.capture_id != wanted
    return SnapshotBegunOut(**begun.model_dump(), joined=joined)


@router.get("/{snapshot_id}", summary="One snapshot", dependencies=[needs(Scope.READ)])
async def get_snapshot(ctx: Ctx, snapshot_id: str, wait: Wait = 0.0) -> SnapshotOut:
    """Return one snapshot; with `wait`, once it is finished or the time is up."""
    await ctx.until(lambda: _settled(ctx.frame(), snapshot_id), wait)
    return await one(ctx, snapshot_id)


@router.post(
    "/{snapshot_id}/verify",
    summary="Read a snapshot back and compare it with its manifest",
    dependencies=[needs(Scope.OPERATE)],
)
async def verify_snapshot(ctx: Ctx, snapshot_id: str) -> VerifyOut:
    """Check every file; a snapshot that is not whole is an answer, not an error."""
    if await asyncio.to_thread(ctx.shelf.show, snapshot_id) is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    result = await asyncio.to_thread(ctx.shelf.verify, snapshot_id)
    return VerifyOut(
        id=result.id,
        ok=result.ok,
        grade=result.grade,
        files=result.files,
        bytes=result.bytes,
        problems=list(result.problems),
        notes=list(result.notes),
    )


async def catalogue(ctx: Context) -> SnapshotsOut:
    """Return all snapshots that this agent knows of."""
    cards = await asyncio.to_thread(ctx.shelf.list)
    frame = ctx.frame()
    on_disk = {card.id for card in cards}
    begun = [
        _merged(frame, None, capture)
        for capture in reversed(frame.state.ledger.captures)
        if capture.order.capture_id not in on_disk
        and capture.status.phase is not Phase.CLOSED
    ]
    kept = [_merged(frame, card, _capture(frame, card.id)) for card in cards]
    managers = await _of_managers(ctx)
    return SnapshotsOut(
        snapshots=[_joined(each, managers) for each in begun + kept],
        elsewhere=_elsewhere(ctx, frame),
    )


async def one(ctx: Context, snapshot_id: str) -> SnapshotOut:
    """Return one snapshot; raise ApiError when there is none of this id."""
    card = await asyncio.to_thread(ctx.shelf.show, snapshot_id)
    frame = ctx.frame()
    capture = _capture(frame, snapshot_id)
    if card is None and capture is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    return _joined(_merged(frame, card, capture), await _of_managers(ctx))


async def _of_managers(ctx: Context) -> tuple[ManagerSnapshotCard, ...]:
    """Return the managers' snapshots here; none where they cannot be read."""
    shelf = ctx.options.managers
    if shelf is None:
        return ()
    try:
        return await asyncio.to_thread(shelf.list)
    except ManagerError:
        return ()  # their own route says why


def _joined(
    found: SnapshotOut, managers: tuple[ManagerSnapshotCard, ...]
) -> SnapshotOut:
    """Return the snapshot with the managers' snapshots of the same incident."""
    ids = [
        one.id
        for one in managers
        if one.capture_id == found.id or set(one.incident_ids) & set(found.incidents)
    ]
    return found.model_copy(update={"manager_snapshots": ids}) if ids else found


def _settled(frame: Frame, snapshot_id: str) -> bool:
    """Whether nothing more is to be awaited of it."""
    capture = _capture(frame, snapshot_id)
    return capture is None or capture.status.phase in (Phase.CLOSED, Phase.FAILED)


def _capture(frame: Frame, snapshot_id: str) -> Capture | None:
    for capture in frame.state.ledger.captures:
        if capture.order.capture_id == snapshot_id:
            return capture
    return None


def _merged(
    frame: Frame, card: SnapshotCard | None, capture: Capture | None
) -> SnapshotOut:
    """Return what the manifest says, or before there is one, what the order says."""
    progress = capture_out(capture) if capture is not None else None
    if card is not None:
        return SnapshotOut(
            id=card.id,
            node=card.node,
            cluster=card.cluster,
            created=rfc3339(card.created_wall_s),
            grade=card.grade,
            levels=list(card.levels),
            method=card.method,
            method_note=card.method_note,
            reason=card.reason,
            incidents=list(card.incident_ids),
            system_id=card.system_id,
            timeline=card.timeline,
            start_lsn=card.start_lsn,
            end_lsn=card.end_lsn,
            bytes=card.bytes,
            files=card.files,
            closed=card.closed,
            side=side(frame, card.node, card.incident_ids),
            capture=progress,
            kept=_kept(card.kept),
            offsite=offsite_out(card.twin),
            rows_from=card.rows_from,
            rows_lsn=card.rows_lsn,
        )
    if capture is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    order, status = capture.order, capture.status
    return SnapshotOut(
        id=order.capture_id,
        node=order.node,
        cluster=frame.policy.cluster,
        created=rfc3339(capture.ordered_wall_s),
        grade=status.grade.value,
        levels=[level.value for level in order.levels],
        method=status.method,
        method_note="",
        reason=order.reason,
        incidents=list(order.incident_ids),
        system_id=None,
        timeline=status.timeline,
        start_lsn=lsn_text(status.start_lsn),
        end_lsn=lsn_text(status.reached_lsn),
        bytes=status.bytes_done,
        files=0,
        closed=status.phase is Phase.CLOSED,
        side=side(frame, order.node, order.incident_ids),
        capture=progress,
        rows_from=lsn_text(status.rows_from),
        rows_lsn=lsn_text(status.rows_lsn),
    )


def _kept(mark: Kept | None) -> KeptOut | None:
    if mark is None:
        return None
    return KeptOut(who=mark.who, reason=mark.reason, since=rfc3339(mark.wall_s))


def offsite_out(twin: Twin | None) -> OffsiteOut | None:
    """Return what became of an archive off-site; None when none was sent."""
    if twin is None:
        return None
    when = twin.verified_wall_s
    return OffsiteOut(
        url=twin.url or None,
        bytes=twin.size,
        sha256=twin.sha256 or None,
        verified=None if when is None else rfc3339(when),
        attempts=twin.attempts,
        error=twin.error or None,
    )


def _elsewhere(ctx: Context, frame: Frame) -> list[ElsewhereOut]:
    found = []
    for spec in frame.policy.nodes:
        heard = frame.report(spec.name)
        if heard is None or spec.name == frame.policy.me:
            continue
        found += [
            ElsewhereOut(
                id=brief.id,
                node=brief.node,
                reporter=spec.name,
                side=side(frame, brief.node, brief.incidents),
                phase=brief.phase,
                grade=brief.grade,
                timeline=brief.timeline,
                reached_lsn=lsn_text(brief.reached_lsn),
                bytes=brief.size_bytes,
                ordered=rfc3339_or_none(brief.ordered_wall_s),
                incidents=list(brief.incidents),
                agent_url=ctx.options.agent_urls.get(spec.name),
            )
            for brief in heard[0].captures
        ]
    return found
