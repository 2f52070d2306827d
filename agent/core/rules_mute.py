"""Rows about who lives and tells nothing that is of use.

Theory of operation. A refusal is a sign of life, and so is an answer that nobody
understands: neither makes a node dead. But an agent whose report cannot be used is an
eye less, as one that is silent, and a server that lets nobody in is one of which nobody
can say whether it accepts writes. Both are normal for a moment (an upgrade that goes
from node to node, a server that starts), so they have a hold time.
"""

from collections.abc import Collection

from agent.core.detector import Look, key
from agent.core.observation import Channel, Observation, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.rules_agents import agent_answer, is_stranger, useless
from agent.core.scene import Scene
from agent.core.verdict import Family, Severity, VerdictCode

ON_ITS_WAY = "57P"
"""How a reason begins where the server starts or stops: SQLSTATE class 57P, operator
intervention. That is no fault of a setting, however long it takes."""


def no_use(scene: Scene, pair: str) -> Finding | None:
    """Find two agents of which one answers the other nothing that this can use."""
    first, second = pair.split("|")
    told = [
        f"{node} answers {seer} no report that can be used ({reason})"
        for seer, node in ((first, second), (second, first))
        if (reason := _useless(scene, seer, node))
    ]
    return Finding({"reason": "; ".join(told)}) if told else None


def _useless(scene: Scene, seer: str, node: str) -> str:
    """Return why one agent could not use the other's last answer; empty when it could.

    A token that is not accepted is told by a row of its own.
    """
    found = agent_answer(scene, seer, node)
    if found is None or is_stranger(*found):
        return ""
    outcome, reason = found
    if outcome is Outcome.ANSWERED or not outcome.alive:
        return ""
    return reason or outcome.value


def primary_lets_nobody_in(scene: Scene, node: str) -> Finding | None:
    """Find the last primary's PostgreSQL alive, and read by nobody."""
    primary = scene.state.knowledge.primary
    if primary is None or primary.node != node:
        return None
    return lets_nobody_in(scene, node)


def lets_nobody_in(scene: Scene, node: str) -> Finding | None:
    """Find a PostgreSQL that is alive, and that no agent has read lately."""
    seen = _last(scene, node)
    if seen is None or node in scene.sights or seen.outcome is Outcome.ANSWERED:
        return None
    if scene.looks.get((node, Channel.POSTGRES)) is not Look.SEEN:
        return None
    if not seen.outcome.alive or seen.reason.startswith(ON_ITS_WAY):
        return None
    return Finding({"reason": f"no agent can read its PostgreSQL, {seen.reason}"})


def _last(scene: Scene, node: str) -> Observation | None:
    return scene.state.view.latest.get(key(node, Channel.POSTGRES))


def _unread(scene: Scene) -> Collection[str]:
    """Return the nodes whose server no agent has read lately."""
    servers = (node.name for node in scene.policy.nodes if node.has_postgres)
    return [name for name in servers if name not in scene.sights]


ROWS = (
    Rule(
        855,
        VerdictCode.CONFIG_ERROR,
        Family.SETTINGS,
        Severity.WARNING,
        Scope.PAIRS,
        "An agent answers another one nothing that this can use.",
        no_use,
        about=useless,
        hold=Hold.SETTINGS,
    ),
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
