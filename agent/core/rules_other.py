"""Rows about what does not belong, and about nothing being wrong.

Theory of operation. These are smaller troubles with one server or one file each. The
last rows are tried only when nothing else was found: a cluster of which something is
not known is `unknown`, and only one of which everything is known is `healthy`.
"""

from collections.abc import Collection
from itertools import combinations

from agent.core.detector import Look, key
from agent.core.observation import Channel, Outcome
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.rules_split import branches
from agent.core.scene import Scene, same_run
from agent.core.verdict import Family, Severity, VerdictCode


def foreign_system(scene: Scene, node: str) -> Finding | None:
    """Find a server of another system, or an agent of another cluster."""
    agent = scene.state.view.latest.get(key(node, Channel.AGENT))
    if agent is not None and agent.outcome is Outcome.FOREIGN:
        return Finding({"reason": agent.reason, "system_id": None, "expected": None})
    fresh, ours = scene.sights.get(node), scene.system_id
    if fresh is None or ours is None or fresh.sight.system_id == ours:
        return None
    return Finding(
        {
            "reason": f"its system id is {fresh.sight.system_id}",
            "system_id": fresh.sight.system_id,
            "expected": ours,
        }
    )


def one_server_twice(scene: Scene, pair: str) -> Finding | None:
    """One server stands in the list under two names."""
    first, second = (scene.sights.get(name) for name in pair.split("|"))
    if first is None or second is None:
        return None
    ours, theirs = scene.facts(first.node), scene.facts(second.node)
    one = None if ours is None else ours.identity
    other = None if theirs is None else theirs.identity
    same = one is not None and one == other
    if not same and not same_run(first.sight, second.sight):
        return None
    started = first.sight.postmaster_started
    return Finding({"reason": "one server under two names", "started": started})


def _strangers(scene: Scene) -> Collection[str]:
    """Return the nodes where something of another system or cluster answers."""
    latest, ours = scene.state.view.latest, scene.system_id
    found = {n for n, one in scene.sights.items() if one.sight.system_id != ours}
    for node in scene.policy.order:
        seen = latest.get(key(node, Channel.AGENT))
        if seen is not None and seen.outcome is Outcome.FOREIGN:
            found.add(node)
    return found


def _doubles(scene: Scene) -> Collection[str]:
    """Return the pairs of names under which one server answers."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for name, one in scene.sights.items():
        sight, facts = one.sight, scene.facts(name)
        runs.setdefault((sight.postmaster_started, sight.system_id), []).append(name)
        if facts is not None:
            runs.setdefault((facts.identity,), []).append(name)
    return {
        f"{first}|{second}"
        for names in runs.values()
        if len(names) > 1
        for first, second in combinations(sorted(names), 2)
    }


def _unled(scene: Scene) -> Collection[str]:
    """Return the standbys that tell of nobody whom they receive from."""
    return [
        name
        for name, one in scene.sights.items()
        if one.sight.in_recovery and not one.sight.upstream
    ]


def standby_detached(scene: Scene, node: str) -> Finding | None:
    """Find a standby that receives from nobody although there is a primary."""
    fresh = scene.sights.get(node)
    if fresh is None or scene.sole_primary is None:
        return None
    sight = fresh.sight
    if not sight.in_recovery or sight.upstream or sight.receiver_mark:
        return None
    if any(branch.node == node for branch in branches(scene)):
        return None
    replayed = None if sight.replay_lsn is None else str(sight.replay_lsn)
    return Finding({"timeline": sight.timeline, "replay_lsn": replayed})


def unknown(scene: Scene, _: str) -> Finding | None:
    """Something that has to be known is not.

    Who goes away is missed by one agent a moment before the others: what somebody has
    seen lately, or what was lost once after a sign of life, is no gap yet.
    """
    dark = [
        f"{node}/{channel.value}"
        for (node, channel), look in scene.looks.items()
        if look is Look.UNKNOWN
        or (look is Look.UNSEEN and (node, channel) not in scene.seen_by)
    ]
    servers = [node.name for node in scene.policy.nodes if node.has_postgres]
    missing = [node for node in servers if node not in scene.sights]
    unread = [node for node in missing if not _just_missed(scene, node)]
    primaries = len(scene.writable)
    unclear = primaries > 1 or (primaries == 0 and missing == unread)
    if not (dark or unread or (servers and unclear) or scene.starting):
        return None
    return Finding(
        {
            "starting": scene.starting,
            "not_seen": ",".join(dark),
            "not_read": ",".join(unread),
            "primaries": primaries,
        }
    )


def _just_missed(scene: Scene, node: str) -> bool:
    """Whether a server lost the last question and had answered before."""
    place = (node, Channel.POSTGRES)
    look = scene.looks.get(place)
    return look is Look.SUSPECT or (look is Look.UNSEEN and place in scene.seen_by)


def healthy(scene: Scene, _: str) -> Finding | None:
    """Everything is known and nothing is wrong."""
    primary = scene.sole_primary
    return Finding(
        {
            "primary": primary.node if primary is not None else None,
            "nodes": len(scene.policy.nodes),
        }
    )


ROWS = (
    Rule(
        801,
        VerdictCode.FOREIGN_SYSTEM,
        Family.OTHER,
        Severity.CRITICAL,
        Scope.NODES,
        "What answers there belongs to another system.",
        foreign_system,
        about=_strangers,
        hold=Hold.READINGS,
    ),
    Rule(
        803,
        VerdictCode.CONFIG_ERROR,
        Family.OTHER,
        Severity.CRITICAL,
        Scope.PAIRS,
        "One server stands in the list under two names.",
        one_server_twice,
        about=_doubles,
        hold=Hold.READINGS,
    ),
    Rule(
        805,
        VerdictCode.STANDBY_DETACHED,
        Family.OTHER,
        Severity.WARNING,
        Scope.NODES,
        "A standby receives from nobody although there is a primary.",
        standby_detached,
        about=_unled,
        hold=Hold.WARNING,
    ),
)

LAST_ROWS = (
    Rule(
        901,
        VerdictCode.UNKNOWN,
        Family.OTHER,
        Severity.UNKNOWN,
        Scope.CLUSTER,
        "Nothing is known to be wrong, but not everything is known.",
        unknown,
        accuses=False,
    ),
    Rule(
        903,
        VerdictCode.HEALTHY,
        Family.OTHER,
        Severity.OK,
        Scope.CLUSTER,
        "Everything is known and nothing is wrong.",
        healthy,
        accuses=False,
    ),
)
"""Tried only when no other row has fired."""
