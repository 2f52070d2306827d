"""Rows about the agents themselves, and about what people set up around them.

Theory of operation. What is wrong here harms no data by itself: it takes eyes away.
Agents that refuse each other's token see each other's servers still, so all looks well,
but none hears what the other one sees, and no majority can confirm anything. Such
troubles come from a change that somebody is rolling out over the nodes, or has
forgotten on one, so they have a hold time of their own; `status` shows them at once.
They are families of their own: none of them may hide another trouble of its node.
"""

from collections.abc import Collection, Mapping

from agent.core.alerting import deaf
from agent.core.detector import key
from agent.core.observation import Channel, Deaf, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.standing import standing
from agent.core.testimony import testimony
from agent.core.verdict import Family, Severity, VerdictCode
from agent.core.wording import names

DEAF_TOLD = 3
"""So many receivers are named."""
DRIFT_TOLD = 5
"""So many settings are named; more of them means another file altogether."""
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


def useless(scene: Scene) -> Collection[str]:
    """Return the pairs of which one agent's last answer was no use to the other."""
    pairs = [
        (peer, one.node)
        for peer, report in scene.reports.items()
        for one in testimony(report).useless
    ]
    for node in scene.policy.order:
        seen = scene.state.view.latest.get(key(node, Channel.AGENT))
        if seen is not None and seen.outcome.alive and seen.report is None:
            pairs.append((scene.me, node))
    return {f"{min(pair)}|{max(pair)}" for pair in pairs}


def agent_answer(scene: Scene, seer: str, node: str) -> tuple[Outcome, str] | None:
    """Return how an agent's last question to another one ended, and why so.

    None where that is not known lately.
    """
    if seer == scene.me:
        seen = scene.state.view.latest.get(key(node, Channel.AGENT))
        fresh = seen is not None and _is_fresh(scene, seen.received_s)
        return None if seen is None or not fresh else (seen.outcome, seen.reason)
    report = scene.reports.get(seer)
    sights = () if report is None else report.sights
    return next(
        (
            (one.outcome, one.reason)
            for one in sights
            if (one.node, one.channel) == (node, Channel.AGENT)
            and one.age_s <= scene.policy.fresh_s
        ),
        None,
    )


def is_stranger(outcome: Outcome, reason: str) -> bool:
    """Whether an agent has answered that it does not accept the token."""
    return outcome is Outcome.REFUSED and STRANGER in reason


def _refused(scene: Scene, seer: str, node: str) -> bool:
    """Whether the last question of one agent to another one was refused so."""
    found = agent_answer(scene, seer, node)
    return found is not None and is_stranger(*found)


def config_drift(scene: Scene, _: str) -> Finding | None:
    """Find settings that differ between agents which have to have the same.

    Only what both tell can differ: another version may know fewer settings.
    """
    ours = scene.policy.settings
    if all(report.settings == ours for report in scene.reports.values()):
        return None
    told = {scene.me: ours}
    for node in scene.policy.nodes:
        report = scene.reports.get(node.name)
        if report is not None:
            told[node.name] = report.settings
    parted = {
        setting: groups
        for setting in sorted({one for known in told.values() for one in known})
        if len(groups := _groups(scene, told, setting)) > 1
    }
    if not parted:
        return None
    nodes = {name for groups in parted.values() for one in groups for name in one}
    reasons = [_told_apart(setting, groups) for setting, groups in parted.items()]
    more = len(reasons) - DRIFT_TOLD
    if more > 0:
        reasons[DRIFT_TOLD:] = [f"and {more} more"]
    return Finding(
        {
            "settings": ",".join([*parted][:DRIFT_TOLD]),
            "nodes": ",".join(sorted(nodes, key=lambda one: scene.policy.order[one])),
            "reason": "; ".join(reasons),
        }
    )


def _groups(
    scene: Scene, told: Mapping[str, Mapping[str, str]], setting: str
) -> list[list[str]]:
    """Return the nodes that have a setting alike, group by group."""
    groups: dict[str, list[str]] = {}
    for node in scene.policy.nodes:
        digest = told.get(node.name, {}).get(setting)
        if digest:
            groups.setdefault(digest, []).append(node.name)
    return list(groups.values())


def _told_apart(setting: str, groups: list[list[str]]) -> str:
    return f"{setting} ({' against '.join(names(','.join(one)) for one in groups)})"


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
        about=useless,
        hold=Hold.SETTINGS,
    ),
    Rule(
        853,
        VerdictCode.CONFIG_DRIFT,
        Family.SETTINGS,
        Severity.WARNING,
        Scope.CLUSTER,
        "Settings that must be the same on all nodes differ between agents.",
        config_drift,
        hold=Hold.SETTINGS,
    ),
)
ALERT_ROWS = (
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
