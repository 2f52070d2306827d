"""When a trouble may end: who has to say so, and who can.

Theory of operation. That a trouble is not seen any more ends it only where the agent
looks at what it is about. What must not pass unread waits for a person besides.
"""

from agent.core.detector import Look
from agent.core.incident import Incident, Status
from agent.core.inhibition import history_told
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
