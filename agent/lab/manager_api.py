"""The stand-in manager's REST API: what clients and agents see of it.

Theory of operation. `/api/v3.1` follows the manager's contract thinly but truly:
`status` answers 200 on the active manager and 400 elsewhere; objects are rows of
the PostgreSQL beside it; snapshots are made, kept, downloaded, uploaded and
restored. Every other route of it needs HTTP Basic and a `Tenant` header. `/lab/v1`
is the lab's own: what managers tell each other, behind the lab's internal token.
Handlers that touch the database block and run in threads.
"""

import base64
import hmac
from typing import Annotated, Any, Protocol

import psycopg
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse

from agent.codec import to_plain
from agent.lab.database import Database, Item, TakenError
from agent.lab.plan import TENANT, Plan
from agent.lab.schema import KINDS
from agent.lab.standing import Standing

PREFIX = "/api/v3.1"
CONTENT_MAX = 64 * 1024


class Office(Protocol):
    """What the API asks of the machine that it belongs to."""

    @property
    def active(self) -> bool:
        """Whether this manager takes writes."""
        ...

    @property
    def standing(self) -> Standing:
        """What it says of itself."""
        ...

    async def promote(self, why: str) -> None:
        """Promote the server and become active."""
        ...

    async def prepare(self, histories: dict[str, str]) -> None:
        """Make the server ready to be a source for a node with these histories."""
        ...


class ManagerError(Exception):
    """An answer in the manager's own form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def make_manager_app(office: Office, database: Database, plan: Plan) -> FastAPI:
    """Return the application without the snapshot routes."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(ManagerError, _manager_error)
    app.add_exception_handler(psycopg.Error, _database_error)
    app.include_router(_status_routes(office))
    app.include_router(_object_routes(office, database, plan))
    app.include_router(_lab_routes(office, plan))
    return app


def client_of(plan: Plan) -> Any:  # noqa: ANN401 - what FastAPI's Depends returns
    """Return a dependency: checks the password, gives the tenant."""
    known = base64.b64encode(f"admin:{plan.secrets.manager}".encode()).decode()

    def check(
        authorization: Annotated[str, Header()] = "",
        tenant: Annotated[str, Header()] = "",
    ) -> str:
        if not hmac.compare_digest(authorization.encode(), f"Basic {known}".encode()):
            raise ManagerError(401, "unauthorized_error", "User unauthorized")
        if not tenant:
            message = "Authorization failed: tenant not provided"
            raise ManagerError(403, "forbidden_error", message)
        if tenant != TENANT:
            message = (
                "Authorization failed: Tried to authenticate with invalid tenant "
                f"name: {tenant}"
            )
            raise ManagerError(403, "forbidden_error", message)
        return tenant

    return Depends(check)


def require_active(office: Office) -> None:
    """Raise what a manager answers that is not the active one."""
    if not office.active:
        raise ManagerError(
            400,
            "not_cluster_master",
            "This node is not the cluster's active manager; query the cluster status "
            "to learn the active one's address",
        )


def listing(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return items in the form of the manager's lists."""
    pagination = {"total": len(items), "size": 1000, "offset": 0}
    metadata = {"pagination": pagination, "filtered": None}
    return {"items": [plain(item) for item in items], "metadata": metadata}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON has it; the serial key stays inside."""
    shown = {key: value for key, value in row.items() if key != "_storage_id"}
    if "created_at" in shown:
        stamp = shown["created_at"].isoformat(timespec="milliseconds")
        shown["created_at"] = stamp.replace("+00:00", "Z")
    return shown


def _status_routes(office: Office) -> APIRouter:
    router = APIRouter()

    @router.get(f"{PREFIX}/status")
    def status() -> dict[str, Any]:
        require_active(office)
        return {"status": "running", "services": []}

    @router.get(f"{PREFIX}/version")
    def version() -> dict[str, str]:
        return {"edition": "lab", "version": "4.5.5"}

    return router


def _object_routes(office: Office, database: Database, plan: Plan) -> APIRouter:
    router = APIRouter()
    client = client_of(plan)

    def add_kind(kind: str) -> None:
        @router.get(f"{PREFIX}/{kind}")
        def items(tenant: str = client) -> dict[str, Any]:
            require_active(office)
            return listing(database.objects(kind, tenant))

        @router.api_route(
            f"{PREFIX}/{kind}/{{name}}", methods=["PUT", "POST"], status_code=201
        )
        def create(
            name: str,
            content: Annotated[str, Body(embed=True, max_length=CONTENT_MAX)],
            tenant: str = client,
        ) -> dict[str, str]:
            require_active(office)
            try:
                database.add(Item(kind, name, content, tenant))
            except TakenError as error:
                message = f"{kind} {error} already exists"
                raise ManagerError(409, "conflict_error", message) from error
            return {"id": name, "tenant_name": tenant, "content": content}

    for kind in KINDS:
        add_kind(kind)
        _add_changes(router, office, database, kind, client)
    return router


def _add_changes(
    router: APIRouter,
    office: Office,
    database: Database,
    kind: str,
    client: Any,  # noqa: ANN401 - a Depends
) -> None:
    @router.patch(f"{PREFIX}/{kind}/{{name}}")
    def describe(
        name: str,
        description: Annotated[str, Body(embed=True, max_length=CONTENT_MAX)],
        tenant: str = client,
    ) -> dict[str, str]:
        require_active(office)
        if not database.describe(Item(kind, name, tenant=tenant), description):
            raise _missing(kind, name)
        return {"id": name, "tenant_name": tenant, "description": description}

    @router.delete(f"{PREFIX}/{kind}/{{name}}")
    def remove(name: str, tenant: str = client) -> dict[str, str]:
        require_active(office)
        if not database.remove(Item(kind, name, tenant=tenant)):
            raise _missing(kind, name)
        return {"id": name, "tenant_name": tenant}


def _missing(kind: str, name: str) -> ManagerError:
    message = f"Requested {kind[:-1]} with ID `{name}` was not found"
    return ManagerError(404, "not_found_error", message)


def _lab_routes(office: Office, plan: Plan) -> APIRouter:
    known = f"Bearer {plan.secrets.internal}".encode()

    def check(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), known):
            raise ManagerError(401, "unauthorized_error", "User unauthorized")

    router = APIRouter(prefix="/lab/v1", dependencies=[Depends(check)])

    @router.get("/standing", response_model=None)
    async def standing() -> object:
        return to_plain(office.standing)

    @router.post("/promote", response_model=None)
    async def promote() -> object:
        await office.promote("an operator said so")
        return to_plain(office.standing)

    @router.post("/prepare", response_model=None)
    async def prepare(
        histories: Annotated[dict[str, str], Body(embed=True)],
    ) -> object:
        await office.prepare(histories)
        return to_plain(office.standing)

    return router


async def _manager_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ManagerError):
        raise error
    body = {"error_code": error.code, "message": error.message}
    return JSONResponse({**body, "server_traceback": None}, error.status)


async def _database_error(_: Request, error: Exception) -> Response:
    body = {"error_code": "internal_server_error", "message": str(error)[:300]}
    return JSONResponse({**body, "server_traceback": None}, 500)
