"""Rows about receivers of notices that do not take what an agent tells.

Theory of operation. An agent tells its peers which of its receivers fail, so that one
whose receivers all fail is told of by the others. What a peer said last stands until it
is heard again. The family is its own: it may hide no other trouble of its node.
"""

from collections.abc import Collection

from agent.core.alerting import deaf
from agent.core.observation import Deaf
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.standing import standing
from agent.core.verdict import Family, Severity, VerdictCode

DEAF_TOLD = 3
"""So many receivers are named."""


def _unheard(scene: Scene) -> Collection[str]:
    """Return the agents of which some receiver does not take what is told."""
    view = scene.state.view
    names = [
        node
        for node, seen in view.reports.items()
        if seen.report is not None and seen.report.deaf
    ]
    return [*names, scene.me] if view.failing else names


def nobody_hears(scene: Scene, node: str) -> Finding | None:
    """Find an agent of which no receiver takes what is told."""
    configured, found = _receivers(scene, node)
    return None if len(found) < configured else _deaf_ones(configured, found)


def one_does_not_hear(scene: Scene, node: str) -> Finding | None:
    """Find an agent of which some receivers do not take what is told."""
    return _deaf_ones(*_receivers(scene, node))


def _receivers(scene: Scene, node: str) -> tuple[int, tuple[Deaf, ...]]:
    """Return how many receivers an agent has, and which of them fail.

    What a peer said last stands until it is heard again; a trouble of which people were
    not told yet does not begin with the last words of somebody who is gone since.
    """
    view = scene.state.view
    if node == scene.me:
        return view.receivers, deaf(view, scene.at)
    seen = view.reports.get(node)
    if seen is None or seen.report is None:
        return 0, ()
    if node not in scene.reports and not _is_told(scene, node):
        return 0, ()
    return seen.report.receivers, seen.report.deaf


def _is_told(scene: Scene, node: str) -> bool:
    """Whether people know that receivers do not take what this agent tells."""
    return any(
        one.verdict.family is Family.ALERT and one.verdict.subject == node
        for one in standing(scene.state)
    )


def _deaf_ones(configured: int, found: tuple[Deaf, ...]) -> Finding | None:
    if not found:
        return None
    shown = found[:DEAF_TOLD]
    reasons = "; ".join(dict.fromkeys(one.reason for one in shown))
    return Finding(
        {
            "receivers": ",".join(one.name for one in shown),
            "failing": len(found),
            "configured": configured,
            "reason": reasons,
            "since_age_s": max(one.age_s for one in found),
        }
    )


ROWS = (
    Rule(
        861,
        VerdictCode.CANNOT_ALERT,
        Family.ALERT,
        Severity.CRITICAL,
        Scope.NODES,
        "No receiver takes what the agent there tells.",
        nobody_hears,
        about=_unheard,
        hold=Hold.ALERT,
    ),
    Rule(
        863,
        VerdictCode.CANNOT_ALERT,
        Family.ALERT,
        Severity.WARNING,
        Scope.NODES,
        "A receiver does not take what the agent there tells; others do.",
        one_does_not_hear,
        about=_unheard,
        hold=Hold.ALERT,
    ),
)
