"""Folding events into what is known.

Theory of operation. Each event changes a part of the view and nothing else: a
probe's result replaces the one before it on its channel, a peer's report is
accepted when it is newer than the last one, a reading of the local disk replaces
the last one, and a tick counts the rounds. Old news never beats new: what was asked
earlier is dropped when something that was asked later is already here. What outlives
servers and agents (lineages, the last sole primary, what was confirmed) goes into
the knowledge.

A start empties the view, because nothing that was seen by an earlier process can be
timed by this one's clock; the ledger's monotonic values are counted from now.
"""

from collections.abc import Iterator

from agent.core import (
    highwater,
    learnt,
    looked,
    pageprint,
    positions,
    proof,
    selfdoubt,
    spent,
)
from agent.core.agreement import failover_is_over, redated, standing_failover
from agent.core.detector import channels, key, marks_after
from agent.core.event import (
    Event,
    Looked,
    Observed,
    ServerRead,
    Started,
    Ticked,
)
from agent.core.frozen import replace
from agent.core.incident import Incident
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import (
    Observation,
    PostgresSight,
    ReadFailure,
    Report,
    ServerFacts,
)
from agent.core.plausible import impossible_facts, misfit
from agent.core.policy import Policy
from agent.core.positions import Read
from agent.core.scene import Scene, ServerSight, build
from agent.core.state import Knowledge, PrimarySeen, State, View

SAME_MINUTE_S = 60.0
"""An idle primary is written down again after so long, and not every round."""
LOOK_AT_DISK = "look into the storage that it lies on, and at the server's log"


def fold(state: State, event: Event, policy: Policy) -> State:
    """Return the state that knows of this event. Every event is accepted."""
    match event:
        case Started():
            return _started(state, event)
        case Observed():
            return _observed(state, event.observation, event.at, policy)
        case ServerRead():
            return _server_read(state, event, policy)
        case Ticked():
            return _ticked(state, event, policy)
        case _ if isinstance(event, Looked):
            return replace(state, view=looked.fold(state.view, event))
        case _:
            return state


def _started(state: State, event: Started) -> State:
    """Begin a new boot: nothing seen yet, monotonic values counted from now."""
    now_s = event.at.monotonic_s
    ledger = replace(
        state.ledger,
        incidents=tuple(_rebased(one, now_s) for one in state.ledger.incidents),
        captures=tuple(
            replace(one, progressed_s=now_s) for one in state.ledger.captures
        ),
        permits=tuple(
            one if one.granted_s is None else replace(one, granted_s=now_s)
            for one in state.ledger.permits
        ),
    )
    return State(ledger, state.knowledge, View(boot_id=event.boot_id))


def _rebased(incident: Incident, now_s: float) -> Incident:
    clear = None if incident.clear_since_s is None else now_s
    return replace(incident, clear_since_s=clear, pending_since_s=now_s)


def _observed(state: State, seen: Observation, at: Moment, policy: Policy) -> State:
    """Take in one probe's result."""
    name = key(seen.node, seen.channel)
    last = state.view.latest.get(name)
    if seen.node not in policy.order:
        return state
    if last is not None and seen.sent_s < last.sent_s:
        return state
    if selfdoubt.clocks_parted(state.view.offset_s, at):
        return state
    if selfdoubt.own_fault(seen, state.view.self_doubt, policy):
        return state
    fitting = _fitting(seen, policy)
    alive = fitting.outcome.alive
    missed = 0 if alive else _missed(state.view, last, seen, policy)
    view = replace(
        state.view,
        latest={**state.view.latest, name: fitting},
        alive={**state.view.alive, name: fitting} if alive else state.view.alive,
        missed={**state.view.missed, name: missed},
    )
    known = State(state.ledger, state.knowledge, _darkened(view, fitting, policy))
    if fitting.report is not None:
        known = _reported(known, fitting, fitting.report, at, policy)
    elif fitting.postgres is not None:
        known = _read(known, last, fitting, fitting.postgres, policy)
    else:
        return known
    return proof.collect(known, fitting, at, policy)


def _missed(
    view: View, last: Observation | None, seen: Observation, policy: Policy
) -> int:
    """Return how many misses in a row this is.

    A question out of turn that is missed right after another miss is the same miss.
    """
    before = view.missed.get(key(seen.node, seen.channel), 0)
    again = last is not None and seen.sent_s - last.sent_s < policy.round_s / 2
    return max(1, before) if again else before + 1


