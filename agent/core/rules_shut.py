"""Rows about servers that live and let no agent in.

Theory of operation. A refusal is a sign of life: it makes no node dead. But a server
that lets nobody in is one of which nobody can say whether it accepts writes. That is
normal for a moment (a server that starts), so it has a hold time.
"""

from collections.abc import Collection

from agent.core.detector import Look, key
from agent.core.observation import Channel, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.verdict import Family, Severity, VerdictCode

ON_ITS_WAY = "57P"
"""How a reason begins where the server starts or stops: SQLSTATE class 57P, operator
intervention. That is no fault of a setting, however long it takes."""


def primary_lets_nobody_in(scene: Scene, node: str) -> Finding | None:
    """Find the last primary's PostgreSQL alive, and read by nobody."""
    primary = scene.state.knowledge.primary
    if primary is None or primary.node != node:
        return None
    return lets_nobody_in(scene, node)


def lets_nobody_in(scene: Scene, node: str) -> Finding | None:
    """Find a PostgreSQL that is alive, and that no agent has read lately."""
    seen = scene.state.view.latest.get(key(node, Channel.POSTGRES))
    if seen is None or node in scene.sights or seen.outcome is Outcome.ANSWERED:
        return None
    if scene.looks.get((node, Channel.POSTGRES)) is not Look.SEEN:
        return None
    if not seen.outcome.alive or seen.reason.startswith(ON_ITS_WAY):
        return None
    return Finding({"reason": f"no agent can read its PostgreSQL, {seen.reason}"})


def _unread(scene: Scene) -> Collection[str]:
    """Return the nodes whose server no agent has read lately."""
    servers = (node.name for node in scene.policy.nodes if node.has_postgres)
    return [name for name in servers if name not in scene.sights]


ROWS = (
    Rule(
        857,
        VerdictCode.CONFIG_ERROR,
        Family.SETTINGS,
        Severity.CRITICAL,
        Scope.NODES,
        "The primary's PostgreSQL is alive and lets no agent in.",
        primary_lets_nobody_in,
        about=_unread,
        hold=Hold.SETTINGS,
    ),
    Rule(
        859,
        VerdictCode.CONFIG_ERROR,
        Family.SETTINGS,
        Severity.WARNING,
        Scope.NODES,
        "A PostgreSQL beside the primary's is alive and lets no agent in.",
        lets_nobody_in,
        about=_unread,
        hold=Hold.SETTINGS,
    ),
)
