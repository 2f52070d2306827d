"""What an operator's hands do to the managers, from outside. Blocking.

Theory of operation. Taking a manager off a machine, and installing one, is asked of
the supervisor: it is done at the machine itself. A cluster of the 4.x line is begun,
joined and led through the managers' own API, as `cfy cluster start`, `join` and
`set-active` do; a later one by its configuration, which is asked of the machine. Each
deed returns when it is done, or says what the manager said last.
"""

import base64
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from agent.errors import LabError
from agent.lab.handle import Lab
from agent.lab.plan import HOST, TENANT, Plan
from agent.lab.sights import standing_of, standings
from agent.lab.standing import Standing
from agent.lab.web import Call, send

DONE_S = 90.0
REQUEST_S = 60.0
LOOK_S = 0.2
SWITCHES = {
    "worker-dead": {"worker_dead": True},
    "broker-dead": {"broker_dead": True},
    "database-down": {"database_down": True},
    "disk-full": {"disk_full": True},
    "html": {"html": True},
    "none": {
        "worker_dead": False,
        "broker_dead": False,
        "database_down": False,
        "disk_full": False,
        "html": False,
    },
}
"""What can be wrong with a manager, by the name that a person gives it."""


def remove(lab: Lab, node: str) -> None:
    """Take a manager and all that it has off its machine. Raises LabError."""
    lab.ask("machine", node=node, deed="remove")


def install(lab: Lab, node: str) -> None:
    """Put a fresh, empty manager on a machine. Raises LabError."""
    lab.ask("machine", node=node, deed="install")
    _until(lab.plan, node, "be up", lambda one: one.active and not one.busy)


def start(lab: Lab, node: str) -> None:
    """Begin a cluster of one. Raises LabError."""
    if lab.plan.options.all_active:
        lab.ask("machine", node=node, deed="start")
    else:
        _api(lab.plan, node, "PUT cluster", {**_at(node), "options": {}})
    _until(lab.plan, node, "begin a cluster", lambda one: one.membership.has(node))


def join(lab: Lab, node: str, leader: str) -> None:
    """Make an empty manager the standby of a cluster's leader. Raises LabError."""
    plan = lab.plan
    plan.node(leader)
    shown = _added(lab, leader, node)
    try:
        if plan.options.all_active:
            lab.ask("machine", node=node, deed="join", shown=shown)
        else:
            more = {"join_addrs": [HOST], "options": {}, "credentials": shown}
            _api(plan, node, "PUT cluster", {**_at(node), **more})
    except LabError:
        with contextlib.suppress(LabError):
            _dropped(lab, leader, node)
        raise
    _until(plan, node, f"follow {leader}", _follows)


def _added(lab: Lab, leader: str, node: str) -> object:
    """Have the leader take a name on its list; return what the joiner has to show."""
    if lab.plan.options.all_active:
        return lab.ask("machine", node=leader, deed="add", name=node)
    given = _api(lab.plan, leader, f"PUT cluster/nodes/{node}", _at(node))
    return given.get("credentials")


def _dropped(lab: Lab, leader: str, node: str) -> None:
    """Have the leader take a name off its list."""
    if lab.plan.options.all_active:
        lab.ask("machine", node=leader, deed="drop", name=node)
    else:
        _api(lab.plan, leader, f"DELETE cluster/nodes/{node}")


def drop(lab: Lab, node: str) -> None:
    """Take a node off the cluster's list; nothing is done to it. Raises LabError."""
    lab.plan.node(node)
    _dropped(lab, _leader(lab.plan), node)


def set_active(lab: Lab, node: str) -> None:
    """Move the active role to a node, without a loss. Raises LabError."""
    lab.plan.node(node)
    leader = _leader(lab.plan)
    if leader == node:
        return
    if lab.plan.options.all_active:
        lab.ask("machine", node=leader, deed="set-active", to=node)
    else:
        _api(lab.plan, leader, "PATCH cluster", {"master": node})
    _until(lab.plan, node, "be the active one", lambda one: one.active)
    _until(lab.plan, leader, f"follow {node}", _follows)


def fault(lab: Lab, node: str, name: str) -> None:
    """Switch a fault of a manager on, or all of them off. Raises LabError."""
    url = f"{lab.plan.manager_url(node)}/lab/v1/faults"
    known = f"Bearer {lab.plan.secrets.internal}"
    _send(node, "POST", url, {"Authorization": known}, SWITCHES[name])


def _at(node: str) -> dict[str, object]:
    return {"host_ip": HOST, "node_name": node}


def _follows(one: Standing) -> bool:
    server = one.server
    return not one.busy and not one.active and server is not None and server.in_recovery


def _leader(plan: Plan) -> str:
    active = [one.name for one in standings(plan).values() if one.active]
    if len(active) != 1:
        found = ", ".join(active) or "none"
        raise LabError(
            f"one manager has to be active, and it is: {found}",
            "look at: splitguard lab status",
        )
    return active[0]


def _until(
    plan: Plan, node: str, what: str, look: Callable[[Standing], object]
) -> None:
    until = time.monotonic() + DONE_S
    while True:
        found = standing_of(plan, node)
        if found is not None and look(found):
            return
        if time.monotonic() > until:
            last = found.note if found else "it does not answer"
            raise LabError(f"{node} did not {what} within {DONE_S:g} s: {last}")
        time.sleep(LOOK_S)


def _api(plan: Plan, node: str, line: str, body: object = None) -> dict[str, Any]:
    """Send a request as the administrator; return the answer. Raises LabError."""
    method, _, path = line.partition(" ")
    login = base64.b64encode(f"admin:{plan.secrets.manager}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Tenant": TENANT}
    url = f"{plan.manager_url(node)}/api/v3.1/{path}"
    found = _send(node, method, url, headers, body)
    return found if isinstance(found, dict) else {}


def _send(
    node: str, method: str, url: str, headers: dict[str, str], body: object
) -> object:
    """Send a request; return what came back. Raises LabError with its own words."""
    content = None
    if body is not None:
        headers = {**headers, "Content-Type": "application/json"}
        content = json.dumps(body).encode()
    reply = send(Call(method, url, headers, content, REQUEST_S))
    if reply.ok:
        return reply.json() if reply.body.strip() else None
    with contextlib.suppress(ValueError):
        told = json.loads(reply.body)
        if isinstance(told, dict) and "message" in told:
            raise LabError(f"{node} refused it: {told['message']}")
    raise LabError(f"{node} answered {reply.status}: {reply.body[:200]!r}")
