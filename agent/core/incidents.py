"""The life of incidents: what verdicts begin, change and end.

Theory of operation. Every verdict but `healthy` and `unknown` belongs to one
incident, found by family and subject. A new one is pending until it has stood for
the hold time of its rule; then it opens, and people are told. Another stage of the
same family changes it: to a graver one than ever before is `worse`, to one that was
not told of yet is `changed`, and going back and forth is told to nobody. What is worse
than what a person has taken is open again (see `taking`). When the
trouble has been gone for the resolve hold, the incident ends. A sticky one waits for
a person first, and nothing ends while the agent cannot see what it is about.

An incident keeps the evidence of its present stage as it was when the stage began or
last changed in kind: figures that move every second do not make it a new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.agreement import (
    Hearing,
    begun,
    dated_by_peers,
    heard,
    named,
    system_id,
)
from agent.core.ending import can_be_told, seen_by_somebody, waits_for_person
from agent.core.frozen import replace
from agent.core.incident import Incident, Status, incident_id, incident_key
from agent.core.moment import Moment
from agent.core.notice import NoticeReason
from agent.core.policy import Policy
from agent.core.protection import PROVEN
from agent.core.rules import BY_NUMBER
from agent.core.scene import Scene, build
from agent.core.settling import noted
from agent.core.spent import raised
from agent.core.stages import gravity
from agent.core.standing import living_of
from agent.core.state import Ledger, State
from agent.core.taking import (
    acknowledged,
    awaited_at_peer,
    flipped,
    outgrown,
    reopened,
    taken_at_peer,
)
from agent.core.verdict import Fact, Verdict, VerdictCode

QUIET = (VerdictCode.HEALTHY, VerdictCode.UNKNOWN)
"""Verdicts that are no trouble."""
_MOVING = ("_s", "_lsn", "_bytes", "bytes_done", "bytes_total", "confirmed_by")
"""How the names of evidence end that moves without changing what is so."""


@dataclass(frozen=True, slots=True)
class Change:
    """An incident about which people should be told, and why."""

    incident: Incident
    reason: NoticeReason
    revision: int | None = None
    """What tells this news apart; None where incident and reason do."""
    gives_way: bool = False
    """Whether it ends only to go on under another id."""


@dataclass(frozen=True, slots=True)
class _Next:
    """What became of one incident in this step; None when it was dropped."""

    incident: Incident | None
    changes: tuple[Change, ...] = ()
    resolved: tuple[Incident, ...] = ()
    """Further incidents that ended by it."""

    def is_still(self, before: Incident) -> bool:
        """Whether nothing became of it."""
        return self.incident is before and not self.changes and not self.resolved


def advance(
    ledger: Ledger,
    verdicts: tuple[Verdict, ...],
    state: State,
    at: Moment,
    policy: Policy,
    scene: Scene | None = None,
) -> tuple[Ledger, tuple[Change, ...]]:
    """Carry all incidents on by what is so now.

    `scene` is what the verdicts were found in, where the caller has it. Returns the
    ledger unchanged, the same object, when nothing has changed.
    """
    waiting = [one for one in verdicts if one.code not in QUIET]
    living = living_of(ledger)
    if not waiting and not living:
        return ledger, ()
    told = heard(state, at, policy)
    clock = _Clock(state, at, policy, told, scene)
    results: dict[str, _Next] = {}
    for known in living:
        incident = dated_by_peers(known, told)
        incident = taken_at_peer(incident, told, at, policy)
        verdict = _matching(incident, waiting)
        if verdict is not None:
            waiting.remove(verdict)
            results[incident.id] = _carried(incident, verdict, ledger, clock)
        else:
            results[incident.id] = _cleared(incident, clock)
    fresh = [_begun(verdict, ledger, clock) for verdict in waiting]
    bounded = len(ledger.incidents) - len(living) <= policy.incidents_limit
    still = not fresh and all(results[one.id].is_still(one) for one in living)
    if still and bounded:
        return ledger, ()
    return _collected(ledger, results, fresh, policy)


@dataclass(frozen=True, slots=True)
class _Clock:
    """The instant, with what is known at it."""

    state: State
    at: Moment
    policy: Policy
    told: Hearing
    judged: Scene | None = None

    def scene(self) -> Scene:
        if self.judged is not None:
            return self.judged
        return build(self.state, self.at, self.policy)


def _matching(incident: Incident, verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict that is about this incident's trouble.

    The discriminator is not asked for: a standing trouble goes on under its own key
    even when a later stage has found another fork.
    """
    own = incident.verdict
    for verdict in verdicts:
        if verdict.family is own.family and verdict.subject == own.subject:
            return verdict
    return None


