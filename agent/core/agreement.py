"""How agents that cannot talk to each other come to one incident id.

Theory of operation. An id is made of the key, which everybody derives alike from what
is so, and the occurrence, which counts on from the highest one that anybody has seen
resolved; who cannot hear that one hears of it from others. Agents that were apart may
still hold one trouble open under two occurrences. When they meet they end with one: an
occurrence that somebody has resolved is spent and gives way; of several that are not,
the lowest one stays. What this agent itself has called over it never takes up again,
whoever comes back after long and still holds that open. What was found before the
system id was known goes on under the key with that, while nobody knows of it or when a
peer holds that open. It is true since the first of them saw it begin.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from agent.core.frozen import replace
from agent.core.incident import Incident, Status
from agent.core.moment import Moment
from agent.core.observation import Channel, IncidentBrief, Report, ServerFacts
from agent.core.policy import Policy
from agent.core.standing import standing
from agent.core.state import Ledger, PrimarySeen, State
from agent.core.testimony import Incidents, incidents_of
from agent.core.verdict import VerdictCode

Hearing = tuple[tuple[str, Incidents], ...]
"""Peers, each with what its report tells of incidents."""
NONE: frozenset[int] = frozenset()
EARLIER_MAX_S = 7 * 86_400.0
"""So much earlier than this agent a peer may have seen a trouble begin."""
CLOCKS_AGREE_S = 30.0
"""So far apart two wall clocks may be, and a report on its way, before that counts."""
NO_SYSTEM = "-"
"""Stands in a key for a system id that nobody has read yet."""


def system_id(state: State, policy: Policy) -> str:
    """Return the cluster's system id, which stands in every key; `-` when unknown."""
    primary = state.knowledge.primary
    if primary is not None:
        return primary.system_id
    server = state.view.server
    if isinstance(server, ServerFacts):
        return server.lineage.system_id
    for node in policy.nodes:
        seen = state.view.latest.get(f"{node.name}/{Channel.POSTGRES}")
        if seen is not None and seen.postgres is not None:
            return seen.postgres.system_id
        lineage = state.knowledge.lineages.get(node.name)
        if lineage is not None:
            return lineage.system_id
    return NO_SYSTEM


def heard(state: State, at: Moment, policy: Policy) -> Hearing:
    """Return what the fresh reports of peers say of incidents, by peer."""
    return tuple(
        (node, incidents_of(report)) for node, report in _fresh(state, at, policy)
    )


def standing_at_peers(key: str, told: Hearing) -> AbstractSet[int]:
    """Return under which occurrences peers hold this trouble open at present."""
    found: AbstractSet[int] = NONE
    for _, incidents in told:
        found |= incidents.standing.get(key, NONE)
    return found


def briefs_on(incident_id: str, told: Hearing) -> list[tuple[str, IncidentBrief]]:
    """Return what peers say of one incident, and who says it."""
    return [
        (node, brief)
        for node, incidents in told
        for brief in incidents.by_id.get(incident_id, ())
    ]


def dated_by_peers(incident: Incident, told: Hearing) -> Incident:
    """Return the incident, true since when the first of all agents saw it.

    The side that was cut off has known of a split since the cut, the other one since
    the heal. What a clock far off tells was put right when it was heard; where an older
    agent cannot say how far off its clock is, what is absurd is left aside.
    """
    since_s = min(
        (
            brief.since_wall_s
            for _, brief in briefs_on(incident.id, told)
            if brief.status in (Status.OPEN, Status.ACKNOWLEDGED)
            and brief.since_wall_s >= incident.since_wall_s - EARLIER_MAX_S
        ),
        default=incident.since_wall_s,
    )
    if since_s >= incident.since_wall_s:
        return incident
    return replace(incident, since_wall_s=since_s)


def redated(report: Report, at: Moment) -> Report:
    """Return a peer's report, just received, with the dates of incidents on our clock.

    Nothing changes while the two clocks agree, or where an older agent does not tell
    what its clock showed.
    """
    if report.wall_s is None or abs(at.wall_s - report.wall_s) <= CLOCKS_AGREE_S:
        return report
    ahead_s = report.wall_s - at.wall_s
    return replace(
        report, incidents=tuple(_redated(one, ahead_s) for one in report.incidents)
    )


