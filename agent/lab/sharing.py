"""The archives of the managers' snapshots, which are on every machine of a cluster.

Theory of operation. In the field Syncthing carries a manager's files to the others; a
snapshot that was made on one can be downloaded from another a moment later. Here each
manager asks those of its cluster what they have, and fetches the archives that it
lacks or has older. Only archives whose snapshot is whole by its own database are
fetched, so a deleted one does not come back. An archive appears under its name once
it is whole.
"""

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import psycopg
from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from agent.codec import from_plain, to_plain
from agent.errors import CodecError
from agent.lab.manager import Manager
from agent.lab.plan import HOST
from agent.lab.web import BODY_BYTES_MAX, Call, CallError, Reply, send

SHARE_S = 2.0
TIMEOUT_S = 20.0
PATH = "/lab/v1/archives"


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive, as the machine that has it tells of it."""

    id: str
    size_bytes: int
    made_s: float
    """When it was written; a copy keeps it."""


def sharing_routes(folder: Path) -> APIRouter:
    """Return the routes by which others fetch what lies in `folder`."""
    router = APIRouter(prefix=PATH.removeprefix("/lab/v1"))

    @router.get("", response_model=None)
    def archives() -> object:
        return [to_plain(one) for one in listed(folder).values()]

    @router.get("/{name}", response_model=None)
    def archive(name: str) -> Response:
        if name not in listed(folder):
            return Response(status_code=404)
        return FileResponse(_path(folder, name))

    return router


async def share(manager: Manager) -> None:
    """Fetch what others have, for ever."""
    while True:
        await asyncio.sleep(SHARE_S)
        for other in manager.others():
            await asyncio.to_thread(_fetch_from, manager, other)


def listed(folder: Path) -> dict[str, Archive]:
    """Return the archives below a manager's folder, by their ids."""
    found = {}
    for path in folder.glob("snapshots/*/*.zip"):
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue
        if path.stem == path.parent.name:
            found[path.stem] = Archive(path.stem, seen.st_size, seen.st_mtime)
    return found


def wanted(
    own: dict[str, Archive], told: list[Archive], whole: set[str]
) -> list[Archive]:
    """Return what to fetch of what another one tells of."""
    return [
        one
        for one in told
        if one.id in whole
        and one.size_bytes <= BODY_BYTES_MAX
        and (one.id not in own or one.made_s > own[one.id].made_s)
    ]


def _fetch_from(manager: Manager, other: str) -> None:
    """Fetch what is wanted from one other manager; what fails is tried again."""
    folder = manager.layout.manager_files
    try:
        told = from_plain(_asked(manager, other, "").json(), list[Archive])
        whole = manager.database.snapshots() if told else set()
        for one in wanted(listed(folder), told, whole):
            reply = _asked(manager, other, f"/{one.id}")
            if reply.ok and len(reply.body) == one.size_bytes:
                _keep(folder, one, reply.body)
    except (CallError, CodecError, OSError, psycopg.Error):
        return


def _asked(manager: Manager, other: str, tail: str) -> Reply:
    port = manager.plan.way(manager.name, other, "manager")
    headers = {"Authorization": f"Bearer {manager.plan.secrets.internal}"}
    url = f"http://{HOST}:{port}{PATH}{tail}"
    return send(Call("GET", url, headers, timeout_s=TIMEOUT_S))


def _keep(folder: Path, one: Archive, content: bytes) -> None:
    path = _path(folder, one.id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(8)}")
    aside.touch(mode=0o600)
    aside.write_bytes(content)
    os.utime(aside, (one.made_s, one.made_s))
    aside.replace(path)


def _path(folder: Path, name: str) -> Path:
    return folder / "snapshots" / name / f"{name}.zip"
