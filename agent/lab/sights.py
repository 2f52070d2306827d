"""What the lab's own commands see of its nodes. Blocking.

They ask the machines directly and not through the relays: whoever plays with the
network wants to see both of its sides.
"""

import concurrent.futures
from collections.abc import Mapping
from typing import Any

from agent.codec import from_plain
from agent.errors import CodecError
from agent.lab.plan import Plan
from agent.lab.standing import Standing
from agent.lab.web import CallError, send_json

TIMEOUT_S = 2.0


def standing_of(plan: Plan, name: str) -> Standing | None:
    """Return what a node's manager says of itself; None when it does not answer."""
    try:
        reply = send_json(
            "GET",
            f"{plan.manager_url(name)}/lab/v1/standing",
            token=plan.secrets.internal,
            timeout_s=TIMEOUT_S,
        )
        return from_plain(reply.json(), Standing) if reply.ok else None
    except (CallError, CodecError):
        return None


def standings(plan: Plan) -> dict[str, Standing]:
    """Return what every manager that answers says of itself."""
    names = [node.name for node in plan.nodes]
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        found = pool.map(lambda name: standing_of(plan, name), names)
        return {s.name: s for s in found if s is not None}


def agent_status(plan: Plan, name: str) -> dict[str, Any] | None:
    """Return an agent's `/v1/status`; None when it does not answer."""
    return agent_get(plan, name, "/v1/status")


def agent_get(plan: Plan, name: str, path: str) -> dict[str, Any] | None:
    """Return an agent's answer to GET; None when there is none."""
    try:
        reply = send_json(
            "GET",
            plan.agent_url(name) + path,
            token=plan.secrets.read,
            timeout_s=TIMEOUT_S,
        )
        answer = reply.json() if reply.ok else None
    except CallError:
        return None
    return answer if isinstance(answer, dict) else None


def cluster_trouble(plan: Plan) -> str:
    """Return what keeps the cluster from being healthy; empty when nothing does."""
    seen = standings(plan)
    for node in plan.nodes:
        standing = seen.get(node.name)
        if standing is None:
            return f"the manager of {node.name} does not answer"
        if standing.server is None or standing.busy:
            return f"{node.name} is not up: {standing.note}"
    active = [s.name for s in seen.values() if s.active]
    if len(active) != 1:
        return f"{len(active)} managers are active"
    return agents_trouble(plan) if plan.options.agents else ""


def agents_trouble(plan: Plan) -> str:
    """Return why an agent does not call the cluster healthy; empty when all do."""
    for node in plan.nodes:
        status = agent_status(plan, node.name)
        if status is None:
            return f"the agent of {node.name} does not answer"
        headline = status["headline"]
        if headline["verdict"] != "healthy":
            sentence = headline["sentence"] or headline["verdict"]
            return f"{node.name} says: {sentence}"
    return ""


def look_at_nodes(plan: Plan, pids: Mapping[str, int]) -> list[dict[str, object]]:
    """Return each node as `lab status` shows it."""
    seen = standings(plan)
    return [
        {
            "name": node.name,
            "agent_url": plan.agent_url(node.name),
            "manager_url": plan.manager_url(node.name),
            "postgres_dsn": plan.postgres_dsn(node.name),
            "role": _role(seen.get(node.name)),
            "active": bool(seen.get(node.name) and seen[node.name].active),
            "note": seen[node.name].note if node.name in seen else "off",
            "pid": pids.get(node.name),
        }
        for node in plan.nodes
    ]


def _role(standing: Standing | None) -> str:
    if standing is None:
        return "off"
    if standing.server is None:
        return standing.busy or "stopped"
    return "standby" if standing.server.in_recovery else "primary"