def _darkened(view: View, seen: Observation, policy: Policy) -> View:
    """Note that the node was just seen on no channel by anybody, if that is so."""
    if seen.outcome.alive or seen.node == policy.me:
        return view
    asked = channels(policy, seen.node)
    misses = [view.missed.get(key(seen.node, channel), 0) for channel in asked]
    dark = min(misses, default=0) >= policy.missed_to_accuse
    if not dark or _seen_by_peers(view, seen, policy):
        return view
    return replace(view, dark={**view.dark, seen.node: seen.received_s})


def _seen_by_peers(view: View, seen: Observation, policy: Policy) -> bool:
    """Whether a peer tells that it has lately seen the node alive."""
    since_s = seen.received_s - policy.fresh_s
    return any(
        sight.node == seen.node
        and sight.outcome.alive
        and told.received_s - sight.age_s >= since_s
        for peer, told in view.reports.items()
        if told.report is not None and peer != seen.node
        for sight in told.report.sights
    )


def _fitting(seen: Observation, policy: Policy) -> Observation:
    """Return the observation, turned into a failure when its answer does not fit.

    The prober checks this too; an answer that slipped through must not be believed.
    """
    wrong = misfit(seen, policy.cluster)
    if wrong is None:
        return seen
    outcome, reason = wrong
    return replace(
        seen,
        outcome=outcome,
        reason=reason[:300],
        report=None,
        postgres=None,
        manager=None,
    )


def _reported(
    state: State, seen: Observation, report: Report, at: Moment, policy: Policy
) -> State:
    """Accept a peer's report if it is news, else keep the one before."""
    if not _is_news(seen, report, state.view.reports.get(seen.node)):
        return state
    report = redated(report, at)
    seen = seen if report is seen.report else replace(seen, report=report)
    places, received = positions.noted(state.view, _told_of(seen, report, policy))
    view = replace(
        state.view,
        reports={**state.view.reports, seen.node: seen},
        positions=places,
        received=received,
    )
    knowledge = state.knowledge
    if report.server is not None:
        before = knowledge.printed.get(seen.node)
        then = replace(at, monotonic_s=seen.received_s - report.server_age_s)
        view = positions.after_disk(view, seen.node, before, report.server, then)
        knowledge = learnt.from_disk(knowledge, seen.node, report.server)
    ledger = spent.learnt(state.ledger, report)
    return State(ledger, knowledge, view)


def _is_news(seen: Observation, report: Report, last: Observation | None) -> bool:
    """Whether a report is newer than the last accepted one.

    Within one boot the sequence decides; the same one again carries younger ages.
    Another boot is newer when it was asked for after the last answer had come.
    """
    if last is None or last.report is None:
        return True
    if report.boot_id == last.report.boot_id:
        return report.sequence >= last.report.sequence
    return seen.sent_s >= last.received_s


def _read(
    state: State,
    last: Observation | None,
    seen: Observation,
    sight: PostgresSight,
    policy: Policy,
) -> State:
    """Take in what SQL told of a server."""
    own = (seen.node, sight, seen.sent_s)
    places, received = positions.noted(state.view, (own,))
    view = replace(
        state.view,
        marks=marks_after(state.view, seen, policy),
        writable=proof.spans_after(state.view, seen, sight, policy),
        readings=proof.readings_after(state.view, seen, sight),
        positions=places,
        received=received,
    )
    known = State(state.ledger, state.knowledge, view)
    if seen.node != policy.me or sight.in_recovery:
        return known
    return _confirmed(known, last, sight)


def _told_of(seen: Observation, report: Report, policy: Policy) -> Iterator[Read]:
    """Give the readings of servers in a peer's report, each with when it was made."""
    for sight in report.sights:
        if sight.postgres is not None and sight.node in policy.order:
            yield sight.node, sight.postgres, seen.sent_s - sight.age_s


def _confirmed(state: State, last: Observation | None, sight: PostgresSight) -> State:
    """Note up to where another node has what the local primary wrote.

    A transaction id is confirmed when a standby has flushed what had been flushed
    here when the id was read. A promotion begins anew.
    """
    knowledge, pending = state.knowledge, state.view.unconfirmed
    if last is not None and last.postgres is not None and last.postgres.in_recovery:
        knowledge = replace(knowledge, confirmed_lsn=None, confirmed_xid=None)
        pending = None
    flushed = [one.flush_lsn for one in sight.senders if one.flush_lsn is not None]
    confirmed = max(flushed, default=None)
    if confirmed is not None:
        highest = max(confirmed, knowledge.confirmed_lsn or Lsn(0))
        knowledge = replace(knowledge, confirmed_lsn=highest)
    here = None
    if sight.flush_lsn is not None and sight.next_xid is not None:
        here = (sight.flush_lsn, sight.next_xid)
    for then in (pending, here):
        if then is not None and confirmed is not None and then[0] <= confirmed:
            knowledge = replace(knowledge, confirmed_xid=then[1])
            pending = None
    view = replace(state.view, unconfirmed=pending or here)
    return replace(state, knowledge=knowledge, view=view)


