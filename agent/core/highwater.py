"""How far each timeline was ever seen to reach on a primary, and what now lacks of it.

Theory of operation. While one node is known to be the only primary, the highest flushed
position of its timeline is kept, on disk, until a person says otherwise. A restart, a
switchover or a promotion of whoever had received everything never falls behind it. Two
things do: a machine that was set back to an old image goes on below it on the same
timeline; and a server that was promoted, or restored from a backup, too early left the
timeline below it. Both primaries look well to PostgreSQL and to all HA software.

One number may stand for two timelines, so a position counts only for the one that
began at the same place, with the same WAL; where it began nobody knows, nothing is
said. A loss that the
failover already tells of is not told again, and what a person has acknowledged is
forgotten: from then on what the primary holds is the truth. Only what primaries flushed
is kept: a standby that was restarted may take one timeline for another.
"""

from dataclasses import dataclass

from agent.core.agreement import briefs, failover_is_over, standing_failover
from agent.core.frozen import replace
from agent.core.incident import Status
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.policy import Policy
from agent.core.scene import Scene, ServerSight
from agent.core.state import HighWater, Knowledge, PrimarySeen
from agent.core.verdict import VerdictCode

MARKS_MAX = 16
"""Timelines that are remembered; the one that was not seen for longest goes first."""
SAME_MINUTE_S = 60.0
"""The mark of an idle primary is dated again after so long, and not every round."""
TAKEN = (Status.ACKNOWLEDGED, Status.RESOLVED)


@dataclass(frozen=True, slots=True)
class Lacking:
    """What the primary lacks of a timeline."""

    mark: HighWater
    end: Lsn
    """Where the primary is on that timeline, or where it left it."""
    is_left: bool
    """Whether it has left that timeline for a later one."""

    @property
    def bytes_(self) -> int:
        """How much WAL that is."""
        return self.mark.lsn - self.end


def lacking(scene: Scene) -> Lacking | None:
    """Return the most that the only primary lacks; None when it lacks nothing.

    A move of the primary is told first, and with it what it cost.
    """
    sole, last = scene.sole_primary, scene.state.knowledge.primary
    if sole is None or last is None or last.node != sole.node:
        return None
    marks = scene.state.knowledge.highest
    lineage = _lineage(scene, sole)
    sole = _as_of_now(scene, sole)
    found = [one for mark in marks if (one := _below(mark, sole, lineage)) is not None]
    return max(found, key=lambda one: one.bytes_, default=None)


def _as_of_now(scene: Scene, sole: ServerSight) -> ServerSight:
    """Return the sight with the latest position that anybody has read there.

    Of a primary that is being stopped a peer may have read more than this agent did,
    and fallen silent about it since: then the older reading is no fall.
    """
    last, sight = scene.state.view.positions.get(sole.node), sole.sight
    if last is None or last.timeline != sight.timeline or last.read_s < sole.read_s:
        return sole
    lsn = max(last.lsn, sight.flush_lsn or last.lsn)
    if lsn == sight.flush_lsn:
        return sole
    return sole._replace(sight=replace(sight, flush_lsn=lsn))


def after(scene: Scene, before: Knowledge, policy: Policy) -> Knowledge:
    """Return `before` with what the only primary of this scene adds to it."""
    sole = scene.sole_primary
    if sole is None:
        return before
    lineage = _lineage(scene, sole)
    now_s = scene.at.wall_s
    marks = tuple(
        _settled(mark, sole, lineage, now_s)
        if _is_taken(scene, mark, sole, policy)
        else mark
        for mark in before.highest
    )
    marks = _raised(marks, sole, lineage, now_s)
    return before if marks == before.highest else replace(before, highest=marks)


def _lineage(scene: Scene, sole: ServerSight) -> Lineage | None:
    """Return the primary's lineage, if it is of the timeline that SQL told of."""
    lineage = scene.lineage(sole.node)
    fits = lineage is not None and (lineage.system_id, lineage.timeline) == (
        sole.sight.system_id,
        sole.sight.timeline,
    )
    return lineage if fits else None


def _below(
    mark: HighWater, sole: ServerSight, lineage: Lineage | None
) -> Lacking | None:
    """Return what the primary lacks of this timeline, if it is of its past."""
    sight = sole.sight
    if mark.system_id != sight.system_id:
        return None
    end = sight.flush_lsn if mark.timeline == sight.timeline else None
    for switch in () if lineage is None else lineage.switches:
        if switch.timeline == mark.timeline:
            end = switch.lsn
    if end is None or mark.lsn <= end or not _is_same_line(mark, lineage):
        return None
    return Lacking(mark, end, is_left=mark.timeline != sight.timeline)


