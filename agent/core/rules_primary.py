"""Rows about who is primary.

Theory of operation. The last node that was the only primary is remembered across
restarts. When another one is the only primary now, the primary has moved: at once
when the new one is on a higher timeline, whatever became of the old one; otherwise
only when the old one is known not to accept writes. Two primaries at a time are a
split, never a failover. That nobody accepts writes is said only when every server was
read, or is down by a majority; one that this agent alone cannot see may accept some.

A primary whose commits wait for a synchronous standby is a trouble of that node: it
goes on beside a failover or a split, and ends by itself. One that lacks what its own
past was seen to hold is a graver trouble of that node, and may be why they wait: its
standbys cannot follow it. It ends when a person has taken what is there for the truth.

A move that an operator has announced is news and no trouble, once the former primary
is known to accept no writes; whoever announced it has taken it.
"""

from collections.abc import Collection, Mapping

from agent.core.agreement import failover_is_over, standing_failover
from agent.core.death import is_down
from agent.core.detector import Look, key
from agent.core.highwater import Lacking, lacking
from agent.core.lsn import Lsn
from agent.core.maintenance import covering
from agent.core.observation import Channel
from agent.core.protection import PROVEN
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.rules_reach import postgres_down
from agent.core.scene import Scene, ServerSight
from agent.core.state import PrimarySeen
from agent.core.verdict import Fact, Family, Severity, VerdictCode


def failover(scene: Scene, _: str) -> Finding | None:
    """The primary has moved, and nobody had announced that."""
    found = scene.once("failover", lambda: _moved(scene))
    return None if found is None or is_planned(found.evidence) else found


def planned_failover(scene: Scene, _: str) -> Finding | None:
    """The primary has moved as was announced."""
    found = scene.once("failover", lambda: _moved(scene))
    return found if found is not None and is_planned(found.evidence) else None


def is_planned(evidence: Mapping[str, Fact]) -> bool:
    """Whether this is the evidence of a failover that was announced."""
    return evidence.get("planned_by") is not None


def _moved(scene: Scene) -> Finding | None:
    """Compare the only primary of now with the last one that was."""
    old, new = scene.state.knowledge.primary, scene.sole_primary
    if old is None or new is None:
        return None
    if old.node == new.node:
        return _just_told(scene, new.node)
    if new.sight.system_id != old.system_id or _is_run_of(scene, new, old.node):
        return None
    if failover_is_over(old, scene.state, scene.at, scene.policy):
        return None
    higher = new.sight.timeline is not None and new.sight.timeline > old.timeline
    if not higher and not known_not_writable(scene, old.node):
        return None
    return _move(scene, old, new)


def _is_run_of(scene: Scene, new: ServerSight, old: str) -> bool:
    """Whether it is the run that last answered under the old one's name.

    No run moves to another machine: it answers at an address that leads elsewhere.
    """
    sight = new.sight
    run = (sight.postmaster_started, sight.system_id)
    return any(
        (one.postmaster_started, one.system_id) == run
        for one in scene.state.view.readings
        if one.node == old
    )


def _move(scene: Scene, old: PrimarySeen, new: ServerSight) -> Finding | None:
    """Tell of a move that is sure; nothing while it is not known what it is."""
    switch = _switch_lsn(scene, old, new)
    lost = None if switch is None else max(0, old.lsn - switch)
    if not lost and _may_be_announced(scene, old.node, new.node, lost):
        return None
    announced = {} if lost else _announced(scene, old.node, new.node)
    return Finding(
        {
            "from": old.node,
            "to": new.node,
            "from_timeline": old.timeline,
            "to_timeline": new.sight.timeline,
            "switch_lsn": None if switch is None else str(switch),
            "not_replicated_bytes": lost,
            "old_seen": _seen_not_writable(scene, old.node),
            **announced,
        }
    )


def _may_be_announced(scene: Scene, old: str, new: str, lost: int | None) -> bool:
    """Whether the move may be the announced one, and that shows in a few rounds.

    The agents there tell where the new primary took over, which shows what was lost,
    and that the former one takes no writes.
    """
    if standing_failover(scene.state, new) or not _is_covered(scene, old, new):
        return False
    if lost is None and scene.facts(new) is not None:
        return True
    if _seen_not_writable(scene, old):
        return False
    last = scene.state.view.alive.get(key(old, Channel.POSTGRES))
    patience_s = 2 * scene.policy.fresh_s
    return last is not None and scene.at.monotonic_s - last.received_s < patience_s


