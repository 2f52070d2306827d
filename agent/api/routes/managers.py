"""The managers: what they say of themselves, and their snapshots that are kept here."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_managers import (
    CertificateOut,
    ManagerCareOut,
    ManagerMemberOut,
    ManagerSightOut,
    ManagerSnapshotBegunOut,
    ManagerSnapshotIn,
    ManagerSnapshotOut,
    ManagerSnapshotsOut,
    ManagersOut,
)
from agent.api.ports_managers import ManagerSnapshotCard, ManagerSnapshots
from agent.api.present import Frame
from agent.api.present.frame import rfc3339, rfc3339_or_none, short
from agent.api.problems import ApiError
from agent.api.routes.snapshots import offsite_out
from agent.api.tokens import Scope
from agent.core.care import ManagerCare
from agent.core.observation import Channel, Observation
from agent.errors import ManagerError

router = APIRouter(prefix="/v1", tags=["managers"])
T = TypeVar("T")
NO_SNAPSHOT = "There is no manager's snapshot of this id beside this agent."
LIST_HINT = "GET /v1/manager-snapshots lists them"


@router.get(
    "/managers",
    summary="What the managers say of themselves",
    dependencies=[needs(Scope.READ)],
)
async def get_managers(ctx: Ctx) -> ManagersOut:
    """Return what is known of the manager here, and who says that it is active."""
    frame = ctx.frame()
    care = frame.state.view.care
    sights = [
        _sight(frame, spec.name, seen)
        for spec in frame.policy.nodes
        if spec.has_manager
        and (seen := frame.latest(spec.name, Channel.MANAGER)) is not None
    ]
    return ManagersOut(
        node=frame.policy.me,
        here=None if care is None else _care(care),
        managers=sights,
    )


@router.get(
    "/manager-snapshots",
    summary="The managers' snapshots that are kept here, latest first",
    dependencies=[needs(Scope.READ)],
)
async def list_manager_snapshots(ctx: Ctx) -> ManagerSnapshotsOut:
    """Return what lies beside this agent; other agents have their own."""
    shelf = ctx.options.managers
    cards = () if shelf is None else await _blocking(shelf.list)
    care = ctx.desk.state.view.care
    return ManagerSnapshotsOut(
        running=(care.running or None) if care is not None else None,
        snapshots=[_out(card) for card in cards],
    )


@router.post(
    "/manager-snapshots",
    summary="Have the manager beside this agent take a snapshot",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
)
async def create_manager_snapshot(
    ctx: Ctx, response: Response, question: ManagerSnapshotIn | None = None
) -> ManagerSnapshotBegunOut:
    """Have one made, fetched, checked and kept. It is listed once it is whole."""
    shelf = ctx.options.managers
    why, hint = ("There is no manager beside this agent.", "")
    if shelf is not None:
        why, hint = shelf.refusal()
    if shelf is None or why:
        raise ApiError(409, why, hint or None)
    begun = shelf.ask((question or ManagerSnapshotIn()).reason)
    if begun is None:
        raise ApiError(
            503, "Several snapshots wait to be made already.", "ask again later"
        )
    response.headers["Location"] = f"/v1/manager-snapshots/{begun}"
    return ManagerSnapshotBegunOut(id=begun)


@router.get(
    "/manager-snapshots/{snapshot_id}",
    summary="One of the managers' snapshots",
    dependencies=[needs(Scope.READ)],
)
async def get_manager_snapshot(ctx: Ctx, snapshot_id: str) -> ManagerSnapshotOut:
    """Return what its manifest says."""
    _, card = await _card(ctx, snapshot_id)
    return _out(card)


@router.get(
    "/manager-snapshots/{snapshot_id}/archive",
    summary="The manager's snapshot as it lies here",
    dependencies=[needs(Scope.DATA)],
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def get_manager_archive(ctx: Ctx, snapshot_id: str) -> FileResponse:
    """Stream the zip, or where it is encrypted what age makes of it."""
    shelf, card = await _card(ctx, snapshot_id)
    path = await _blocking(lambda: shelf.archive(snapshot_id))
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=card.file,
        headers={"Cache-Control": "no-store", "ETag": f'"{card.stored_sha256}"'},
    )


async def _blocking(call: Callable[[], T]) -> T:
    """Return what a blocking call returns, its errors in the words of the API."""
    try:
        return await asyncio.to_thread(call)
    except ManagerError as error:
        raise ApiError(500, error.message, error.hint or None) from error


async def _card(
    ctx: Context, snapshot_id: str
) -> tuple[ManagerSnapshots, ManagerSnapshotCard]:
    shelf = ctx.options.managers
    if shelf is not None:
        card = await _blocking(lambda: shelf.show(snapshot_id))
        if card is not None:
            return shelf, card
    raise ApiError(404, NO_SNAPSHOT, LIST_HINT)


def _sight(frame: Frame, node: str, seen: Observation) -> ManagerSightOut:
    manager = seen.manager
    return ManagerSightOut(
        node=node,
        outcome=seen.outcome.value,
        reason=seen.reason or None,
        active=None if manager is None else manager.says,
        version=None if manager is None else manager.version,
        age_s=short(frame.age_s(seen)),
    )


def _care(care: ManagerCare) -> ManagerCareOut:
    return ManagerCareOut(
        version=care.version or None,
        active=care.active,
        cluster=care.cluster or None,
        members=[
            ManagerMemberOut(
                kind=one.kind, name=one.name, address=one.address, status=one.status
            )
            for one in care.members
        ],
        refused_login=care.refused_login or None,
        running=care.running or None,
        failed=care.failed or None,
        failed_at=rfc3339_or_none(care.failed_wall_s),
        last_good=rfc3339_or_none(care.last_good_wall_s),
        scheduled=care.scheduled,
        alert_after_s=care.alert_after_s or None,
    )


def _out(card: ManagerSnapshotCard) -> ManagerSnapshotOut:
    return ManagerSnapshotOut(
        id=card.id,
        node=card.node,
        manager=card.manager,
        version=card.version,
        format=card.archive_format,
        reason=card.reason,
        scheduled=card.scheduled,
        incidents=list(card.incident_ids),
        capture=card.capture_id or None,
        execution=card.execution_id,
        created=rfc3339(card.created_wall_s),
        kept=rfc3339(card.kept_wall_s),
        bytes=card.size_bytes,
        sha256=card.sha256,
        file=card.file,
        stored_bytes=card.stored_bytes,
        stored_sha256=card.stored_sha256,
        sealed=card.sealed,
        members=card.members,
        counts=dict(card.counts),
        certificates=[
            CertificateOut(
                path=one.path,
                mode=f"{one.mode:04o}",
                uid=one.uid,
                gid=one.gid,
                bytes=one.size,
                sha256=one.sha256 or None,
                link=one.link or None,
            )
            for one in card.certificates
        ],
        problems=list(card.problems),
        removed_there=card.removed_there,
        offsite=offsite_out(card.twin),
    )
