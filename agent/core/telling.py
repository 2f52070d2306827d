"""Who tells on-call what, so that one trouble pages once.

Theory of operation. Every agent derives the same incident ids, so every agent
knows what ought to be told. The first reachable one in the order of the
configuration tells at once; each further one waits `standin_s` longer, and tells
only if no peer's report has said meanwhile that the news was delivered. What only
this agent can know (its own isolation, its own capture) it tells itself.

A notice's id hashes incident, reason and revision, where the revision is one that
all agents derive alike: the fired rule for a change of stage (with the timeline that
a failover went to), 1 for the first news, 0 for the end, and for a loss report its
snapshot and whether it was compared. If two cut-off sides both tell, a receiver sees
one id.
"""

from collections.abc import Callable

from agent.core.action import Action, Tell
from agent.core.detector import key
from agent.core.frozen import replace
from agent.core.incident import Incident, Status
from agent.core.incidents import Change
from agent.core.memo import remembered
from agent.core.moment import Moment
from agent.core.notice import Notice, NoticeReason, notice_id
from agent.core.observation import Channel, Observation, Told
from agent.core.policy import Policy
from agent.core.standing import standing
from agent.core.state import State, ToldEntry
from agent.core.verdict import Family, Severity

TOLD_KEPT = 200
"""Notices remembered, oldest dropped first."""
STAGES = 1000
"""More than the largest number of a rule: what tells a second failover, which goes
to another timeline, from the first one."""
OWN = (Family.SELF, Family.PROTECTION, Family.READY, Family.KEEPING)


def heard_of(state: State, observation: Observation) -> State:
    """Take over from a peer's report which news have been delivered."""
    report = observation.report
    if report is None or not state.ledger.told:
        return state
    delivered = {_news(told) for told in report.told if told.delivered}
    return _mark(state, lambda entry: _news(entry.told) in delivered and not entry.mine)


def delivered(state: State, wanted: str) -> State:
    """Note that every receiver has this notice."""
    return _mark(state, lambda entry: entry.notice_id == wanted)


def advance(
    state: State, changes: tuple[Change, ...], at: Moment, policy: Policy
) -> tuple[State, tuple[Action, ...]]:
    """Enter the news of this step, and tell what is this agent's to tell."""
    state, changes = _without_given_way(state, changes)
    news = (*_news_of(changes), *_reminders(state, at, policy))
    told = _entered(state, news, at)
    if told is state.ledger.told and _all_settled(told):
        return state, ()
    actions: list[Action] = []
    entries: list[ToldEntry] = []
    incidents = {incident.id: incident for incident in state.ledger.incidents}
    for entry in told:
        incident = incidents.get(entry.told.incident_id)
        if _settled(entry) or incident is None:
            entries.append(entry)
        elif _stale(entry, incident):
            continue
        elif _is_mine_to_tell(state, entry, incident, at, policy):
            entries.append(replace(entry, mine=True))
            actions.append(Tell(_notice(entry)))
        else:
            entries.append(entry)
    ledger = replace(state.ledger, told=tuple(entries)[-TOLD_KEPT:])
    return replace(state, ledger=ledger), tuple(actions)


def _without_given_way(
    state: State, changes: tuple[Change, ...]
) -> tuple[State, tuple[Change, ...]]:
    """Leave out what nobody has told of and what goes on under another id.

    People would hear of one trouble twice, and then of an end that is none.
    """
    ids = {one.incident.id for one in changes if one.gives_way}
    untold = {
        entry.told.incident_id
        for entry in state.ledger.told
        if entry.told.incident_id in ids
        and entry.told.reason == NoticeReason.FIRST
        and not _settled(entry)
    }
    if not untold:
        return state, changes
    told = tuple(e for e in state.ledger.told if e.told.incident_id not in untold)
    others = tuple(
        one for one in changes if not (one.gives_way and one.incident.id in untold)
    )
    return replace(state, ledger=replace(state.ledger, told=told)), others


@remembered
def _all_settled(entries: tuple[ToldEntry, ...]) -> bool:
    return all(_settled(entry) for entry in entries)


def _settled(entry: ToldEntry) -> bool:
    return entry.mine or entry.told.delivered


def _stale(entry: ToldEntry, incident: Incident) -> bool:
    """Whether it is of a stage of something that is over.

    Who stands in for another one waits; told after the end, it would open at the
    receiver what was resolved there.
    """
    told = (NoticeReason.FIRST, NoticeReason.RESOLVED, NoticeReason.LOSS)
    return incident.status is Status.RESOLVED and entry.told.reason not in told


