"""Rows about the agents themselves, and about what people set up around them.

Theory of operation. What is wrong here harms no data by itself: it takes eyes away.
Agents that refuse each other's token see each other's servers still, so all looks well,
but none hears what the other one sees, and no majority can confirm anything. Such
troubles come from a change that somebody is rolling out over the nodes, or has
forgotten on one, so they have a hold time of their own; `status` shows them at once.
They are families of their own: none of them may hide another trouble of its node.
"""

from agent.core.detector import key
from agent.core.observation import Channel, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.verdict import Family, Severity, VerdictCode

STRANGER = "the peer token is not accepted there"
"""What the reason says when an agent answers that it does not know the token."""


def tokens_refused(scene: Scene, pair: str) -> Finding | None:
    """Find two agents of which one does not accept the other's peer token."""
    first, second = pair.split("|")
    told = [
        f"{node} refuses the peer token that {seer} shows"
        for seer, node in ((first, second), (second, first))
        if _refused(scene, seer, node)
    ]
    return Finding({"reason": "; ".join(told)}) if told else None


def _refused(scene: Scene, seer: str, node: str) -> bool:
    """Whether the last question of one agent to another one was refused so."""
    if seer == scene.me:
        seen = scene.state.view.latest.get(key(node, Channel.AGENT))
        fresh = seen is not None and _is_fresh(scene, seen.received_s)
        found = None if seen is None or not fresh else (seen.outcome, seen.reason)
    else:
        report = scene.reports.get(seer)
        sights = () if report is None else report.sights
        found = next(
            (
                (one.outcome, one.reason)
                for one in sights
                if (one.node, one.channel) == (node, Channel.AGENT)
                and one.age_s <= scene.policy.fresh_s
            ),
            None,
        )
    if found is None:
        return False
    outcome, reason = found
    return outcome is Outcome.REFUSED and STRANGER in reason


def _is_fresh(scene: Scene, received_s: float) -> bool:
    return scene.at.monotonic_s - received_s <= scene.policy.fresh_s


ROWS = (
    Rule(
        851,
        VerdictCode.CONFIG_ERROR,
        Family.SETTINGS,
        Severity.CRITICAL,
        Scope.PAIRS,
        "An agent does not accept the token that another one shows.",
        tokens_refused,
        hold=Hold.SETTINGS,
    ),
)
