"""Rows about standbys that fall behind, and about archives of both sides of a fork.

Theory of operation. A standby can be behind in two ways, and each needs another cure:
it has not received what the primary wrote, or it has received it and not replayed it.
One that was told to replay late (recovery_min_apply_delay) does what it was told; where
a server does not say whether it was (10 and 11), nothing is said of its replay. The two
ends of a difference are read a moment apart; what the primary wrote in between is gone
from it with the next reading, long before the hold time has passed.

Whoever archives on past a fork puts files of one side among those of the other, if the
setting leads to one place; a restore from there may end on either side. Whether it does
no server can tell: two machines may each have such a folder of their own. So what is
said is that the setting is the same.
"""

from collections.abc import Collection
from itertools import combinations

from agent.core.counsel import LATE_REPLAY
from agent.core.kinship import relate
from agent.core.lineage import Fork, Kinship, Lineage
from agent.core.observation import Archiver, PostgresSight
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.rules_split import branches
from agent.core.scene import Scene, ServerSight
from agent.core.verdict import Family, Severity, VerdictCode


def receives_late(scene: Scene, node: str) -> Finding | None:
    """Find a standby that has received much less than the primary has written."""
    found = _behind(scene, node)
    if found is None or found["receive_lag_bytes"] <= scene.policy.lag_limit_bytes:
        return None
    return _lagging(scene, found)


def replays_late(scene: Scene, node: str) -> Finding | None:
    """Find a standby that has replayed much less than it has received."""
    found = _behind(scene, node)
    if found is None or found["replay_lag_bytes"] <= scene.policy.lag_limit_bytes:
        return None
    sight = scene.sights[node].sight
    if sight.apply_delay_s != 0.0:
        return None
    return _lagging(scene, found, paused=sight.replay_paused is True)


def _lagging(scene: Scene, found: dict[str, int], *, paused: bool = False) -> Finding:
    primary = scene.sole_primary
    return Finding(
        {
            "primary": None if primary is None else primary.node,
            **found,
            "limit_bytes": scene.policy.lag_limit_bytes,
            "replay_paused": paused,
        }
    )


def _behind(scene: Scene, node: str) -> dict[str, int] | None:
    """Return by how many bytes a standby is behind; None when that is not known."""
    fresh, primary = scene.sights.get(node), scene.sole_primary
    if fresh is None or primary is None or not scene.policy.lag_limit_bytes:
        return None
    if not fresh.sight.in_recovery:
        return None
    if fresh.sight.system_id != primary.sight.system_id:
        return None
    written, received = primary.sight.flush_lsn, fresh.sight.flush_lsn
    replayed = fresh.sight.replay_lsn
    if written is None or received is None or replayed is None:
        return None
    if any(branch.node == node for branch in branches(scene)):
        return None
    return {
        "receive_lag_bytes": max(0, written - received),
        "replay_lag_bytes": max(0, received - replayed),
    }


def _led(scene: Scene) -> Collection[str]:
    """Return the standbys that lack more than the limit, or may."""
    primary, limit = scene.sole_primary, scene.policy.lag_limit_bytes
    written = None if primary is None else primary.sight.flush_lsn
    if written is None or not limit:
        return ()
    found = []
    for name, one in scene.sights.items():
        received, replayed = one.sight.flush_lsn, one.sight.replay_lsn
        if not one.sight.in_recovery or received is None or replayed is None:
            continue
        if max(written, received) - min(received, replayed) > limit:
            found.append(name)
    return found


def _sharing(scene: Scene) -> Collection[str]:
    """Return the pairs of servers that archive by one and the same setting."""
    by_target: dict[str, list[str]] = {}
    for name, one in scene.sights.items():
        archiver = _archives(one.sight)
        if archiver is not None:
            by_target.setdefault(archiver.target, []).append(name)
    return {
        f"{first}|{second}"
        for names in by_target.values()
        for first, second in combinations(sorted(names), 2)
    }


def archive_conflict(scene: Scene, pair: str) -> Finding | None:
    """Find two sides of a fork that archive by one and the same setting."""
    first, second = (scene.sights.get(name) for name in pair.split("|"))
    if first is None or second is None:
        return None
    ours, theirs = _archives(first.sight), _archives(second.sight)
    if ours is None or theirs is None or ours.target != theirs.target:
        return None
    fork = _parted(scene, first, second)
    if fork is None:
        return None
    failing = [
        one.node
        for one, archiver in ((first, ours), (second, theirs))
        if archiver.failing
    ]
    return Finding(
        {
            "first": first.node,
            "second": second.node,
            "first_timeline": first.sight.timeline,
            "second_timeline": second.sight.timeline,
            "fork_timeline": str(fork.timeline),
            "fork_lsn": str(fork.lsn),
            "setting": ours.method,
            "failing": ",".join(failing),
        }
    )


def _archives(sight: PostgresSight) -> Archiver | None:
    """Return the archiver of a server that archives what it writes or receives."""
    archiver = sight.archiver
    if archiver is None or (sight.in_recovery and not archiver.always):
        return None
    return archiver


def _parted(scene: Scene, first: ServerSight, second: ServerSight) -> Fork | None:
    """Return the fork that both are past; None when they are not known to be."""
    ours, theirs = _lineage(scene, first), _lineage(scene, second)
    if ours is None or theirs is None:
        return None
    relation = relate(ours, theirs)
    fork, kinship = relation.fork, relation.kinship
    if fork is None or kinship in (Kinship.FORKED, Kinship.TWIN):
        return fork
    stayed = first if kinship is Kinship.DESCENDS else second
    reached = stayed.sight.flush_lsn
    return fork if reached is not None and reached > fork.lsn else None


def _lineage(scene: Scene, one: ServerSight) -> Lineage | None:
    """Return a server's lineage, if it is of the timeline that SQL told of."""
    lineage = scene.lineage(one.node)
    if lineage is None or lineage.timeline != one.sight.timeline:
        return None
    return lineage


ROWS = (
    Rule(
        807,
        VerdictCode.STANDBY_LAGGING,
        Family.OTHER,
        Severity.WARNING,
        Scope.NODES,
        "A standby has received less than the primary has written, over the limit.",
        receives_late,
        about=_led,
        hold=Hold.LAG,
    ),
    Rule(
        LATE_REPLAY,
        VerdictCode.STANDBY_LAGGING,
        Family.OTHER,
        Severity.WARNING,
        Scope.NODES,
        "A standby that is not delayed has replayed less than it has received.",
        replays_late,
        about=_led,
        hold=Hold.LAG,
    ),
    Rule(
        811,
        VerdictCode.ARCHIVE_CONFLICT,
        Family.OTHER,
        Severity.WARNING,
        Scope.PAIRS,
        "Two sides of a fork archive by one and the same setting.",
        archive_conflict,
        about=_sharing,
        hold=Hold.READINGS,
    ),
)
