"""Rows about two histories of one cluster.

Theory of operation. A split is suspected, then proven, and when one side has
stopped, what stays is a server that holds WAL past the fork. All of that is one
trouble with one subject, the cluster, and one discriminator, the fork's parent
timeline, which both sides know without talking to each other.

While two nodes accept writes no primary can be named, so nothing is measured
against one. With a single primary every other server's position is held against its
lineage; equal timeline numbers prove nothing.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from agent.core.detector import Look, key
from agent.core.kinship import fork_timeline, past_fork, relate
from agent.core.lineage import Fork, Kinship, Lineage
from agent.core.observation import Channel
from agent.core.pageprint import parted_page
from agent.core.prediction import decided, winner
from agent.core.proof import same_server
from agent.core.quorum import majority
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.rules_manager import every_one_is
from agent.core.rules_reach import beside_primary
from agent.core.scene import Scene, ServerSight
from agent.core.standing import local_facts, local_sight
from agent.core.state import SplitProof
from agent.core.verdict import Fact, Family, Severity, VerdictCode

LINGER_S = 30.0
"""A proven split of which one side has vanished counts as lasting for so long, and
one that was proven after its end is told for so long."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A server that holds WAL past the fork from the present primary's lineage."""

    node: str
    timeline: int
    past_bytes: int
    fork: Fork
    twin: bool
    page: str | None = None


def split_brain(scene: Scene, _: str) -> Finding | None:
    """Two nodes were proven writable at once, and neither is known to have ended."""
    lasting = [one for one in scene.state.view.proofs if _lasts(scene, one)]
    if not lasting:
        return None
    tips = {name for one in lasting for name in (one.first, one.second)}
    return _proven(scene, lasting[0], tips)


def split_brain_past(scene: Scene, _: str) -> Finding | None:
    """Two nodes were proven writable at once, after one of them had ended."""
    for proof in reversed(scene.state.view.proofs):
        age_s = scene.at.monotonic_s - proof.proven_s
        if proof.evidence.get("ended") and age_s <= LINGER_S:
            return _proven(scene, proof, {proof.first, proof.second})
    return None


def _lasts(scene: Scene, proof: SplitProof) -> bool:
    sides = (
        (proof.first, proof.evidence.get("first_started")),
        (proof.second, proof.evidence.get("second_started")),
    )
    return not proof.over and not any(
        _ended(scene, proof, node, started) for node, started in sides
    )


def _ended(scene: Scene, proof: SplitProof, node: str, started: Fact) -> bool:
    """Whether that run of the server is over, or nobody has seen it for long."""
    if scene.stopped(node):
        return True
    fresh = scene.sights.get(node)
    if fresh is not None:
        sight = fresh.sight
        return sight.in_recovery or sight.postmaster_started != started
    read_s = [one.received_s for one in scene.state.view.readings if one.node == node]
    return scene.at.monotonic_s - max([proof.proven_s, *read_s]) > LINGER_S


def _proven(scene: Scene, proof: SplitProof, tips: AbstractSet[str]) -> Finding:
    pair = (proof.first, proof.second)
    timelines = (
        proof.evidence.get("first_timeline"),
        proof.evidence.get("second_timeline"),
    )
    evidence: dict[str, Fact] = {
        "first": proof.first,
        "second": proof.second,
        "method": proof.method,
        "overlap_s": proof.evidence.get("overlap_s"),
        **_sides(scene, tips),
    }
    return _about(scene, pair, timelines, evidence)


def _about(
    scene: Scene,
    pair: tuple[str, str],
    timelines: tuple[Fact, Fact],
    evidence: dict[str, Fact],
) -> Finding:
    """Return the finding on a pair, with its fork where it is known."""
    first, second = (scene.lineage(node) for node in pair)
    one, other = (n if isinstance(n, int) else None for n in timelines)
    parent = fork_timeline((first, second), (one, other))
    fork = None if first is None or second is None else relate(first, second).fork
    return Finding(
        {
            **evidence,
            "first_timeline": one,
            "second_timeline": other,
            "fork_timeline": parent,
            "fork_lsn": None if fork is None else str(fork.lsn),
        },
        parent,
    )