def _is_same_line(mark: HighWater, lineage: Lineage | None) -> bool:
    """Whether the mark is of the line that the primary's history goes back to."""
    if mark.timeline == 1:
        return True
    begun, prints = _begun(lineage, mark.timeline)
    if begun is None or mark.begun != begun:
        return False
    return not _differ(mark.prints, prints)


def _differ(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether both are known and have nothing in common."""
    return bool(ours) and bool(theirs) and not {*ours} & {*theirs}


def _begun(
    lineage: Lineage | None, timeline: int
) -> tuple[Lsn | None, tuple[str, ...]]:
    """Return where a timeline of this lineage began, and the fingerprints of that."""
    if lineage is None:
        return None, ()
    ends = lineage.switches
    numbers = [*(switch.timeline for switch in ends), lineage.timeline]
    place = numbers.index(timeline) if timeline in numbers else 0
    begun = ends[place - 1].lsn if place > 0 else None
    prints = {
        one.sha256
        for one in lineage.fingerprints
        if (one.timeline, one.lsn) == (timeline, begun)
    }
    return begun, tuple(sorted(prints))


def _is_taken(scene: Scene, mark: HighWater, sole: ServerSight, policy: Policy) -> bool:
    """Whether people know that what lies below this mark is gone."""
    state = scene.state
    stale = VerdictCode.STALE_PRIMARY
    if any(
        one.verdict.code is stale
        and one.verdict.subject == sole.node
        and one.status is Status.ACKNOWLEDGED
        for one in state.ledger.incidents
    ):
        return True
    # An agent that was away while others saw it, and a person took it, knows old news.
    if any(
        brief.verdict == stale
        and brief.status in TAKEN
        and brief.since_wall_s >= mark.wall_s
        for _, brief in briefs(state, scene.at, policy)
    ):
        return True
    last = state.knowledge.primary
    if last is None or last.node == sole.node:
        return False
    return _is_told(scene, mark, last, sole) or failover_is_over(
        last, state, scene.at, policy
    )


def _is_told(
    scene: Scene, mark: HighWater, last: PrimarySeen, sole: ServerSight
) -> bool:
    """Whether the failover on record says what was lost of this timeline."""
    incident = standing_failover(scene.state, sole.node)
    if incident is None or mark.timeline != last.timeline:
        return False
    told = incident.verdict.evidence.get("not_replicated_bytes")
    return told is not None and mark.lsn <= last.lsn


def _settled(
    mark: HighWater, sole: ServerSight, lineage: Lineage | None, wall_s: float
) -> HighWater:
    """Return the mark as if no more had ever been seen than the primary holds."""
    found = _below(mark, sole, lineage)
    return mark if found is None else replace(mark, lsn=found.end, wall_s=wall_s)


def _raised(
    marks: tuple[HighWater, ...],
    sole: ServerSight,
    lineage: Lineage | None,
    wall_s: float,
) -> tuple[HighWater, ...]:
    """Return the marks after this reading of the only primary."""
    sight = sole.sight
    if sight.timeline is None or sight.flush_lsn is None:
        return marks
    begun, prints = _begun(lineage, sight.timeline)
    new = HighWater(
        timeline=sight.timeline,
        begun=begun,
        prints=prints,
        lsn=sight.flush_lsn,
        node=sole.node,
        system_id=sight.system_id,
        wall_s=wall_s,
    )
    line = (new.system_id, new.timeline)
    old = next((one for one in marks if (one.system_id, one.timeline) == line), None)
    if old is not None and not _is_another(new, old):
        if new.lsn < old.lsn:
            return marks
        new = replace(new, begun=begun or old.begun, prints=prints or old.prints)
        if replace(new, wall_s=old.wall_s) == old and _is_young(old, wall_s):
            return marks
    others = [one for one in marks if one is not old]
    return tuple(sorted((*others, new), key=lambda one: one.wall_s)[-MARKS_MAX:])


def _is_another(new: HighWater, old: HighWater) -> bool:
    """Whether two marks of one number are known to be of two timelines."""
    elsewhere = None not in (new.begun, old.begun) and new.begun != old.begun
    return elsewhere or _differ(new.prints, old.prints)


def _is_young(mark: HighWater, wall_s: float) -> bool:
    return abs(wall_s - mark.wall_s) < SAME_MINUTE_S
