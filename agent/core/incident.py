"""Incidents: the life of one trouble on one subject.

pending -> open -> acknowledged -> resolved. The hold times keep a flapping link
from making forty incidents. The id is a hash of the key and the occurrence, so
agents that cannot talk to each other derive the same id, and the same fault next
week gets another one.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from agent.core.loss import Loss
from agent.core.verdict import Family, Severity, Verdict


class Status(StrEnum):
    """Where an incident is in its life."""

    PENDING = "pending"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"

    @property
    def standing(self) -> bool:
        """Whether people know of it and it is not over."""
        return self in (Status.OPEN, Status.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Flip:
    """One entry of an incident's history."""

    wall_s: float
    status: Status
    verdict: str
    rule: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Taken:
    """How far a trouble had gone when a person took it: more is another decision."""

    stage: str
    """The gravest stage until then."""
    worst: str
    """The greatest severity until then."""
    wall_s: float
    """When, on the clock of the agent beside which it was taken."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One trouble, from its first sign to its end."""

    id: str
    key: str
    occurrence: int
    status: Status
    verdict: Verdict
    """The present stage; after the end, the last one."""
    worst: Severity
    since_wall_s: float
    """When it became true, not when it was noticed."""
    opened_wall_s: float | None
    resolved_wall_s: float | None
    clear_since_s: float | None
    """Since when (monotonic) the trouble has been gone; None while it lasts."""
    pending_since_s: float
    """Since when (monotonic) it has been seen."""
    revision: int
    """Counts up with every change that people are told about."""
    acknowledged_by: str | None
    history: tuple[Flip, ...]
    """Oldest first, bounded by policy."""
    sides: tuple[str, ...] = ()
    """The nodes that any stage of a split has named as one of its sides."""
    stage_wall_s: float | None = None
    """When the present stage began; None where an older version wrote it down."""
    taken: Taken | None = None
    """What the acknowledgement covers; None where nobody has taken it."""
    losses: tuple[Loss, ...] = ()
    """What a split has cost: the headline of each snapshot's loss report."""


def stage_since(incident: Incident) -> float:
    """Return since when (wall clock) the present verdict has been true.

    A split is one event through all its stages. Elsewhere one stage may follow another
    after days: a node whose agent was silent for long is down since it went down.
    """
    if incident.verdict.family is Family.SPLIT or incident.stage_wall_s is None:
        return incident.since_wall_s
    return incident.stage_wall_s


def incident_key(system_id: str, family: str, subject: str, discriminator: str) -> str:
    """Return the key that all agents derive alike for one trouble."""
    return "/".join((system_id, family, subject, discriminator))


def incident_id(key: str, occurrence: int) -> str:
    """Return the id of the given occurrence of the trouble `key`."""
    digest = hashlib.sha256(f"{key}#{occurrence}".encode()).hexdigest()
    return f"inc-{digest[:12]}"