def _sides(scene: Scene, tips: AbstractSet[str]) -> dict[str, Fact]:
    """Return the tips of a split, the predicted winner, and the losers.

    A standby that has followed a loser past the fork is a loser too.
    """
    predicted = winner(scene.state, scene.policy)
    kept = scene.sights.get(predicted.node or "")
    followers = () if kept is None else _past(scene, kept)
    lost = {*tips, *(one.node for one in followers)} - {predicted.node}
    order = scene.policy.order
    return {
        "tips": ",".join(sorted(tips, key=lambda name: order[name])),
        "winner": predicted.node,
        "winner_rule": predicted.rule,
        **decided(scene.state, predicted),
        "losers": ",".join(sorted(lost, key=lambda name: order[name])),
    }


def branches(scene: Scene) -> tuple[Branch, ...]:
    """Return the servers that have gone past the fork from the only primary."""
    primary = scene.sole_primary
    if primary is None:
        return ()
    return scene.once("branches", lambda: _past(scene, primary))


def _past(scene: Scene, primary: ServerSight) -> tuple[Branch, ...]:
    """Return the servers that have gone past the fork from this one."""
    lineage = scene.lineage(primary.node)
    if lineage is None or lineage.timeline != primary.sight.timeline:
        return ()
    found = (
        _branch(scene, node.name, lineage)
        for node in scene.policy.nodes
        if node.has_postgres and node.name != primary.node
    )
    return tuple(branch for branch in found if branch is not None)


def _branch(scene: Scene, node: str, primary: Lineage) -> Branch | None:
    position, own = scene.position(node), scene.lineage(node)
    if position is None:
        return None
    if own is not None and own.system_id != primary.system_id:
        return None
    fork = past_fork(position, own, primary)
    if fork is None:
        return None
    twin = (
        own is not None
        and own.timeline == position.timeline
        and relate(own, primary).kinship is Kinship.TWIN
    )
    past = position.lsn - fork.lsn
    page = parted_page(own, primary, fork) if twin and own is not None else None
    return Branch(node, position.timeline, past, fork, twin, page)


def lineage_twin(scene: Scene, _: str) -> Finding | None:
    """One timeline number stands for different WAL.

    Who has lost besides, without being a twin, is named beside it: all are resynced.
    """
    lost = branches(scene)
    return _diverged(scene, lost, tuple(one for one in lost if one.twin))


def lineage_diverged(scene: Scene, _: str) -> Finding | None:
    """Find a server that holds WAL past the fork from the primary's lineage."""
    lost = branches(scene)
    return _diverged(scene, lost, lost)


def _diverged(
    scene: Scene, lost: tuple[Branch, ...], shown: tuple[Branch, ...]
) -> Finding | None:
    """Tell of all that have lost, with the worst of those that are `shown`."""
    primary = scene.sole_primary
    if primary is None or not shown:
        return None
    worst = max(shown, key=lambda one: one.past_bytes)
    return Finding(
        {
            "page_lsn": worst.page,
            "first": primary.node,
            "second": worst.node,
            "first_timeline": primary.sight.timeline,
            "second_timeline": worst.timeline,
            "fork_timeline": str(worst.fork.timeline),
            "fork_lsn": str(worst.fork.lsn),
            "past_fork_bytes": worst.past_bytes,
            "tips": ",".join((primary.node, *(one.node for one in lost))),
            "winner": primary.node,
            "winner_rule": "only",
            "losers": ",".join(one.node for one in lost),
        },
        str(worst.fork.timeline),
    )


def cut_off(scene: Scene, _: str) -> Finding | None:
    """Find the local server writable, cut off from a side that may elect another."""
    voters = scene.policy.voters
    there = len(voters) - len(scene.reachable)
    if not scene.isolated or there < majority(len(voters)):
        return None
    if not beside_primary(scene):
        return None
    timeline = _own_timeline(scene)
    return Finding(
        {
            "first": scene.me,
            "second": None,
            "first_timeline": timeline,
            "cut_off_from": ",".join(n for n in voters if n not in scene.reachable),
            "tips": scene.me,
            "winner": None,
        },
        _parent(scene, timeline),
    )