def _is_covered(scene: Scene, old: str, new: str) -> bool:
    """Whether a switchover to that node was announced.

    A side of a proven split has handed nothing over, however quiet it is by now; for a
    moment any handover may look like one.
    """
    split = any(
        one.verdict.code in PROVEN and one.status.standing and old in one.sides
        for one in scene.state.ledger.incidents
    )
    return not split and covering(scene.state, new, scene.at) is not None


def _announced(scene: Scene, old: str, new: str) -> dict[str, Fact]:
    """Return by whom and why the move was announced, if it was.

    A former primary that is merely unseen may still accept writes: then no word of
    anybody makes the move harmless, and none that makes writes disappear. What was told
    of as a trouble stays one.
    """
    told = standing_failover(scene.state, new)
    if told is not None:
        names = ("planned_by", "planned_because")
        return {
            n: told.verdict.evidence[n] for n in names if n in told.verdict.evidence
        }
    plan = covering(scene.state, new, scene.at)
    covered = _is_covered(scene, old, new) and _seen_not_writable(scene, old)
    if plan is None or not covered:
        return {}
    return {"planned_by": plan.owner, "planned_because": plan.reason}


def _just_told(scene: Scene, node: str) -> Finding | None:
    """Let the failover stand for a moment after it was put on record."""
    incident = standing_failover(scene.state, node)
    if incident is None or incident.opened_wall_s is None:
        return None
    age_s = scene.at.wall_s - incident.opened_wall_s
    if not 0 <= age_s < scene.policy.resolve_hold_s:
        return None
    return Finding(incident.verdict.evidence)


def _switch_lsn(scene: Scene, old: PrimarySeen, new: ServerSight) -> Lsn | None:
    """Return where the new primary left the old one's timeline, if it is known."""
    lineage = scene.lineage(new.node)
    if lineage is None or lineage.timeline != new.sight.timeline:
        return None
    for switch in lineage.switches:
        if switch.timeline == old.timeline:
            return switch.lsn
    return None


def known_not_writable(scene: Scene, node: str) -> bool:
    """Whether it is known, and not merely unseen, that the node accepts no writes."""
    fresh = scene.sights.get(node)
    if scene.stopped(node):
        return True
    if fresh is not None:
        return fresh.sight.in_recovery
    if node not in scene.policy.order:
        return False  # a node that was renamed or taken out has not failed
    return is_down(scene, node) or postgres_down(scene, node) is not None


def _seen_not_writable(scene: Scene, node: str) -> bool:
    """Whether somebody sees that the node accepts no writes.

    What a majority calls down may only be cut off from it.
    """
    return known_not_writable(scene, node) and not is_down(scene, node)


def no_primary(scene: Scene, _: str) -> Finding | None:
    """No server is seen to accept writes, and none can be doing so unseen.

    Unless it is cut off from a majority: what a majority calls down counts as such.
    """
    servers = [node.name for node in scene.policy.nodes if node.has_postgres]
    if not servers or scene.writable:
        return None
    if not all(known_not_writable(scene, node) for node in servers):
        return None
    last = scene.state.knowledge.primary
    standbys = [node for node in servers if _answers(scene, node)]
    return Finding(
        {
            "last_primary": last.node if last is not None else None,
            "standbys": ",".join(standbys),
            "furthest": _furthest(scene, standbys),
        }
    )


def _answers(scene: Scene, node: str) -> bool:
    """Whether a server answers this agent, or was lately read by another one."""
    seen = scene.looks.get((node, Channel.POSTGRES)) is Look.SEEN
    return (seen or node in scene.sights) and not scene.stopped(node)


def _furthest(scene: Scene, standbys: list[str]) -> str | None:
    """Return which of them has received most, as far as that is known."""
    places = ((name, scene.position(name)) for name in standbys)
    known = [(at.timeline, int(at.lsn), name) for name, at in places if at is not None]
    return max(known)[-1] if known else None


