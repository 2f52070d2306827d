"""Who was kept when a split was over, as far as that shows.

Theory of operation. While two nodes accept writes, who is kept is a prediction, or
nobody can tell. When the trouble is first gone beside a single primary, that one was
kept, and the incident notes it: a failover later says nothing about the split any more.
Agents that were cut off from each other may hold one split under two ids; what one of
the two says holds for the other, and so does what was kept because of it.
"""

from collections.abc import Iterable

from agent.core.frozen import replace
from agent.core.incident import Incident
from agent.core.scene import Scene
from agent.core.verdict import Family, VerdictCode

KEPT = "kept"
"""The evidence that says it; other than `winner` it is never a prediction."""
TOGETHER_S = 600.0
"""So long after the end of one incident the next one may be of the same split."""
_BESIDE_ONE = (VerdictCode.LINEAGE_DIVERGED, VerdictCode.LINEAGE_TWIN)
"""Verdicts that are given beside a single primary: their winner is no prediction."""


def noted(incident: Incident, scene: Scene) -> Incident:
    """Return a split that is not seen any more with who was kept, where that shows."""
    primary, verdict = scene.sole_primary, incident.verdict
    if verdict.code is not VerdictCode.SPLIT_BRAIN or KEPT in verdict.evidence:
        return incident
    if primary is None or primary.node not in incident.sides:
        return incident
    evidence = {**verdict.evidence, KEPT: primary.node}
    return replace(incident, verdict=replace(verdict, evidence=evidence))


def settled(incident: Incident, kept: str) -> Incident:
    """Return the incident as it is told once it is known who was kept."""
    verdict = incident.verdict
    lost = ",".join(name for name in incident.sides if name != kept)
    evidence = {
        name: value
        for name, value in verdict.evidence.items()
        if name not in ("winner_rule", "winner_otherwise")
    }
    evidence |= {"winner": kept, "losers": lost, KEPT: kept}
    return replace(incident, verdict=replace(verdict, evidence=evidence))


def kept_in(incident: Incident, incidents: Iterable[Incident]) -> str | None:
    """Return who was kept in a split, as it or another id of it says; else None."""
    told = (_told(one) for one in (incident, *same_split(incident, incidents)))
    return next((node for node in told if node in incident.sides), None)


def same_split(
    incident: Incident, incidents: Iterable[Incident]
) -> tuple[Incident, ...]:
    """Return the others that are about the same split, the latest first."""
    found = [one for one in incidents if _is_same(incident, one)]
    return tuple(sorted(found, key=lambda one: one.since_wall_s, reverse=True))


def _told(incident: Incident) -> str | None:
    """Return who was kept, where this incident itself knows it."""
    evidence = incident.verdict.evidence
    name = evidence.get(KEPT)
    if name is None and incident.verdict.code in _BESIDE_ONE:
        name = evidence.get("winner")
    if isinstance(name, str) and name:
        return name
    return next((loss.winner for loss in incident.losses if loss.winner), None)


def _is_same(incident: Incident, other: Incident) -> bool:
    families = {incident.verdict.family, other.verdict.family}
    if other.id == incident.id or families != {Family.SPLIT}:
        return False
    ours, theirs = set(incident.sides), set(other.sides)
    shared = ours & theirs
    if not shared or shared not in (ours, theirs) or _forks_differ(incident, other):
        return False
    return _follows(incident, other) and _follows(other, incident)


def _forks_differ(first: Incident, second: Incident) -> bool:
    """Whether it is known of both where the sides parted, and that is two places."""
    places = [
        (one.verdict.evidence["fork_timeline"], one.verdict.evidence["fork_lsn"])
        for one in (first, second)
        if one.verdict.evidence.get("fork_lsn")
    ]
    return len(set(places)) > 1


def _follows(first: Incident, second: Incident) -> bool:
    """Whether the second began before the first was over for long."""
    end_s = first.resolved_wall_s
    return end_s is None or second.since_wall_s <= end_s + TOGETHER_S
