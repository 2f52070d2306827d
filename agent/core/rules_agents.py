"""Rows about agents that do not understand each other, or are set up unlike.

Theory of operation. What is wrong here harms no data by itself: it takes eyes away.
Agents that refuse each other's token see each other's servers still, so all looks well,
but none hears what the other one sees, and no majority can confirm anything. An answer
that nobody understands is a sign of life too, and of no more use than silence. Such
troubles come from a change that somebody is rolling out over the nodes, or has
forgotten on one, so they have a hold time of their own; `status` shows them at once.
Their family is their own: none of them may hide another trouble of its node.
"""

from collections.abc import Callable, Collection, Mapping

from agent.core.detector import key
from agent.core.observation import Channel, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.testimony import testimony
from agent.core.verdict import Family, Severity, VerdictCode
from agent.core.wording import names

DRIFT_TOLD = 5
"""So many settings are named; more of them means another file altogether."""
STRANGER = "the peer token is not accepted there"
"""What the reason says when an agent answers that it does not know the token."""
OfAnswer = Callable[[str, str, Outcome, str], str]
"""Who asked, who answered, how that ended and why so; what is wrong, if anything."""


def tokens_refused(scene: Scene, pair: str) -> Finding | None:
    """Find two agents of which one does not accept the other's peer token."""
    return _told_of(scene, pair, _refused)


def no_use(scene: Scene, pair: str) -> Finding | None:
    """Find two agents of which one answers the other nothing that this can use."""
    return _told_of(scene, pair, _unusable)


def _told_of(scene: Scene, pair: str, of_answer: OfAnswer) -> Finding | None:
    """Tell what is wrong with the last answer of each of two agents to the other."""
    first, second = pair.split("|")
    told = [
        words
        for seer, node in ((first, second), (second, first))
        if (found := _answer(scene, seer, node)) is not None
        and (words := of_answer(seer, node, *found))
    ]
    return Finding({"reason": "; ".join(told)}) if told else None


def _refused(seer: str, node: str, outcome: Outcome, reason: str) -> str:
    """Tell of a token that is not accepted."""
    told = f"{node} refuses the peer token that {seer} shows"
    return told if _is_stranger(outcome, reason) else ""


def _unusable(seer: str, node: str, outcome: Outcome, reason: str) -> str:
    """Tell of an answer that is no report; a token has a row of its own."""
    if outcome is Outcome.ANSWERED or not outcome.alive:
        return ""
    if _is_stranger(outcome, reason):
        return ""
    why = reason or outcome.value
    return f"{node} answers {seer} no report that can be used ({why})"


def _is_stranger(outcome: Outcome, reason: str) -> bool:
    """Whether an agent has answered that it does not accept the token."""
    return outcome is Outcome.REFUSED and STRANGER in reason


def _useless(scene: Scene) -> Collection[str]:
    """Return the pairs of which one agent has got no report of the other lately."""
    pairs = [
        (peer, one.node)
        for peer, report in scene.reports.items()
        for one in testimony(report).useless
    ]
    for node in scene.policy.order:
        seen = scene.state.view.latest.get(key(node, Channel.AGENT))
        if seen is not None and seen.report is None:
            pairs.append((scene.me, node))
    return {f"{min(pair)}|{max(pair)}" for pair in pairs}


def _answer(scene: Scene, seer: str, node: str) -> tuple[Outcome, str] | None:
    """Return how an agent's last question to another one ended, and why so.

    None where that is not known lately.
    """
    if seer == scene.me:
        seen = scene.state.view.latest.get(key(node, Channel.AGENT))
        fresh = seen is not None and _is_fresh(scene, seen.received_s)
        return None if seen is None or not fresh else (seen.outcome, seen.reason)
    report = scene.reports.get(seer)
    one = None if report is None else testimony(report).at.get((node, Channel.AGENT))
    if one is None or one.age_s > scene.policy.fresh_s:
        return None
    return one.outcome, one.reason


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
        about=_useless,
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
    Rule(
        855,
        VerdictCode.CONFIG_ERROR,
        Family.SETTINGS,
        Severity.WARNING,
        Scope.PAIRS,
        "An agent answers another one nothing that this can use.",
        no_use,
        about=_useless,
        hold=Hold.SETTINGS,
    ),
)
