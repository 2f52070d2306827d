"""What a peer's report says, put in order once for the many judgements on it.

Theory of operation. A report is judged at every step until the next one comes, and
only its age has changed meanwhile. So the lines of its matrix are sorted once: where
to find a channel, which lines tell of a miss, which brought an answer of a PostgreSQL;
and so are the incidents that it tells of.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.incident import Status
from agent.core.memo import remembered
from agent.core.observation import Channel, IncidentBrief, Outcome, Report, Sight

Place = tuple[str, Channel]
Line = tuple[Place, int, float]
"""A channel, how often in a row it was missed, and how old that is in the report."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """One report, in order."""

    at: Mapping[Place, Sight]
    """The first line on each channel."""
    lines: tuple[Line, ...]
    """All lines, as far as looks are judged by them."""
    missed: tuple[Line, ...]
    """Those of them that tell of a miss."""
    readings: tuple[Sight, ...]
    """The lines that brought an answer of a PostgreSQL."""
    useless: tuple[Sight, ...]
    """The lines that tell of an agent which gave no report, alive or not."""


@dataclass(frozen=True, slots=True)
class Incidents:
    """What one report tells of incidents."""

    by_id: Mapping[str, tuple[IncidentBrief, ...]]
    standing: Mapping[str, frozenset[int]]
    """By key: under which occurrences it stands."""
    ended: Mapping[str, frozenset[int]]
    """By key: under which occurrences people were told that it is over."""


@remembered
def testimony(report: Report) -> Testimony:
    """Put the lines of a report in order."""
    at: dict[Place, Sight] = {}
    for sight in report.sights:
        at.setdefault((sight.node, sight.channel), sight)
    lines = tuple(
        ((one.node, one.channel), one.missed, one.age_s) for one in report.sights
    )
    return Testimony(
        at=at,
        lines=lines,
        missed=tuple(line for line in lines if line[1] > 0),
        readings=tuple(
            one
            for one in report.sights
            if one.postgres is not None and one.outcome is Outcome.ANSWERED
        ),
        useless=tuple(
            one
            for one in report.sights
            if one.channel is Channel.AGENT and one.outcome is not Outcome.ANSWERED
        ),
    )


@remembered
def incidents_of(report: Report) -> Incidents:
    """Sort the incidents that a report tells of."""
    by_id: dict[str, tuple[IncidentBrief, ...]] = {}
    standing: dict[str, frozenset[int]] = {}
    ended: dict[str, frozenset[int]] = {}
    for one in report.incidents:
        by_id[one.id] = (*by_id.get(one.id, ()), one)
        if one.occurrence <= 0:
            continue
        if one.status in (Status.OPEN, Status.ACKNOWLEDGED):
            standing[one.key] = standing.get(one.key, frozenset()) | {one.occurrence}
        elif one.status == Status.RESOLVED:
            ended[one.key] = ended.get(one.key, frozenset()) | {one.occurrence}
    return Incidents(by_id, standing, ended)
