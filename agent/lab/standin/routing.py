"""Which handler answers a verb at a path.

Theory of operation. Routes stand under v2, v2.1, v3 and v3.1; v1 is gone. A path that
no route has is a page of Werkzeug's with 404, one without that verb 405 with `Allow`.
A manager has the routes of its version only. `FREE_IN_MAINTENANCE`,
`HELD_WHILE_ACTIVATING` and `FREE_WITHOUT_LICENSE` say what passes in odd times.
Source: `endpoint_mapper.py` and `constants.py` of the REST service.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.responses import Response

from agent.lab.standin import executions, health, objects, snapshots, upkeep
from agent.lab.standin.answers import NOT_ALLOWED, Misread, unknown_route
from agent.lab.standin.traits import Traits

_VERSIONED = re.compile(r"/api/(v2|v2\.1|v3|v3\.1)/(.+)").fullmatch

Handler = Callable[..., Response]
"""Takes the desk, the request, and what the path has in the place of `<…>`."""


@dataclass(frozen=True, slots=True)
class Route:
    """What answers one verb at one path."""

    method: str
    path: str
    """Below `/api/v3.1/`; `<name>` stands for anything without a slash."""
    handler: Handler
    action: str = ""
    """What only administrators may do; empty: anybody who is logged in."""
    login: bool = True
    when: Callable[[Traits], bool] = lambda _: True
    uploads: bool = False
    """Whether the body is spooled to a file."""


def _later(traits: Traits) -> bool:
    return traits.all_active


def _seventh(traits: Traits) -> bool:
    return traits.has_new_format


def _community(traits: Traits) -> bool:
    return traits.edition == "community" and traits.all_active


ONE, ARCHIVE = "snapshots/<id>", "snapshots/<id>/archive"
ROUTES = (
    Route("GET", "snapshots", snapshots.snapshots, "snapshot_list"),
    Route("GET", ONE, snapshots.snapshot, "snapshot_get"),
    Route("PUT", ONE, snapshots.create, "snapshot_create"),
    Route("DELETE", ONE, snapshots.remove, "snapshot_delete"),
    Route("PATCH", ONE, snapshots.set_status, "snapshot_status_update"),
    Route("PUT", ARCHIVE, snapshots.upload, "snapshot_upload", uploads=True),
    Route("GET", ARCHIVE, snapshots.download, "snapshot_download"),
    Route("POST", f"{ONE}/restore", snapshots.restore, "snapshot_restore"),
    Route("GET", "snapshot-status", snapshots.restore_status, login=False, when=_later),
    Route("GET", "executions", executions.executions),
    Route("GET", "executions/<id>", executions.execution),
    Route("POST", "executions/<id>", executions.act, "execution_cancel"),
    Route("GET", "maintenance", upkeep.maintenance),
    Route(
        "POST", "maintenance/<action>", upkeep.set_maintenance, "maintenance_mode_set"
    ),
    Route("GET", "tokens", upkeep.tokens),
    Route("POST", "tokens", upkeep.make_token),
    Route("GET", "tokens/<id>", upkeep.token, when=_seventh),
    Route("DELETE", "tokens/<id>", upkeep.drop_token, when=_seventh),
    Route("GET", "audit", upkeep.audit, "audit_log_view", when=_seventh),
    Route("GET", "ok", health.ok, login=False, when=_seventh),
    Route("GET", "status", health.status),
    Route("GET", "version", health.version),
    Route("GET", "license-check", health.license_check, when=_seventh),
    Route("GET", "cluster-status", health.cluster_status, when=_later),
    Route("GET", "managers", health.managers, when=_later),
    Route("GET", "brokers", health.brokers, when=_later),
    Route("GET", "db-nodes", health.db_nodes, when=_later),
    *(
        Route(method, kind, health.premium_only, when=_community)
        for method in ("POST", "PUT", "DELETE")
        for kind in ("managers", "brokers", "db-nodes")
    ),
)
OBJECT_ROUTES = tuple(Route(*each) for each in objects.handlers())
"""Not a manager's: what the lab's clients write through."""
FREE_IN_MAINTENANCE = (
    "brokers",
    "managers",
    "db-nodes",
    "cluster",
    "config",
    "status",
    "version",
    "license",
    "maintenance",
    "cluster-status",
    "file-server-auth",
    "ok",
    "snapshots",
    "snapshot-status",
)
FREE_WITHOUT_LICENSE = (
    *(each for each in FREE_IN_MAINTENANCE if not each.startswith("snapshot")),
    "tokens",
    "tenants",
    "user",
)
HELD_WHILE_ACTIVATING = {
    "snapshots/<id>": ("POST", "PATCH", "PUT"),
    "snapshots/<id>/restore": ("POST",),
    "executions": ("POST", "PATCH", "PUT"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The route of a request, and what its path says."""

    route: Route
    names: tuple[str, ...]


class Router:
    """Finds routes."""

    def __init__(self, traits: Traits, routes: Iterable[Route]) -> None:
        self._routes = [
            (re.compile(_pattern(each.path)), each)
            for each in routes
            if each.when(traits)
        ]

    def find(self, method: str, path: str) -> Found:
        """Return what answers. Raises Misread: 404 or 405."""
        known = _VERSIONED(path)
        tail = known[2] if known else "version" if path == "/api/version" else ""
        here = [
            Found(route, match.groups())
            for pattern, route in self._routes
            if (match := pattern.fullmatch(tail))
        ]
        if not here:
            raise unknown_route()
        verb = "GET" if method == "HEAD" else method
        for found in here:
            if found.route.method == verb:
                return found
        verbs = sorted({each.route.method for each in here} | {"OPTIONS"})
        allowed = ", ".join(["HEAD", *verbs] if "GET" in verbs else verbs)
        raise Misread(405, "Method Not Allowed", NOT_ALLOWED, allowed)


def _pattern(path: str) -> str:
    return re.sub(r"<\w+>", r"([^/]+)", path.replace(".", r"\."))