def _redated(brief: IncidentBrief, ahead_s: float) -> IncidentBrief:
    since_s = max(0.0, brief.since_wall_s - ahead_s)
    taken = brief.taken
    if taken is not None:
        taken = replace(taken, wall_s=max(0.0, taken.wall_s - ahead_s))
    return replace(brief, since_wall_s=since_s, taken=taken)


def failover_is_over(
    last: PrimarySeen, state: State, at: Moment, policy: Policy
) -> bool:
    """Whether a peer has seen the primary leave `last`, and people were told of it.

    An agent that was cut off, or did not run, would tell the old news once more,
    whatever else had become of the primary before it came back. What it has seen
    itself is no such news, whatever became of it. A later timeline tells that it came
    after; dates do, as long as nobody has set a clock.
    """
    own = {incident.id for incident in state.ledger.incidents}
    return any(
        (brief.moved or brief.verdict == VerdictCode.FAILOVER)
        and brief.status == Status.RESOLVED
        and brief.id not in own
        and (brief.moved_to > last.timeline or brief.since_wall_s >= last.wall_s)
        for _, brief in briefs(state, at, policy)
    )


def standing_failover(state: State, node: str) -> Incident | None:
    """Return the standing incident that says that the primary moved to `node`."""
    for incident in standing(state):
        if (
            incident.verdict.code is VerdictCode.FAILOVER
            and incident.verdict.evidence.get("to") == node
        ):
            return incident
    return None


def briefs(
    state: State, at: Moment, policy: Policy
) -> Iterator[tuple[str, IncidentBrief]]:
    """Go through what the fresh reports of peers say of incidents."""
    for node, report in _fresh(state, at, policy):
        for brief in report.incidents:
            yield node, brief


def _fresh(state: State, at: Moment, policy: Policy) -> Iterator[tuple[str, Report]]:
    for node, seen in state.view.reports.items():
        fresh = at.monotonic_s - seen.received_s <= policy.fresh_s
        if seen.report is not None and fresh:
            yield node, seen.report


def begun(key: str, ledger: Ledger, told: Hearing) -> int:
    """Return under which occurrence a trouble begins, or goes on with its peers.

    What a peer still holds open although people were told that it is over gives way.
    """
    spent = ledger.occurrences.get(key, 0)
    return preferred(_unspent(key, ledger, told) or {1 + spent}, spent)


def _unspent(key: str, ledger: Ledger, told: Hearing) -> set[int]:
    spent = ledger.occurrences.get(key, 0)
    return {number for number in standing_at_peers(key, told) if number > spent}


def named(
    incident: Incident, ledger: Ledger, told: Hearing, system: str
) -> tuple[str, int]:
    """Return the key and the occurrence under which a standing trouble goes on.

    A key without a system id is derived by nobody who knows that.
    """
    name, _, rest = incident.key.partition("/")
    if name == NO_SYSTEM != system:
        key = f"{system}/{rest}"
        if incident.status is Status.PENDING or _unspent(key, ledger, told):
            return key, begun(key, ledger, told)
    return incident.key, agreed(incident, ledger, told)


def agreed(incident: Incident, ledger: Ledger, told: Hearing) -> int:
    """Return the occurrence under which all who hold this trouble open go on.

    What nobody was told of yet does not open under an occurrence that was spent while
    it waited, unless a peer stands by that.
    """
    key, own = incident.key, incident.occurrence
    held = standing_at_peers(key, told)
    spent = ledger.occurrences.get(key, 0)
    if incident.status is Status.PENDING and own <= spent and own not in held:
        return begun(key, ledger, told)
    others = held - {own}
    if not others:
        return own
    over = {
        one.occurrence
        for one in ledger.incidents
        if one.key == key and one.status is Status.RESOLVED
    }
    ended = NONE.union(*(incidents.ended.get(key, NONE) for _, incidents in told))
    return preferred((others - over) | {own}, spent, ended)


def preferred(
    occurrences: Iterable[int], spent: int, ended: AbstractSet[int] = NONE
) -> int:
    """Return the lowest occurrence that is not spent, else the lowest.

    Those that are known to have `ended` somewhere come last, the latest first: an older
    one is held open only by who was away meanwhile.
    """

    def place(number: int) -> tuple[int, int]:
        if number in ended:
            return 2, -number
        return int(number <= spent), number

    return min(occurrences, key=place)
