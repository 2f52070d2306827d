"""Planned changes: what an operator announced, and what it covers.

Theory of operation. An announcement says who plans what, why, and until when; it goes
into the ledger and travels in reports, so that every agent knows it. Times are told as
ages, because no two clocks agree; each agent keeps them on its own wall clock. What
has ended stays ended, whoever still believes that it runs. An announced switchover
covers the failover that it is about, and only when the former primary is known to take
no writes: then it is news and no trouble. Nothing else is quietened by it, and nothing
that could be a split ever is.
"""

from collections.abc import Iterable

from agent.core.event import Event, MaintenanceBegun, MaintenanceEnded
from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.observation import MaintenanceBrief, Observation
from agent.core.plan import Maintenance
from agent.core.policy import Policy
from agent.core.state import State

SPAN_S_MAX = 86_400.0
"""Nothing is planned for longer than a day: what is forgotten must end by itself."""
KEPT_MAX = 50
"""Announcements remembered, the running ones and the latest that are over."""
RUNNING_MAX = 20
TOLD_MAX = 30
"""Announcements that a report tells of."""
TEXT_MAX = 500
"""Characters of a name or reason that a peer may tell."""


def asked(state: State, event: Event) -> State:
    """Take in what a person announced, or ended."""
    match event:
        case MaintenanceBegun():
            return _begun(state, event)
        case MaintenanceEnded():
            return _ended(state, event)
        case _:
            return state


def heard_of(state: State, seen: Observation, at: Moment, policy: Policy) -> State:
    """Take over what a peer's report says of announcements, if it was accepted."""
    report = seen.report
    if report is None or state.view.reports.get(seen.node) is not seen:
        return state
    if not report.maintenance and not state.ledger.maintenance:
        return state
    read_s = at.wall_s - (at.monotonic_s - seen.received_s)
    known = {one.id: one for one in state.ledger.maintenance}
    room = RUNNING_MAX - len(running(state, at))
    for brief in report.maintenance[:TOLD_MAX]:
        told = _of_brief(brief, read_s)
        if brief.id not in known:
            room -= 1 if told.runs(at.wall_s) else 0
        if _is_sound(brief, policy) and (brief.id in known or room >= 0):
            known[brief.id] = _joined(known.get(brief.id), told)
    return _with(state, known.values(), at)


def briefs(state: State, at: Moment) -> tuple[MaintenanceBrief, ...]:
    """Return what a report tells of announcements, latest last."""
    return tuple(
        MaintenanceBrief(
            id=one.id,
            node=one.node,
            owner=one.owner,
            reason=one.reason,
            begun_age_s=at.wall_s - one.begun_wall_s,
            remaining_s=one.end_wall_s - at.wall_s,
            ended_age_s=(
                None if one.ended_wall_s is None else at.wall_s - one.ended_wall_s
            ),
            ended_by=one.ended_by,
        )
        for one in state.ledger.maintenance[-TOLD_MAX:]
    )


def running(state: State, at: Moment) -> tuple[Maintenance, ...]:
    """Return what is in force now, oldest first."""
    return tuple(one for one in state.ledger.maintenance if one.runs(at.wall_s))


def covering(state: State, node: str, at: Moment) -> Maintenance | None:
    """Return the announcement that a switchover to `node` is covered by."""
    for one in running(state, at):
        if one.node in (None, node):
            return one
    return None


def _begun(state: State, event: MaintenanceBegun) -> State:
    now_s = event.at.wall_s
    if len(running(state, event.at)) >= RUNNING_MAX:
        return state
    made = Maintenance(
        id=event.maintenance_id,
        node=event.node,
        owner=event.owner,
        reason=event.reason,
        begun_wall_s=now_s,
        end_wall_s=now_s + min(event.span_s, SPAN_S_MAX),
    )
    others = [one for one in state.ledger.maintenance if one.id != made.id]
    return _with(state, (*others, made), event.at)


def _ended(state: State, event: MaintenanceEnded) -> State:
    return _with(
        state,
        (
            replace(one, ended_wall_s=event.at.wall_s, ended_by=event.who)
            if one.id == event.maintenance_id and one.runs(event.at.wall_s)
            else one
            for one in state.ledger.maintenance
        ),
        event.at,
    )


def _with(state: State, wanted: Iterable[Maintenance], at: Moment) -> State:
    """Return the state with these, the running ones and the latest of the others."""
    everything = tuple(wanted)
    over = [one.id for one in everything if not one.runs(at.wall_s)]
    surplus = frozenset(over[: max(0, len(everything) - KEPT_MAX)])
    kept = tuple(one for one in everything if one.id not in surplus)
    if kept == state.ledger.maintenance:
        return state
    return replace(state, ledger=replace(state.ledger, maintenance=kept))


def _is_sound(brief: MaintenanceBrief, policy: Policy) -> bool:
    """Whether a peer's word can be one of ours; a broken peer's cannot do harm."""
    texts = (brief.id, brief.owner, brief.reason, brief.ended_by)
    return (
        all(len(text) <= TEXT_MAX for text in texts)
        and (brief.node is None or brief.node in policy.order)
        and max(0.0, brief.begun_age_s) + brief.remaining_s <= SPAN_S_MAX + 1.0
    )


def _of_brief(brief: MaintenanceBrief, read_s: float) -> Maintenance:
    ended_s = None if brief.ended_age_s is None else read_s - brief.ended_age_s
    return Maintenance(
        id=brief.id,
        node=brief.node,
        owner=brief.owner,
        reason=brief.reason,
        begun_wall_s=read_s - max(0.0, brief.begun_age_s),
        end_wall_s=read_s + brief.remaining_s,
        ended_wall_s=ended_s,
        ended_by=brief.ended_by,
    )


def _joined(known: Maintenance | None, told: Maintenance) -> Maintenance:
    """Return what is known, and ended if either side says so; the rest never moves."""
    if known is None:
        return told
    if known.ended_wall_s is not None or told.ended_wall_s is None:
        return known
    return replace(known, ended_wall_s=told.ended_wall_s, ended_by=told.ended_by)
