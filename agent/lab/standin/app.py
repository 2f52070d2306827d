"""The way of a request through a stand-in manager.

Theory of operation. One handler takes everything below `/api`; a request passes the
gates in the order of the field's: nginx (a dead service, the body), the cluster (4.x:
only the active manager answers), one of a few workers, the database (from 5.0.5 on a
standby is waited for, 45 s long), the route, the maintenance mode, the login, and the
write that each Basic login makes, which a standby refuses. A handler blocks, so it
runs in a thread. Other routes than the manager's own (those of the 4.x cluster) are
handed in.
"""

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import psycopg
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from agent.lab.standin import upkeep
from agent.lab.standin.answers import (
    TLS_WANTED,
    Misread,
    Refusal,
    Unforeseen,
    error,
    internal,
    nginx_html,
    reply,
)
from agent.lab.standin.asked import Asked, query_of
from agent.lab.standin.desk import Desk
from agent.lab.standin.door import Door
from agent.lab.standin.routing import (
    FREE_IN_MAINTENANCE,
    FREE_WITHOUT_LICENSE,
    HELD_WHILE_ACTIVATING,
    OBJECT_ROUTES,
    ROUTES,
    Found,
    Route,
    Router,
)
from agent.lab.standin.rows import Rows
from agent.lab.standin.traits import WORKERS, Connect, Faults, Office, Traits
from agent.lab.standin.works import Works

BODY_BYTES_MAX = 1024 * 1024
UPLOAD_BYTES_MAX = 4 * 1024**3
PIECE = 64 * 1024
LOOK_S = 1.0
READ_ONLY = "cannot execute UPDATE in a read-only transaction"
MASTER = (
    "This node is not the cluster's active manager. The client should query the "
    "cluster status to learn the master's address"
)
MAINTENANCE_WORDS = (
    "Your request was rejected since Cloudify manager is currently in maintenance mode"
)


class Standin:
    """One stand-in manager, behind its application."""

    def __init__(self, desk: Desk, routes: Iterable[Route]) -> None:
        self.desk = desk
        self._router = Router(desk.traits, routes)
        self._workers = asyncio.Semaphore(WORKERS)

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        faults = self.desk.faults
        if self.desk.traits.ssl_required:
            body = {"message": TLS_WANTED, "error_code": "SSL_REQUIRED"}
            return reply(body, 400)
        if faults.html:
            return nginx_html(502, "Bad Gateway")
        async with self._workers:
            faults.in_flight += 1
            try:
                response = await self._answer(request)
            finally:
                faults.in_flight -= 1
        if isinstance(response, FileResponse) and faults.cut_after:
            return Broken(response, faults.cut_after)
        return response

    async def _answer(self, request: Request) -> Response:
        told = not self.desk.traits.all_active
        spooled: Path | None = None
        try:
            self._check_active(request)
            found = self._router.find(request.method, request.url.path)
            asked = _asked(request)
            if found.route.uploads:
                spooled = self._spool()
                await _to_file(request, spooled)
                asked.spooled = spooled
            else:
                asked.body = await _read(request)
            return await run_in_threadpool(self._handle, found, asked)
        except (Refusal, Misread) as refused:
            return refused.response
        except Unforeseen as why:
            return internal(why.kind, why.message, told=told)
        except psycopg.Error as why:
            kind = f"(psycopg2.{type(why).__name__})"
            return internal("OperationalError", f"{kind} {why}"[:500], told=told)
        finally:
            if spooled is not None:
                spooled.unlink(missing_ok=True)

    def _handle(self, found: Found, asked: Asked) -> Response:
        """Wait for a database that takes writes, and do it. Blocking.

        From 5.0.5 on a standby is asked again and again; then the request goes on.
        """
        desk = self.desk
        if desk.faults.database_down:
            raise psycopg.OperationalError(
                "connection to server failed: Connection refused"
            )
        until = time.monotonic() + desk.traits.stall_s
        while True:
            with desk.rows.session():
                standby = desk.rows.in_recovery
                late = time.monotonic() >= until or desk.closing.is_set()
                if not standby or late or not desk.traits.all_active:
                    return self._pass(found, asked, standby=standby)
            desk.closing.wait(min(LOOK_S, desk.traits.stall_s / 10))

    def _pass(self, found: Found, asked: Asked, *, standby: bool) -> Response:
        """Pass the gates that need the database, and do it. Blocking."""
        route, desk = found.route, self.desk
        self._check_license(route)
        refused = self._in_maintenance(route, asked)
        if refused is not None:
            return refused
        open_here = route.path == "status" and desk.traits.open_status
        if route.login and not open_here:
            desk.door.enter(asked)
            if standby and route.path.split("/")[0] != "cluster":
                raise Unforeseen(
                    "InternalError", f"(psycopg2.ReadOnlySqlTransaction) {READ_ONLY}"
                )
            if route.action:
                desk.door.permit(asked, route.action)
        return route.handler(desk, asked, *found.names)

    def _check_license(self, route: Route) -> None:
        """Refuse what a premium manager does not do without a license."""
        traits = self.desk.traits
        free = route.path.split("/")[0] in FREE_WITHOUT_LICENSE
        if traits.license == "valid" or free or not traits.all_active:
            return
        words = f"The license of this manager is {traits.license}"
        raise Refusal(400, f"{traits.license}_cloudify_license", words)

    def _check_active(self, request: Request) -> None:
        """Refuse as a manager of the 4.x line does that is not the active one.

        The routes of the cluster itself it answers, and the lab's. Raises Refusal.
        """
        office = self.desk.office
        if office.active or request.url.path.startswith("/lab/"):
            return
        if re.fullmatch(r"/api/v[\d.]+/cluster(/.*)?", request.url.path):
            return
        if office.removed:
            message = "This node was removed from the cluster"
            raise Refusal(400, "removed_from_cluster", message)
        raise Refusal(400, "not_cluster_master", MASTER)

    def _in_maintenance(self, route: Route, asked: Asked) -> Response | None:
        """Return what maintenance mode answers; None: it lets the request pass."""
        mode = upkeep.settled_mode(self.desk)
        bypass = asked.headers.get("x-bypass-maintenance", "").lower() == "true"
        if mode == upkeep.OFF or bypass:
            return None
        if mode == "activating":
            held = asked.method in HELD_WHILE_ACTIVATING.get(route.path, ())
            code = "entering_maintenance_mode"
        else:
            held = route.path.split("/")[0] not in FREE_IN_MAINTENANCE
            code = "maintenance_mode_active"
        return error(503, code, MAINTENANCE_WORDS, "None\n") if held else None

    def _spool(self) -> Path:
        folder = self.desk.folder / "snapshots" / ".uploading"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / secrets.token_hex(8)

    def close(self) -> None:
        """End what waits, and take no more executions."""
        self.desk.closing.set()
        self.desk.works.close()


