"""The application: all routes, one way to refuse, one document of it all.

Theory of operation. `make_app` is called once by the daemon. The same app is served on
the TCP listener and on the unix socket; requests over the socket have no client address
in their scope, which is how `access` tells them. There is no lifespan: the app owns
nothing that has to be closed. When the daemon begins to stop it sets `options.closing`,
which ends every wait and every event stream.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from agent import __version__
from agent.api import problems
from agent.api.context import Context
from agent.api.document import finish
from agent.api.layers import BodyLimit, BrowserHeaders
from agent.api.ports import ApiOptions, SnapshotShelf
from agent.api.routes import (
    archives,
    changes,
    events,
    guard,
    incidents,
    journal,
    keeping,
    losses,
    maintenance,
    managers,
    metrics,
    open_routes,
    page,
    peer,
    snapshots,
    status,
    winner,
)
from agent.api.tokens import TokenBook
from agent.ports import Desk

PARTS = (
    open_routes,
    status,
    incidents,
    snapshots,
    keeping,
    archives,
    losses,
    managers,
    guard,
    journal,
    maintenance,
    winner,
    peer,
    changes,
    events,
    metrics,
    page,
)
DESCRIPTION = (
    "What the Splitguard agent beside this machine sees, concludes and keeps. "
    "Errors are RFC 9457 problem details. A token has one scope and no scope includes "
    "another; requests over the unix socket need no token."
)


def make_app(
    desk: Desk,
    catalogue: SnapshotShelf,
    tokens: TokenBook | None,
    options: ApiOptions,
) -> FastAPI:
    """Return the application.

    `tokens` is None when neither a tokens file nor a peer token is configured: then TCP
    gets the open routes only, and the page where the listener is on loopback.
    """
    app = _Api(
        title="Splitguard",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry={
            "auto_configure": False,
            "tracing": False,
            "metrics": False,
            "logs": False,
        },
    )
    app.state.context = Context(desk, catalogue, tokens, options)
    for part in PARTS:
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(problems.LastResort)
    app.add_middleware(BrowserHeaders)
    return app


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        if self.openapi_schema is None:
            plain = get_openapi(
                title=self.title,
                version=self.version,
                openapi_version="3.1.0",
                description=self.description,
                license_info=self.license_info,
                routes=self.routes,
            )
            self.openapi_schema = finish(plain, _documented())
        return self.openapi_schema


def _documented() -> Iterator[APIRoute]:
    for part in PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield route