def _is_mine_to_tell(
    state: State, entry: ToldEntry, incident: Incident, at: Moment, policy: Policy
) -> bool:
    verdict = incident.verdict
    if verdict.family in OWN and verdict.subject == policy.me:
        return True
    waited_s = at.wall_s - entry.wall_s
    return waited_s < 0 or waited_s >= policy.standin_s * _rank(state, at, policy)


def _rank(state: State, at: Moment, policy: Policy) -> int:
    """Return how many agents that this one can reach come before it."""
    earlier = policy.nodes[: policy.order[policy.me]]
    return sum(
        _reachable(state, node.name, at, policy) for node in earlier if node.has_agent
    )


def _reachable(state: State, node: str, at: Moment, policy: Policy) -> bool:
    """Whether a peer was heard lately, and is not missed.

    One question that is lost on its way makes no peer silent.
    """
    name, seen = key(node, Channel.AGENT), state.view.reports.get(node)
    return (
        seen is not None
        and at.monotonic_s - seen.received_s <= policy.fresh_s
        and state.view.missed.get(name, 0) < policy.missed_to_accuse
    )


def _news_of(changes: tuple[Change, ...]) -> tuple[Told, ...]:
    return tuple(
        Told(
            incident_id=change.incident.id,
            reason=change.reason.value,
            revision=_revision(change),
            delivered=False,
        )
        for change in changes
    )


def _revision(change: Change) -> int:
    if change.revision is not None:
        return change.revision
    if change.reason is NoticeReason.FIRST:
        return 1
    if change.reason is NoticeReason.RESOLVED:
        return 0
    verdict = change.incident.verdict
    timeline = verdict.evidence.get("to_timeline")
    moved = timeline if isinstance(timeline, int) else 0
    return verdict.rule + STAGES * moved


def _reminders(state: State, at: Moment, policy: Policy) -> tuple[Told, ...]:
    """Return what has stood unacknowledged for another reminder interval."""
    found: list[Told] = []
    for incident in standing(state):
        if (
            incident.status is Status.OPEN
            and incident.opened_wall_s is not None
            and incident.verdict.severity is Severity.CRITICAL
        ):
            count = int((at.wall_s - incident.opened_wall_s) // policy.reminder_s)
            if count > 0:
                reason = NoticeReason.REMINDER.value
                found.append(Told(incident.id, reason, count, delivered=False))
    return tuple(found)


def _entered(state: State, news: tuple[Told, ...], at: Moment) -> tuple[ToldEntry, ...]:
    if not news:
        return state.ledger.told
    known = {_news(entry.told) for entry in state.ledger.told}
    entered = [told for told in news if _news(told) not in known]
    elsewhere = _delivered_by_peers(state) if entered else frozenset()
    fresh = tuple(
        ToldEntry(
            _notice_id(told),
            replace(told, delivered=_news(told) in elsewhere),
            mine=False,
            wall_s=at.wall_s,
        )
        for told in entered
    )
    return (*state.ledger.told, *fresh) if fresh else state.ledger.told


def _delivered_by_peers(state: State) -> frozenset[tuple[str, str, int]]:
    """Return the news that the peers' latest reports call delivered.

    Who comes back after a cut finds its own news told by others already.
    """
    return frozenset(
        _news(told)
        for seen in state.view.reports.values()
        if seen.report is not None
        for told in seen.report.told
        if told.delivered
    )


def _news(told: Told) -> tuple[str, str, int]:
    return (told.incident_id, told.reason, told.revision)


def _notice_id(told: Told) -> str:
    return notice_id(told.incident_id, NoticeReason(told.reason), told.revision)


def _notice(entry: ToldEntry) -> Notice:
    told = entry.told
    return Notice(
        id=entry.notice_id,
        incident_id=told.incident_id,
        reason=NoticeReason(told.reason),
        revision=told.revision,
    )


def _mark(state: State, matches: Callable[[ToldEntry], bool]) -> State:
    """Mark the matching entries as delivered."""
    entries = tuple(
        replace(entry, told=replace(entry.told, delivered=True))
        if matches(entry) and not entry.told.delivered
        else entry
        for entry in state.ledger.told
    )
    if entries == state.ledger.told:
        return state
    return replace(state, ledger=replace(state.ledger, told=entries))