def make_desk(
    office: Office, connect: Connect, traits: Traits, folder: Path, faults: Faults
) -> Desk:
    """Return a manager's desk; `folder` is its own and is made where it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(folder / "snapshots" / ".uploading", ignore_errors=True)
    rows = Rows(connect)
    works = Works(rows, traits, faults, folder)
    door = Door(traits, rows)
    return Desk(office, traits, faults, rows, door, works, folder)


def add_to(app: FastAPI, desk: Desk, more: Iterable[Route] = ()) -> Standin:
    """Put a stand-in manager's `/api` into an application, after its other routes."""
    standin = Standin(desk, (*ROUTES, *OBJECT_ROUTES, *more))
    methods = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]
    answer: Callable[[Request], Awaitable[Response]] = standin.answer
    app.add_api_route("/{path:path}", answer, methods=methods, response_model=None)
    return standin


class Broken(Response):
    """A download whose connection breaks after so many bytes of each answer."""

    def __init__(self, whole: Response, after: int) -> None:
        super().__init__()
        self._whole = whole
        self._left = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a part of it; the server then ends the connection."""

        async def send_part(message: Message) -> None:
            body = message.get("body", b"")
            if self._left < 0:
                return
            if len(body) > self._left:
                part = body[: self._left]
                message = {**message, "body": part, "more_body": True}
            self._left -= len(body)
            await send(message)

        await self._whole(scope, receive, send_part)


def _asked(request: Request) -> Asked:
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = query_of(request.url.query)
    return Asked(request.method, request.url.path, query, headers)


async def _read(request: Request) -> bytes:
    """Return the body. Raises Misread: it is too large for nginx."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise Misread(413, "Request Entity Too Large", "")
    return body


async def _to_file(request: Request, path: Path) -> None:
    """Write the body to a file. Raises Misread: it is too large for nginx."""
    left = UPLOAD_BYTES_MAX
    with path.open("wb") as file:
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                raise Misread(413, "Request Entity Too Large", "")
            file.write(piece)
