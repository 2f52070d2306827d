"""When a trouble may end: who has to say so, and who can.

Theory of operation. That a trouble is not seen any more ends it only where the agent
looks at what it is about. What must not pass unread waits for a person besides. Agents
may hold one trouble open in different stages: who missed all of a node is not done when
it sees a part of that, while a peer misses the rest.
"""

from agent.core.agreement import Hearing, briefs_on
from agent.core.detector import Look
from agent.core.frozen import replace
from agent.core.incident import Incident, Status
from agent.core.inhibition import SILENT, history_told, seen_again
from agent.core.rules import BY_NUMBER
from agent.core.scene import Scene
from agent.core.verdict import Family

STICKY = frozenset(row.code.value for row in BY_NUMBER.values() if row.sticky)


def waits_for_person(incident: Incident) -> bool:
    """Whether it stays open, over or not, until somebody takes it."""
    codes = {incident.verdict.code.value, *(flip.verdict for flip in incident.history)}
    return incident.status is Status.OPEN and bool(STICKY & codes)


def can_be_told(incident: Incident, scene: Scene) -> bool:
    """Whether the agent sees enough to say that this trouble is over.

    A trouble of its own it can always judge; others' only while it is not cut off
    and has looked at them; who is primary, only beside a single one; a split, only
    where that one's history is known.
    """
    verdict = incident.verdict
    if scene.starting:
        return False
    if verdict.subject == scene.me:
        return True
    if scene.isolated:
        return False
    if verdict.family is Family.SPLIT:
        return history_told(scene)
    if verdict.family is Family.PRIMARY:
        return scene.sole_primary is not None
    subjects = verdict.subject.split("|")
    return all(scene.nodes.get(name) is not Look.UNKNOWN for name in subjects)


def seen_by_somebody(incident: Incident, scene: Scene, told: Hearing) -> bool:
    """Whether somebody sees again what is missed, here and in the stages of peers."""
    verdict = incident.verdict
    at_peers = {
        code
        for _, brief in briefs_on(incident.id, told)
        for code in SILENT
        if brief.verdict == code and brief.status in (Status.OPEN, Status.ACKNOWLEDGED)
    }
    return seen_again(scene, verdict) and all(
        seen_again(scene, replace(verdict, code=code)) for code in at_peers
    )