def _begun(verdict: Verdict, ledger: Ledger, clock: _Clock) -> _Next:
    """Begin the incident of a verdict that has none yet."""
    system = system_id(clock.state, clock.policy)
    key = incident_key(system, verdict.family, verdict.subject, verdict.discriminator)
    occurrence = begun(key, ledger, clock.told)
    since_s = _true_since(verdict, clock.at)
    pending = Incident(
        id=incident_id(key, occurrence),
        key=key,
        occurrence=occurrence,
        status=Status.PENDING,
        verdict=verdict,
        worst=verdict.severity,
        since_wall_s=since_s,
        opened_wall_s=None,
        resolved_wall_s=None,
        clear_since_s=None,
        pending_since_s=clock.at.monotonic_s,
        revision=0,
        acknowledged_by=None,
        history=(),
        sides=_sides((), verdict),
        stage_wall_s=since_s,
    )
    return _opened(flipped(pending, clock.at, clock.policy), clock)


def _true_since(verdict: Verdict, at: Moment) -> float:
    """Return since when a verdict is true that has just been given."""
    age_s = verdict.evidence.get("since_age_s")
    return at.wall_s - (age_s if isinstance(age_s, int | float) and age_s > 0 else 0.0)


def _opened(incident: Incident, clock: _Clock) -> _Next:
    """Open a pending incident once it has stood for the hold time of its rule."""
    row = BY_NUMBER.get(incident.verdict.rule)
    hold_s = 0.0 if row is None else row.hold.seconds(clock.policy)
    if clock.at.monotonic_s - incident.pending_since_s < hold_s:
        return _Next(incident)
    opened = replace(
        incident,
        status=Status.OPEN,
        opened_wall_s=clock.at.wall_s,
        revision=incident.revision + 1,
    )
    opened = flipped(opened, clock.at, clock.policy)
    owner = opened.verdict.evidence.get("planned_by")
    if isinstance(owner, str):  # who announced it need not be asked to take it
        opened = acknowledged(opened, owner, clock.at, clock.policy)
    return _Next(opened, (Change(opened, NoticeReason.FIRST),))


def _carried(
    incident: Incident, verdict: Verdict, ledger: Ledger, clock: _Clock
) -> _Next:
    """Go on with an incident whose trouble still stands."""
    system = system_id(clock.state, clock.policy)
    name = named(incident, ledger, clock.told, system)
    if name != (incident.key, incident.occurrence):
        return _merged(incident, verdict, name, clock)
    if incident.status is Status.PENDING:
        return _opened(_staged(incident, verdict, clock), clock)
    if incident.clear_since_s is not None:
        incident = replace(incident, clear_since_s=None)
    if not _differs(incident.verdict, verdict):
        return _Next(incident)
    reason = _reason(incident, verdict)
    if reason is NoticeReason.WORSE and outgrown(incident, verdict):
        incident = reopened(incident)
    staged = _staged(incident, verdict, clock)
    if reason is None:
        return _Next(staged)
    told = replace(staged, revision=staged.revision + 1)
    return _Next(told, (Change(told, reason),))


def _differs(old: Verdict, new: Verdict) -> bool:
    """Whether another row fired, or the same one about something else."""
    if old.rule != new.rule:
        return True
    return old.evidence != new.evidence and _fixed(old) != _fixed(new)


def _fixed(verdict: Verdict) -> dict[str, Fact]:
    """Return the evidence that does not move by itself."""
    return {
        name: value
        for name, value in verdict.evidence.items()
        if not name.endswith(_MOVING)
    }


def _reason(incident: Incident, verdict: Verdict) -> NoticeReason | None:
    """Return why people should hear of this stage; None when they need not."""
    codes = {flip.verdict for flip in incident.history}
    worst = max((gravity(code) for code in codes), default=0)
    if verdict.severity.rank > incident.worst.rank:
        return NoticeReason.WORSE
    if verdict.severity.rank < incident.worst.rank:
        return None
    if verdict.code.value in codes:
        return NoticeReason.CHANGED if _moved_on(incident.verdict, verdict) else None
    worse = gravity(verdict.code) > worst
    return NoticeReason.WORSE if worse else NoticeReason.CHANGED


def _moved_on(old: Verdict, new: Verdict) -> bool:
    """Whether the primary has moved once more before anybody took the first move."""
    ways = [(one.evidence.get("from"), one.evidence.get("to")) for one in (old, new)]
    return old.code is new.code is VerdictCode.FAILOVER and ways[0] != ways[1]


def _staged(incident: Incident, verdict: Verdict, clock: _Clock) -> Incident:
    """Put the incident into this stage."""
    if not _differs(incident.verdict, verdict):
        return incident
    stage = incident.verdict.code is not verdict.code
    known = incident.worst if incident.status.standing else verdict.severity
    worst = max(known, verdict.severity, key=lambda one: one.rank)
    sides = _sides(incident.sides, verdict)
    staged = replace(incident, verdict=verdict, worst=worst, sides=sides)
    if stage:
        staged = replace(staged, stage_wall_s=_true_since(verdict, clock.at))
    last = incident.history[-1].status if incident.history else incident.status
    if not stage and last is incident.status:
        return staged
    return flipped(staged, clock.at, clock.policy)


