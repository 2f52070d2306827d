"""Which troubles are lesser consequences of one that is on record already.

Theory of operation. People are told of a cause once, and not of each thing that follows
from it. Three things follow so regularly that they are known beforehand:

- In a proven split every side but one is stopped for its resync. While the split stands
  and another node may accept writes, the silence of a side's PostgreSQL is no trouble
  of its own. When nobody else does it is one, and so is a silence that people were told
  of before the split was known.
- The primary that an announced switchover is about is stopped on the way. For as long
  as a restart may take, the silence of its PostgreSQL is what was announced.
- Whoever was dead, or cut off, is seen again by one agent a moment before the others
  have asked. Until that trouble is over, a link to it is not called broken.

What is inhibited comes up by itself when the cause is over and it still stands.
"""

from collections.abc import Iterator
from math import inf

from agent.core.detector import Look, channels, key
from agent.core.incident import Incident
from agent.core.maintenance import running
from agent.core.observation import Channel
from agent.core.plan import Maintenance
from agent.core.protection import PROVEN
from agent.core.scene import Scene
from agent.core.standing import living
from agent.core.testimony import testimony
from agent.core.verdict import Family, Verdict, VerdictCode

SILENT = {
    VerdictCode.POSTGRES_DOWN: (Channel.POSTGRES,),
    VerdictCode.AGENT_DOWN: (Channel.AGENT,),
    VerdictCode.MANAGER_DOWN: (Channel.MANAGER,),
}
"""On which channels a node is silent; on all of them where nothing else is said."""


def stopped_in_split(scene: Scene, node: str) -> bool:
    """Whether the silence of this node's PostgreSQL follows from a standing split."""
    if not any(node in sides(one) for one in _going_on(scene, Family.SPLIT)):
        return False
    others = (one.name for one in scene.policy.nodes if one.name != node)
    return not _told_down(scene, node) and any(_may_write(scene, n) for n in others)


def _may_write(scene: Scene, node: str) -> bool:
    """Whether a server accepts writes, or was not heard for a moment only."""
    fresh = scene.sights.get(node)
    if scene.stopped(node):
        return False
    if fresh is not None:
        return not fresh.sight.in_recovery
    look = scene.looks.get((node, Channel.POSTGRES), Look.UNSEEN)
    return look is not Look.UNSEEN


def sides(incident: Incident) -> frozenset[str]:
    """Return the nodes that may be stopped because of a split.

    While both sides accept writes, that is either of them; afterwards it is who had
    lost in any stage of it, even if others are still to be resynced.
    """
    verdict = incident.verdict
    if verdict.code not in PROVEN:
        return frozenset()
    if verdict.code is VerdictCode.SPLIT_BRAIN:
        return frozenset(incident.sides)
    return frozenset(incident.sides) - {str(verdict.evidence.get("winner"))}


def stopped_as_announced(scene: Scene, node: str) -> bool:
    """Whether this silence is the restart of the primary that hands over as announced.

    Its link to the others is not lost, or more than its PostgreSQL would be silent. A
    silence that people were told of goes on; one that outlasts a restart is told.
    """
    state, at = scene.state, scene.at
    plans = [one for one in running(state, at) if one.node != node]
    if not any(node == _handing_over(scene, one) for one in plans):
        return False
    since_s = first_miss_s(scene, scene.me, (node, Channel.POSTGRES))
    long_s = at.monotonic_s - since_s
    return long_s < scene.policy.lag_hold_s and not _told_down(scene, node)


def _handing_over(scene: Scene, plan: Maintenance) -> str | None:
    """Return whom the announced move was from, or will be if it has not begun."""
    moves = [
        str(one.verdict.evidence.get("from"))
        for one in scene.state.ledger.incidents
        if one.verdict.evidence.get("planned_by") is not None
        and one.since_wall_s >= plan.begun_wall_s
    ]
    last = scene.state.knowledge.primary
    return moves[-1] if moves else None if last is None else last.node


def link_follows(scene: Scene, pair: tuple[str, str], channel: Channel) -> bool:
    """Whether a broken link of this pair follows from a trouble of one of the two."""
    troubles = (*_going_on(scene, Family.REACH), *_going_on(scene, Family.SELF))
    if any(
        one.verdict.subject in pair
        and channel in SILENT.get(one.verdict.code, tuple(Channel))
        for one in troubles
    ):
        return True
    return channel is Channel.POSTGRES and any(
        name in sides(one) for one in _going_on(scene, Family.SPLIT) for name in pair
    )


def seen_again(scene: Scene, verdict: Verdict) -> bool:
    """Whether somebody sees now what was missed.

    A row that has ceased to fire proves no life: the agent that misses may be cut off
    from the node in every way, or doubt itself. Who was isolated sees a majority.
    """
    node, policy = verdict.subject, scene.policy
    if verdict.code is VerdictCode.OBSERVER_ISOLATED:
        others = sum(scene.nodes.get(one) is Look.SEEN for one in policy.voters)
        return others + (scene.me in policy.voters) >= policy.majority
    if verdict.family is not Family.REACH or node not in policy.order:
        return True
    asked = channels(policy, node)
    missed = [one for one in SILENT.get(verdict.code, asked) if one in asked]
    return not missed or any(_seen_since_missed(scene, (node, one)) for one in missed)


def _seen_since_missed(scene: Scene, place: tuple[str, Channel]) -> bool:
    """Whether somebody has seen the channel since all who miss it began to.

    What was seen before that is the old news of what may have gone again.
    """
    seers = scene.seen_by.get(place, ())
    first_s = (first_miss_s(scene, one, place) for one in _missing(scene, place))
    since_s = max(first_s, default=-inf)
    return any(scene.last_look(seer, place)[1] >= since_s for seer in seers)


def _missing(scene: Scene, place: tuple[str, Channel]) -> Iterator[str]:
    """Go through who has lately looked at a channel in vain, this agent included."""
    if scene.state.view.missed.get(key(*place), 0):
        yield scene.me
    for peer, told in scene.told.items():
        sight = testimony(told.report).at.get(place)
        if sight is not None and sight.missed > 0:
            yield peer


def first_miss_s(scene: Scene, seer: str, place: tuple[str, Channel]) -> float:
    """Return when a seer began to miss a channel, on our own clock."""
    missed, last_miss_s = scene.last_look(seer, place)
    return last_miss_s - (missed - 1) * scene.policy.round_s


def history_told(scene: Scene) -> bool:
    """Whether every server can be held against the history of the only primary.

    While its disk cannot be read after it took another timeline, no row can name who
    has lost, and that nobody is named proves nothing. Where no history was ever read
    none is waited for.
    """
    primary = scene.sole_primary
    if primary is None:
        return False
    lineage, timeline = scene.lineage(primary.node), primary.sight.timeline
    if lineage is None or not scene.policy.spec(primary.node).has_agent:
        return True
    return timeline in (None, lineage.timeline)


def _told_down(scene: Scene, node: str) -> bool:
    """Whether people know of that silence, whatever has become of it since.

    Who was cut off from the whole node for a while goes on with the same trouble.
    """
    down = VerdictCode.POSTGRES_DOWN
    return any(
        one.status.standing
        and one.verdict.subject == node
        and down in (one.verdict.code, *(flip.verdict for flip in one.history))
        for one in _going_on(scene, Family.REACH)
    )


def _going_on(scene: Scene, family: Family) -> Iterator[Incident]:
    for incident in living(scene.state):
        if incident.verdict.family is family:
            yield incident