def _server_read(state: State, event: ServerRead, policy: Policy) -> State:
    """Take in what was read from the disk of the server beside this agent."""
    facts = event.facts
    absurd = impossible_facts(facts) if isinstance(facts, ServerFacts) else ""
    if absurd:
        facts = ReadFailure(f"the disk tells what cannot be: {absurd}", LOOK_AT_DISK)
    if isinstance(facts, ServerFacts):
        state, facts = pageprint.taken(state, facts, policy)
    view = replace(state.view, server=facts, server_read_s=event.at.monotonic_s)
    known = replace(state, view=view)
    if not isinstance(facts, ServerFacts):
        return known
    before = state.knowledge.printed.get(policy.me)
    view = positions.after_disk(view, policy.me, before, facts, event.at)
    knowledge = learnt.from_disk(state.knowledge, policy.me, facts)
    return replace(known, knowledge=knowledge, view=view)


def _ticked(state: State, event: Ticked, policy: Policy) -> State:
    """Count the round."""
    now_s = event.at.monotonic_s
    view = state.view
    if event.health.suspended_s > policy.round_s:
        view = _awake(view)
    sequence = view.sequence + 1
    sent = (*view.sent, (sequence, now_s))[-policy.sent_limit :]
    doubt = selfdoubt.after(view.self_doubt, event.health, event.at, policy)
    offset_s = event.at.wall_s - now_s
    view = replace(
        view, sequence=sequence, sent=sent, offset_s=offset_s, self_doubt=doubt
    )
    known = replace(state, view=proof.trimmed(view, event.at))
    return replace(known, knowledge=_with_primary(known, event.at, policy))


def _awake(view: View) -> View:
    """Forget what was seen before the machine was suspended.

    No clock reading before it can be used: the monotonic clock stood still meanwhile,
    so what is a minute old would pass for fresh, here and in what peers are told. By
    the age of a report that was heard before the sleep, a split would be proven that
    never was.
    """
    view = replace(view, latest={}, missed={}, reports={}, marks={})
    return replace(view, writable=(), readings=(), sent=())


def _with_primary(state: State, at: Moment, policy: Policy) -> Knowledge:
    """Follow the sole primary.

    A new one replaces the last one only once the failover is an incident on record:
    no crash in between can swallow the news. A stranger behind its address does not,
    not even as the first one; a cluster that was set up anew does, wherever its primary
    is.
    """
    scene = build(state, at, policy)
    sole, last = scene.sole_primary, state.knowledge.primary
    if sole is None:
        return state.knowledge
    if scene.system_id not in (None, sole.sight.system_id):
        if not _is_anew(sole, scene):
            return state.knowledge
        last = None
    if last is not None and last.node != sole.node:
        if not _moved(last, sole.node, state, at, policy):
            return state.knowledge
        last = None
    knowledge = highwater.after(scene, state.knowledge, policy)
    seen = _primary_seen(sole, last, at)
    if last is not None and _is_same(seen, last):
        return knowledge
    return replace(knowledge, primary=seen)


def _is_anew(sole: ServerSight, scene: Scene) -> bool:
    """Whether every server of the list answers as this other system.

    One that is not heard may be the one that has the data.
    """
    servers = (node.name for node in scene.policy.nodes if node.has_postgres)
    seen = [scene.sights.get(name) for name in servers]
    known = {None if one is None else one.sight.system_id for one in seen}
    return known == {sole.sight.system_id}


def _primary_seen(
    sole: ServerSight, last: PrimarySeen | None, at: Moment
) -> PrimarySeen:
    """Return the present primary; what it does not say stays as it was."""
    sight = sole.sight
    timeline = sight.timeline or (last.timeline if last is not None else 1)
    lsn = sight.flush_lsn or (last.lsn if last is not None else Lsn(0))
    return PrimarySeen(sole.node, timeline, lsn, sight.system_id, at.wall_s)


def _is_same(seen: PrimarySeen, last: PrimarySeen) -> bool:
    """Whether nothing but the time has moved, and that by less than a minute."""
    moved_s = abs(seen.wall_s - last.wall_s)
    return replace(seen, wall_s=last.wall_s) == last and moved_s < SAME_MINUTE_S


def _moved(
    last: PrimarySeen, node: str, state: State, at: Moment, policy: Policy
) -> bool:
    """Whether the failover to this node is on record, here or at a peer.

    A primary that was renamed, or taken out of the list, is followed in silence.
    """
    if standing_failover(state, node) is not None or last.node not in policy.order:
        return True
    return failover_is_over(last, state, at, policy)