def writes_blocked(scene: Scene, node: str) -> Finding | None:
    """Find a primary on which commits wait for a synchronous standby.

    They are neither acknowledged nor undone. A losing side that is held back until its
    copy is complete can be the standby that they wait for.
    """
    fresh = scene.sights.get(node)
    if fresh is None or fresh.sight.in_recovery or _lacking(scene, node) is not None:
        return None
    if fresh.sight.waiting_for_sync_s < scene.policy.sync_wait_s:
        return None
    streaming = [one.name for one in fresh.sight.senders]
    return Finding(
        {
            "waiting": fresh.sight.waiting_for_sync,
            "limit_s": scene.policy.sync_wait_s,
            "connected": ",".join(sorted(streaming)),
        }
    )


def _waited_for(scene: Scene) -> Collection[str]:
    """Return the nodes on which commits have waited for long enough."""
    limit_s = scene.policy.sync_wait_s
    return [
        name
        for name, one in scene.sights.items()
        if one.sight.waiting_for_sync_s >= limit_s
    ]


def _leads(scene: Scene) -> Collection[str]:
    """Return the only primary."""
    sole = scene.sole_primary
    return () if sole is None else (sole.node,)


def set_back(scene: Scene, node: str) -> Finding | None:
    """Find the primary below what its own timeline was seen to hold."""
    found = _lacking(scene, node)
    return None if found is None or found.is_left else _stale(scene, node, found)


def left_early(scene: Scene, node: str) -> Finding | None:
    """Find a primary that left a timeline below what that was seen to hold."""
    found = _lacking(scene, node)
    return _stale(scene, node, found) if found is not None and found.is_left else None


def _lacking(scene: Scene, node: str) -> Lacking | None:
    sole = scene.sole_primary
    if sole is None or sole.node != node:
        return None
    return scene.once("lacking", lambda: lacking(scene))


def _stale(scene: Scene, node: str, found: Lacking) -> Finding:
    """Return what is missing, and who still holds it."""
    held_by = [
        one.name
        for one in scene.policy.nodes
        if one.name != node
        and (place := scene.position(one.name)) is not None
        and place.timeline == found.mark.timeline
        and place.lsn > found.end
    ]
    sole = scene.sole_primary
    return Finding(
        {
            "timeline": None if sole is None else sole.sight.timeline,
            "end_lsn": str(found.end),
            "reached_timeline": found.mark.timeline,
            "reached_lsn": str(found.mark.lsn),
            "seen_on": found.mark.node,
            "lacking_bytes": found.bytes_,
            "held_by": ",".join(held_by),
        }
    )


ROWS = (
    Rule(
        401,
        VerdictCode.FAILOVER,
        Family.PRIMARY,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "The only primary is another node than the last one that was.",
        failover,
        sticky=True,
    ),
    Rule(
        403,
        VerdictCode.NO_PRIMARY,
        Family.PRIMARY,
        Severity.CRITICAL,
        Scope.CLUSTER,
        "No server that a majority can see accepts writes.",
        no_primary,
        hold=Hold.NO_PRIMARY,
    ),
    Rule(
        405,
        VerdictCode.WRITES_BLOCKED,
        Family.PRIMARY,
        Severity.CRITICAL,
        Scope.NODES,
        "Commits on a primary wait for a synchronous standby for longer than 5 s.",
        writes_blocked,
        about=_waited_for,
    ),
    Rule(
        407,
        VerdictCode.FAILOVER,
        Family.PRIMARY,
        Severity.INFO,
        Scope.CLUSTER,
        "The primary moved as announced, and the former one takes no writes.",
        planned_failover,
        sticky=True,
    ),
    Rule(
        409,
        VerdictCode.STALE_PRIMARY,
        Family.PRIMARY,
        Severity.CRITICAL,
        Scope.NODES,
        "The primary is below what its own timeline was seen to hold.",
        set_back,
        about=_leads,
        hold=Hold.READINGS,
        sticky=True,
    ),
    Rule(
        411,
        VerdictCode.STALE_PRIMARY,
        Family.PRIMARY,
        Severity.CRITICAL,
        Scope.NODES,
        "The primary left a timeline below what that was seen to hold.",
        left_early,
        about=_leads,
        hold=Hold.READINGS,
        sticky=True,
    ),
)
