"""The stand-in manager's snapshot routes.

They follow the manager's contract: creating answers with an execution and goes on
in the background; a restore answers with the execution's id in the shape of a
snapshot; a download gives the archive with its length; what is not there is 404.
"""

import asyncio
import re
import uuid
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Header, Request
from fastapi.responses import FileResponse

from agent.lab.archive import UnreadableArchiveError, read_archive, write_archive
from agent.lab.database import Database, TakenError
from agent.lab.manager_api import (
    PREFIX,
    ManagerError,
    Office,
    client_of,
    listing,
    plain,
    require_active,
)
from agent.lab.plan import Plan
from agent.lab.schema import KINDS

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,255}")
UPLOAD_BYTES_MAX = 256 * 1024 * 1024


class SnapshotDesk:
    """Makes, keeps and restores the manager's snapshots. Blocking."""

    def __init__(self, office: Office, database: Database, folder: Path) -> None:
        self.restoring = False
        self.database = database
        self._office = office
        self._folder = folder

    def path(self, name: str) -> Path:
        """Return where a snapshot's archive is."""
        return self._folder / "snapshots" / name / f"{name}.zip"

    def find(self, tenant: str, name: str) -> dict[str, Any]:
        """Return a snapshot's row; raises the manager's 404."""
        require_active(self._office)
        rows = self.database.snapshots(tenant, name)
        if not rows:
            message = f"Requested `Snapshot` with ID `{name}` was not found"
            raise ManagerError(404, "not_found_error", message)
        return rows[0]

    def begin(self, tenant: str, name: str, status: str) -> None:
        """Add a snapshot's row; raises the manager's 400 and 409."""
        require_active(self._office)
        if not NAME.fullmatch(name):
            message = f"`snapshot_id` argument value is not valid: {name[:40]!r}"
            raise ManagerError(400, "bad_parameters_error", message)
        try:
            self.database.put_snapshot(tenant, name, status)
        except TakenError as error:
            message = f"<Snapshot id=`{name}` tenant=`{tenant}`> already exists"
            raise ManagerError(409, "conflict_error", message) from error

    def make(self, tenant: str, name: str) -> None:
        """Write the archive; note in the row how that went."""
        try:
            rows = {kind: self.database.objects(kind, tenant) for kind in KINDS}
            write_archive(self.path(name), tenant, rows)
        except OSError as error:
            self.database.set_snapshot(tenant, name, "failed", str(error))
        else:
            self.database.set_snapshot(tenant, name, "created", "")

    def restore(self, name: str) -> None:
        """Merge an archive's rows into the database."""
        self.restoring = True
        try:
            for item in read_archive(self.path(name)):
                self.database.merge(item)
        except UnreadableArchiveError:
            return  # a real manager answers 200 too, and only its execution fails
        finally:
            self.restoring = False

    def remove(self, tenant: str, name: str) -> None:
        """Remove row and archive."""
        self.database.drop_snapshot(tenant, name)
        self.path(name).unlink(missing_ok=True)


def snapshot_routes(desk: SnapshotDesk, plan: Plan) -> APIRouter:
    """Return the routes under `/api/v3.1`."""
    router = APIRouter(prefix=PREFIX)
    client = client_of(plan)
    _add_reading(router, desk, client)
    _add_changing(router, desk, client)
    _add_restoring(router, desk, client)
    return router


def _add_reading(router: APIRouter, desk: SnapshotDesk, client: Any) -> None:  # noqa: ANN401 - a Depends
    @router.get("/snapshots")
    def snapshots(tenant: str = client) -> dict[str, Any]:
        return listing([_shown(row) for row in desk.database.snapshots(tenant)])

    @router.get("/snapshots/{name}")
    def snapshot(name: str, tenant: str = client) -> dict[str, Any]:
        return plain(_shown(desk.find(tenant, name)))

    @router.api_route("/snapshots/{name}/archive", methods=["GET", "HEAD"])
    def download(name: str, tenant: str = client) -> FileResponse:
        row = desk.find(tenant, name)
        if row["status"] == "failed":
            message = "Failed snapshot cannot be downloaded"
            raise ManagerError(400, "snapshot_action_error", message)
        if not desk.path(name).exists():
            raise ManagerError(404, "not_found_error", "The archive is not there")
        return FileResponse(desk.path(name), filename=f"{name}.zip")

    @router.get("/snapshot-status")
    def restore_status() -> dict[str, str]:
        return {"status": "running" if desk.restoring else "not-running"}


def _add_changing(router: APIRouter, desk: SnapshotDesk, client: Any) -> None:  # noqa: ANN401 - a Depends
    @router.put("/snapshots/{name}", status_code=201)
    def create(
        name: str,
        background: BackgroundTasks,
        tenant: str = client,
        content_type: Annotated[str, Header()] = "",
    ) -> dict[str, Any]:
        if content_type != "application/json":
            message = "Content type must be application/json"
            raise ManagerError(415, "unsupported_content_type_error", message)
        desk.begin(tenant, name, "creating")
        background.add_task(desk.make, tenant, name)
        return _execution("create_snapshot", tenant)

    @router.delete("/snapshots/{name}")
    def delete(name: str, tenant: str = client) -> dict[str, Any]:
        row = desk.find(tenant, name)
        desk.remove(tenant, name)
        return plain(_shown(row))


def _add_restoring(router: APIRouter, desk: SnapshotDesk, client: Any) -> None:  # noqa: ANN401 - a Depends
    @router.put("/snapshots/{name}/archive", status_code=201)
    async def upload(
        name: str, request: Request, tenant: str = client
    ) -> dict[str, Any]:
        path = desk.path(name)
        await asyncio.to_thread(desk.begin, tenant, name, "uploaded")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        received = 0
        with path.open("wb") as file:
            async for piece in request.stream():
                received += len(piece)
                if received > UPLOAD_BYTES_MAX:
                    raise ManagerError(400, "bad_parameters_error", "too large")
                file.write(piece)
        row = await asyncio.to_thread(desk.find, tenant, name)
        return plain(_shown(row))

    @router.post("/snapshots/{name}/restore")
    def restore(
        name: str,
        background: BackgroundTasks,
        force: Annotated[bool, Body(embed=True)],  # noqa: ARG001 - required, ignored
        tenant: str = client,
    ) -> dict[str, Any]:
        row = desk.find(tenant, name)
        if row["status"] == "failed":
            message = "Failed snapshot cannot be restored"
            raise ManagerError(400, "snapshot_action_error", message)
        background.add_task(desk.restore, name)
        execution = _execution("restore_snapshot", tenant)
        return {**plain(_shown(row)), "id": execution["id"], "status": "pending"}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    more = {"visibility": "private", "created_by": "admin", "private_resource": False}
    return {**row, **more, "resource_availability": "private"}


def _execution(workflow: str, tenant: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "workflow_id": workflow,
        "status": "pending",
        "is_system_workflow": True,
        "deployment_id": None,
        "error": "",
        "tenant_name": tenant,
        "created_by": "admin",
    }