def _sides(known: tuple[str, ...], verdict: Verdict) -> tuple[str, ...]:
    """Add the nodes that this stage of a split names, if it is a proven one."""
    if verdict.code not in PROVEN:
        return known
    named = (str(verdict.evidence.get(role) or "") for role in ("tips", "losers"))
    names = [one for joined in named for one in joined.split(",") if one]
    return tuple(dict.fromkeys((*known, *names)))


def _merged(
    incident: Incident, verdict: Verdict, name: tuple[str, int], clock: _Clock
) -> _Next:
    """Go on under the key and occurrence that a peer holds open; end our own.

    Where that peer is silenced meanwhile, somebody must tell of it all the same.
    """
    moved = replace(
        incident,
        id=incident_id(*name),
        key=name[0],
        occurrence=name[1],
        clear_since_s=None,
    )
    moved = _staged(moved, verdict, clock)
    if incident.status is Status.PENDING:
        return _Next(moved)
    ended = _resolved(incident, clock)
    over = Change(ended, NoticeReason.RESOLVED, gives_way=True)
    return _Next(moved, (over, Change(moved, NoticeReason.FIRST)), (ended,))


def _cleared(incident: Incident, clock: _Clock) -> _Next:
    """Go on with an incident whose trouble is not seen any more."""
    if incident.status is Status.PENDING:
        return _Next(None)
    now_s = clock.at.monotonic_s
    can_tell = can_be_told(incident, clock.scene())
    incident = noted(incident, clock.scene()) if can_tell else incident
    waits = waits_for_person(incident) or awaited_at_peer(incident, clock.told)
    if waits or not can_tell:
        return _Next(_clear_since(incident, None))
    if not seen_by_somebody(incident, clock.scene(), clock.told):
        return _Next(incident)
    since_s = now_s if incident.clear_since_s is None else incident.clear_since_s
    if now_s - since_s < clock.policy.resolve_hold_s:
        return _Next(_clear_since(incident, since_s))
    ended = _resolved(replace(incident, clear_since_s=since_s), clock)
    return _Next(ended, (Change(ended, NoticeReason.RESOLVED),))


def _clear_since(incident: Incident, since_s: float | None) -> Incident:
    if incident.clear_since_s == since_s:
        return incident
    return replace(incident, clear_since_s=since_s)


def _resolved(incident: Incident, clock: _Clock) -> Incident:
    cleared_s = 0.0
    if incident.clear_since_s is not None:
        cleared_s = clock.at.monotonic_s - incident.clear_since_s
    ended = replace(
        incident,
        status=Status.RESOLVED,
        resolved_wall_s=clock.at.wall_s - cleared_s,
        revision=incident.revision + 1,
    )
    # It is over since it was last seen, and known to be when the hold time has passed.
    last_s = max((flip.wall_s for flip in incident.history), default=0.0)
    return flipped(
        ended, clock.at, clock.policy, max(last_s, clock.at.wall_s - cleared_s)
    )


def _collected(
    ledger: Ledger, results: dict[str, _Next], begun: list[_Next], policy: Policy
) -> tuple[Ledger, tuple[Change, ...]]:
    """Put the incidents back together, oldest first, within their bounds."""
    steps = (*results.values(), *begun)
    changes = tuple(change for one in steps for change in one.changes)
    ended = tuple(one for step in steps for one in step.resolved)
    kept = [*ended]
    for incident in ledger.incidents:
        result = results.get(incident.id)
        now = incident if result is None else result.incident
        if now is not None:
            kept.append(now)
    kept.extend(one.incident for one in begun if one.incident is not None)
    over = [
        (change.incident.key, change.incident.occurrence)
        for change in changes
        if change.reason is NoticeReason.RESOLVED
    ]
    occurrences = raised(ledger.occurrences, over)
    incidents = _bounded(kept, policy)
    if incidents == ledger.incidents and occurrences == ledger.occurrences:
        return ledger, changes
    return replace(ledger, incidents=incidents, occurrences=occurrences), changes


def _bounded(incidents: list[Incident], policy: Policy) -> tuple[Incident, ...]:
    """Keep what lives and the latest of what is resolved; one entry for each id."""
    unique = {one.id: one for one in incidents}
    resolved = [one.id for one in unique.values() if one.status is Status.RESOLVED]
    surplus = set(resolved[: max(0, len(resolved) - policy.incidents_limit)])
    return tuple(one for name, one in unique.items() if name not in surplus)
