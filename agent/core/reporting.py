"""The report that this agent gives its peers: what it is and what it sees.

Every sight carries its age instead of a time, because no two clocks agree. The
report is bounded: the latest reading of each channel, the standing and lately
resolved incidents, the latest notices, and which numbers were spent last.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from agent.core import alerting, maintenance, pinning, spent
from agent.core.capture import Capture, CaptureStatus, Phase
from agent.core.detector import channels, key
from agent.core.gate import Gate
from agent.core.incident import Incident, Status
from agent.core.memo import remembered, remembered_pair
from agent.core.moment import Moment
from agent.core.observation import (
    CaptureBrief,
    Heard,
    IncidentBrief,
    Observation,
    ReadFailure,
    Report,
    Sight,
    WritableSpan,
)
from agent.core.plausible import REPORT_FORMAT
from agent.core.policy import Policy
from agent.core.protection import unfinished
from agent.core.readiness import Readiness
from agent.core.standing import ELSEWHERE, local_facts, standing
from agent.core.state import State, ToldEntry
from agent.core.verdict import VerdictCode

BRIEFS = 50
"""Incidents, notices and captures told of, at most, each."""

One = TypeVar("One")


def make_report(state: State, at: Moment, policy: Policy) -> Report:
    """Return what this agent tells a peer that asks now."""
    view = state.view
    return Report(
        format=REPORT_FORMAT,
        cluster=policy.cluster,
        node=policy.me,
        boot_id=view.boot_id,
        sequence=view.sequence,
        doubt=doubt(state, policy),
        sights=tuple(_sight(view.missed, seen, at) for seen in view.latest.values()),
        server=local_facts(state),
        server_age_s=max(0.0, at.monotonic_s - view.server_read_s),
        writable=tuple(
            WritableSpan(
                max(0.0, at.monotonic_s - span.first_s),
                max(0.0, at.monotonic_s - span.last_s),
                span.system_id,
            )
            for span in view.writable
            if span.node == policy.me
        ),
        heard=tuple(
            _heard(seen, at) for seen in view.latest.values() if seen.report is not None
        ),
        incidents=tuple(
            _incident(incident, state.ledger.occurrences)
            for incident in _incidents_told(state.ledger.incidents)
        ),
        told=tuple(entry.told for entry in _news_told(state)),
        captures=tuple(
            CaptureBrief(
                id=capture.order.capture_id,
                node=capture.order.node,
                phase=capture.status.phase.value,
                grade=capture.status.grade.value,
                reached_lsn=capture.status.reached_lsn,
                incidents=capture.order.incident_ids,
                timeline=capture.status.timeline,
                size_bytes=capture.status.bytes_total,
                ordered_wall_s=capture.ordered_wall_s,
                loss=capture.loss,
            )
            for capture in _captures_told(state.ledger.captures)
        ),
        protection=protection_line(state, policy),
        gate=view.gate,
        maintenance=maintenance.briefs(state, at),
        pins=pinning.briefs(state, at),
        settings=policy.settings,
        receivers=view.receivers,
        deaf=alerting.deaf(view, at),
        care=None if view.care is None else view.care.brief(at.wall_s),
        wall_s=at.wall_s,
        spent=spent.passed_on(state.ledger.occurrences),
    )


@remembered
def _incidents_told(incidents: tuple[Incident, ...]) -> tuple[Incident, ...]:
    """Return the incidents to tell of: what stands, however old, then what is over."""
    known = [one for one in incidents if one.status is not Status.PENDING]
    return _at_most(known, [one.status.standing for one in known])


@remembered
def _captures_told(captures: tuple[Capture, ...]) -> tuple[Capture, ...]:
    return _at_most(
        captures, [one.status.phase is not Phase.CLOSED for one in captures]
    )


def _news_told(state: State) -> tuple[ToldEntry, ...]:
    """Return the news to tell of, that of standing incidents before all other."""
    stands, told = {one.id for one in standing(state)}, state.ledger.told
    return _at_most(told, [one.told.incident_id in stands for one in told])


def _at_most(those: Sequence[One], first: Sequence[bool]) -> tuple[One, ...]:
    """Return the latest BRIEFS of those, in their order, `first` ones before others."""
    if len(those) <= BRIEFS:
        return tuple(those)
    places = sorted(range(len(those)), key=lambda place: (first[place], place))
    return tuple(those[place] for place in sorted(places[-BRIEFS:]))


def doubt(state: State, policy: Policy) -> str | None:
    """Return why this agent doubts itself; None when it does not."""
    for verdict in state.view.verdicts:
        if verdict.code is VerdictCode.OBSERVER_ISOLATED:
            return "this agent sees no majority of the voters"
    if state.view.self_doubt is not None:
        return state.view.self_doubt.why
    others = [name for name in policy.voters if name != policy.me]
    if len(others) > 1 and all(_missed(state, name, policy) for name in others):
        return f"it misses all {len(others)} others at once"
    return None


def _missed(state: State, node: str, policy: Policy) -> bool:
    """Whether the last question on each channel of the node found nobody alive."""
    missed = state.view.missed
    return all(missed.get(key(node, one), 0) > 0 for one in channels(policy, node))


def protection_line(state: State, policy: Policy) -> str:
    """Return in one line whether the local server is ready to be protected."""
    if not policy.spec(policy.me).has_postgres:
        return "nothing to protect: no PostgreSQL on this node"
    obstacle = _in_the_way(state, policy)
    if obstacle is not None:
        return f"not ready because {obstacle}"
    capture = unfinished(state, policy)
    if capture is not None:
        return _capture_line(capture.status)
    return _outlook_line(state.view.readiness, state.view.gate)


def _in_the_way(state: State, policy: Policy) -> str | None:
    """Return why nothing of the local server can be kept at all."""
    if not policy.spec(policy.me).local:
        return ELSEWHERE
    if not policy.capture_enabled:
        return "captures are switched off"
    server = state.view.server
    if server is None:
        return "its disk was not read yet"
    return server.reason if isinstance(server, ReadFailure) else None


def _outlook_line(outlook: Readiness | None, gate: Gate | None) -> str:
    obstacles = [] if outlook is None or not outlook.obstacles else [outlook.reasons]
    reasons = [*obstacles, *(gate.reasons if gate is not None else ())]
    off = [outlook.offsite] if outlook is not None and outlook.offsite else []
    if reasons:
        return f"not ready because {'; '.join([*reasons, *off])}"
    told = [
        *([outlook.copy_line] if outlook is not None else []),
        *([gate.line] if gate is not None else []),
        *([outlook.opened_line] if outlook is not None else []),
        *off,
    ]
    return f"ready ({'; '.join(told)})" if told else "ready"


def _capture_line(status: CaptureStatus) -> str:
    parts = [f"capture {status.capture_id} {status.phase.value}"]
    if status.tail_lsn is not None:
        parts.append(f"WAL kept to {status.tail_lsn}")
    if status.reached_lsn is not None:
        parts.append(f"full copy {status.grade.value} to {status.reached_lsn}")
    elif status.rows_lsn is not None:
        parts.append(f"rows kept from {status.rows_from} to {status.rows_lsn}")
    if status.reached_lsn is None and status.rows_reason:
        parts.append(f"rows: {status.rows_reason}")
    if status.reason:
        parts.append(status.reason)
    return "; ".join(parts)


def _sight(missed: Mapping[str, int], seen: Observation, at: Moment) -> Sight:
    return Sight(
        node=seen.node,
        channel=seen.channel,
        outcome=seen.outcome,
        reason=seen.reason,
        age_s=max(0.0, at.monotonic_s - seen.received_s),
        missed=missed.get(f"{seen.node}/{seen.channel}", 0),
        postgres=seen.postgres,
        manager=seen.manager,
    )


def _heard(seen: Observation, at: Moment) -> Heard:
    if seen.report is None:
        raise ValueError("only an answered report was heard")
    return Heard(
        node=seen.node,
        boot_id=seen.report.boot_id,
        sequence=seen.report.sequence,
        age_s=max(0.0, at.monotonic_s - seen.received_s),
        round_trip_s=max(0.0, seen.received_s - seen.sent_s),
    )


@remembered_pair
def _incident(incident: Incident, over: Mapping[str, int]) -> IncidentBrief:
    return IncidentBrief(
        id=incident.id,
        key=incident.key,
        occurrence=incident.occurrence,
        status=incident.status.value,
        verdict=incident.verdict.code.value,
        since_wall_s=incident.since_wall_s,
        taken=incident.taken,
        moved=any(flip.verdict == VerdictCode.FAILOVER for flip in incident.history),
        moved_to=_moved_to(incident),
        spent=over.get(incident.key, 0),
    )


def _moved_to(incident: Incident) -> int:
    timeline = incident.verdict.evidence.get("to_timeline")
    is_move = incident.verdict.code is VerdictCode.FAILOVER
    return timeline if is_move and isinstance(timeline, int) else 0
