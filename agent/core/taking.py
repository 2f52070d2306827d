"""What a person has taken, and what that covers.

Theory of operation. Who takes an incident has seen how far it has gone: its gravest
stage and its greatest severity. When it goes further that is news which nobody has
taken: it is open again. What was taken at one agent is taken at all, as far as it
covers what they have seen: a stage no graver than those, or one that had begun there
before it was taken. Agents that notice one stage in turn so agree without asking. What
one of them keeps open for a person the others keep open as well.
"""

from agent.core.agreement import Hearing, briefs_on
from agent.core.explain import sentence
from agent.core.frozen import replace
from agent.core.incident import Flip, Incident, Status, Taken
from agent.core.moment import Moment
from agent.core.observation import IncidentBrief
from agent.core.policy import Policy
from agent.core.stages import gravity
from agent.core.state import Ledger
from agent.core.verdict import Severity, Verdict


def acknowledge(
    ledger: Ledger, wanted: str, who: str, at: Moment, policy: Policy
) -> Ledger:
    """Return the ledger in which a person has taken the incident.

    One that is over can be taken still: until then the snapshots that it is bound to
    are kept. Nothing changes when there is none, or somebody has taken it before.
    """
    return replace(
        ledger,
        incidents=tuple(
            acknowledged(one, who, at, policy) if one.id == wanted else one
            for one in ledger.incidents
        ),
    )


def acknowledged(incident: Incident, who: str, at: Moment, policy: Policy) -> Incident:
    """Return the incident, taken by `who` as far as it has gone."""
    taken = Taken(gravest(incident), incident.worst.value, at.wall_s)
    return _taken(incident, who, taken, at, policy)


def taken_at_peer(
    incident: Incident, told: Hearing, at: Moment, policy: Policy
) -> Incident:
    """Count it as acknowledged here when a person has taken it at a peer."""
    if incident.status is not Status.OPEN:
        return incident
    for node, brief in briefs_on(incident.id, told):
        over = brief.status == Status.RESOLVED and _waited(brief, incident)
        if over or (brief.status == Status.ACKNOWLEDGED and _covers(brief, incident)):
            now = Taken(gravest(incident), incident.worst.value, at.wall_s)
            who = f"somebody at {node}"
            return _taken(incident, who, brief.taken or now, at, policy)
    return incident


def outgrown(incident: Incident, verdict: Verdict) -> bool:
    """Whether this stage is more than what a person has taken of the incident."""
    if incident.status is not Status.ACKNOWLEDGED:
        return False
    stage = incident.taken.stage if incident.taken is not None else gravest(incident)
    worst = _rank(incident.taken.worst) if incident.taken else incident.worst.rank
    return verdict.severity.rank > worst or gravity(verdict.code) > gravity(stage)


def reopened(incident: Incident) -> Incident:
    """Return the incident as nobody has taken it: it has got graver since."""
    return replace(incident, status=Status.OPEN, acknowledged_by=None, taken=None)


def gravest(incident: Incident) -> str:
    """Return the gravest stage that the incident has been in."""
    codes = (*(flip.verdict for flip in incident.history), incident.verdict.code.value)
    return max(codes, key=gravity)


def flipped(
    incident: Incident, at: Moment, policy: Policy, wall_s: float = 0.0
) -> Incident:
    """Write the present status and stage into the history, as of now or `wall_s`."""
    flip = Flip(
        wall_s or at.wall_s,
        incident.status,
        incident.verdict.code.value,
        incident.verdict.rule,
        sentence(incident.verdict, policy),
    )
    return replace(incident, history=(*incident.history, flip)[-policy.history_limit :])


def _taken(
    incident: Incident, who: str, taken: Taken, at: Moment, policy: Policy
) -> Incident:
    if incident.status is Status.RESOLVED and incident.acknowledged_by is None:
        return replace(incident, acknowledged_by=who, taken=taken)
    if incident.status is not Status.OPEN:
        return incident
    now = replace(
        incident, status=Status.ACKNOWLEDGED, acknowledged_by=who, taken=taken
    )
    return flipped(now, at, policy)


def _waited(brief: IncidentBrief, incident: Incident) -> bool:
    """Whether a peer cannot have called it over without a person's word.

    Who has not seen that the primary moved has waited for nobody.
    """
    same = brief.moved or brief.verdict == incident.verdict.code
    return incident.verdict.sticky and (same or brief.taken is not None)


def awaited_at_peer(incident: Incident, told: Hearing) -> bool:
    """Whether a peer that has seen the primary move waits for a person to take it.

    Who has not seen that does not end it either: people would hear of an end, and of
    the move under another id when it is seen here.
    """
    return incident.status is Status.OPEN and any(
        brief.moved and brief.status == Status.OPEN
        for _, brief in briefs_on(incident.id, told)
    )


def _covers(brief: IncidentBrief, incident: Incident) -> bool:
    """Whether what was taken at a peer is all that has been seen here."""
    stage = gravest(incident)
    if brief.taken is None:  # an older agent tells its present stage only
        return gravity(brief.verdict) >= gravity(stage)
    began_s = min(
        (flip.wall_s for flip in incident.history if flip.verdict == stage),
        default=incident.since_wall_s,
    )
    if _rank(brief.taken.worst) < incident.worst.rank:
        return False
    seen = gravity(brief.taken.stage) >= gravity(stage)
    return seen or brief.taken.wall_s >= began_s


def _rank(severity: str) -> int:
    """Return the rank of a severity; 0 for a word of another version."""
    known = [one.value for one in Severity]
    return known.index(severity) if severity in known else 0