def _parent(scene: Scene, own: int | None) -> str:
    """Return the fork's parent timeline as the side that cannot be seen has it.

    It is the one on which both sides were last together: that of the last primary
    that was seen, or what this server's own line shares with it when it was promoted
    since.
    """
    last = scene.state.knowledge.primary
    if own is None or last is None or own == last.timeline:
        return "?" if own is None else str(own)
    lineages = (scene.lineage(scene.me), scene.lineage(last.node))
    return fork_timeline(lineages, (own, last.timeline))


def _own_timeline(scene: Scene) -> int | None:
    sight = local_sight(scene.state, scene.policy)
    if sight is not None and sight.timeline is not None:
        return sight.timeline
    facts = local_facts(scene.state)
    return None if facts is None else facts.lineage.timeline


def two_appear(scene: Scene, _: str) -> Finding | None:
    """Two nodes were lately read out of recovery, which is not proven yet."""
    if scene.isolated or len(scene.writable) <= 1:
        return None
    first, second = scene.writable[:2]
    sights = scene.sights
    if sights[first].sight.system_id != sights[second].sight.system_id:
        return None
    if same_server(scene.state, first, second, scene.policy):
        return None
    timelines = (sights[first].sight.timeline, sights[second].sight.timeline)
    evidence: dict[str, Fact] = {
        "first": first,
        "second": second,
        "read_by": ",".join(sorted({sights[first].by, sights[second].by})),
        "tips": f"{first},{second}",
        "winner": None,
    }
    return _about(scene, (first, second), timelines, evidence)


def says_active(scene: Scene, _: str) -> Finding | None:
    """Find a server that nobody can read beside a manager that says active."""
    primary = scene.sole_primary
    if primary is None:
        return None
    for node in scene.policy.nodes:
        name = node.name
        if name == primary.node or not node.has_postgres:
            continue
        if name in scene.sights or name in scene.reports or not _active(scene, name):
            continue
        if scene.looks.get((name, Channel.POSTGRES)) is not Look.UNSEEN:
            continue
        pair = (primary.node, name)
        timelines: tuple[Fact, Fact] = (primary.sight.timeline, None)
        evidence: dict[str, Fact] = {
            "first": primary.node,
            "second": name,
            "manager_says": "active",
            "tips": ",".join(pair),
            "winner": None,
        }
        return _about(scene, pair, timelines, evidence)
    return None


def _active(scene: Scene, node: str) -> bool:
    seen = scene.state.view.latest.get(key(node, Channel.MANAGER))
    fresh = scene.looks.get((node, Channel.MANAGER)) is Look.SEEN
    if not fresh or seen is None or seen.manager is None:
        return False
    return seen.manager.active and not every_one_is(seen.manager)


ROWS = (
    Rule(
        501,
        VerdictCode.SPLIT_BRAIN,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "Two nodes accept writes at once, proven without synchronised clocks.",
        split_brain,
        accuses=False,
    ),
    Rule(
        503,
        VerdictCode.LINEAGE_TWIN,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "One timeline number stands for different WAL on two servers.",
        lineage_twin,
        hold=Hold.LINEAGE,
    ),
    Rule(
        505,
        VerdictCode.LINEAGE_DIVERGED,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "A server holds WAL past the fork from the only primary's lineage.",
        lineage_diverged,
        hold=Hold.LINEAGE,
    ),
    Rule(
        507,
        VerdictCode.SPLIT_BRAIN,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "Two nodes were proven to have accepted writes at once until lately.",
        split_brain_past,
        accuses=False,
    ),
    Rule(
        509,
        VerdictCode.SPLIT_BRAIN_SUSPECTED,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "The local server accepts writes, cut off from a side that may elect another.",
        cut_off,
        accuses=False,
    ),
    Rule(
        511,
        VerdictCode.SPLIT_BRAIN_SUSPECTED,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "Two nodes were lately read out of recovery; the proof is still missing.",
        two_appear,
        hold=Hold.READINGS,
    ),
    Rule(
        513,
        VerdictCode.SPLIT_BRAIN_SUSPECTED,
        Family.SPLIT,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "A server that nobody can read stands beside a manager that says active.",
        says_active,
        hold=Hold.READINGS,
    ),
)
