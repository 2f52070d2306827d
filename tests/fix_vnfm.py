"""A manager whose every answer a test writes down, word by word, and a client of it.

`answers(...)` listens and gives these answers one after the other; the client asks one
thing at a time, so their order is the order of its questions.
"""

import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent.core.moment import Moment
from agent.transport import HttpClient
from agent.vnfm.client import Login, ManagerClient
from tests.fix_network import http

NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1>\
</center>\r\n<hr><center>nginx/1.20.1</center>\r\n</body>\r\n</html>\r\n"
LOGIN = Login("admin", "s3cret-of-admin")


class Forward:
    """Implements ports.Clock: who waits has waited at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def moment(self) -> Moment:
        return Moment(self.now_s, 1.8e9 + self.now_s)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def told(body: object, status: str = "200 OK", *headers: str) -> bytes:
    """An answer in JSON."""
    kind = "content-type: application/json"
    return http(status, json.dumps(body).encode(), kind, *headers)


def refused(status: str, code: str, message: str) -> bytes:
    """A refusal in the manager's own form."""
    trace = "Traceback (most recent call last): secret-of-the-traceback"
    body = {"error_code": code, "message": message, "server_traceback": trace}
    return told(body, status)


def html(status: str) -> bytes:
    """What nginx says."""
    return http(status, NGINX.format(status).encode(), "content-type: text/html")


def snapshot(name: str = "a", status: str = "created", **more: object) -> Any:
    """A snapshot as managers tell it."""
    return {
        "created_at": "2026-11-22T17:00:54.920Z", "id": name, "visibility": "private",
        "status": status, "error": "", "tenant_name": "default_tenant",
        "created_by": "admin", "resource_availability": "private",
        "private_resource": True, **more,
    }  # fmt: skip


def execution(
    name: str = "e-1", status: str = "pending", about: str = "a", **more: object
) -> Any:
    """An execution as managers tell it, with the password that it carries."""
    parameters = {
        "snapshot_id": about, "include_credentials": True,
        "config": {"postgresql_password": "the-databases-password"},
    }  # fmt: skip
    return {
        "id": name, "workflow_id": "create_snapshot", "status": status,
        "created_at": "2026-11-22T17:00:54.920Z", "ended_at": None, "error": "",
        "is_system_workflow": True, "parameters": parameters,
        "tenant_name": "default_tenant", **more,
    }  # fmt: skip


def listed(*items: object) -> bytes:
    """A list as managers give it."""
    pagination = {"total": len(items), "size": 1000, "offset": 0}
    metadata = {"pagination": pagination, "filtered": None}
    return told({"items": list(items), "metadata": metadata})


def version(numbers: str = "7.0.5") -> bytes:
    """The answer to `/version`."""
    return told({"edition": "premium", "version": numbers, "build": None})


def archive(**files: bytes) -> bytes:
    """A zip of a manager's; names have `__` for a dot and `_of_` for a slash."""
    metadata = {"snapshot_version": "7.0.5", "execution_id": "e-1"}
    content = {"metadata__json": json.dumps(metadata).encode(), **files}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in content.items():
            made.writestr(name.replace("__", ".").replace("_of_", "/"), body)
    return out.getvalue()


ToClient = Callable[..., ManagerClient]


@pytest.fixture
async def client_of() -> AsyncIterator[ToClient]:
    """Gives clients of a manager at an address, over one HttpClient."""
    client = HttpClient()
    made: list[ManagerClient] = []

    def make(url: str, login: Any = LOGIN, **more: Any) -> ManagerClient:
        made.append(ManagerClient(url, login, client, Forward(), **more))
        return made[-1]

    yield make
    for each in made:
        await each.close()
    await client.close()


@pytest.fixture
async def manager_says(network, client_of) -> Callable[..., Any]:
    """Gives a client of a manager that gives these answers, and what it was asked."""

    async def listen(*answers: bytes, **more: Any) -> tuple[ManagerClient, list[bytes]]:
        there = await network.answer(*answers)
        return client_of(there.url, **more), there.requests

    return listen
