"""Who saw what, when: the passage of events as a person tells it.

Theory of operation. Of all that comes in only what is another than before is worth a
line: a server that stops accepting writes, a peer that answers no more. A Memory holds
what each observer last saw of each node on each channel; `fold` takes an event and
returns what is new in it. A peer's sights are dated by their ages, on this agent's wall
clock, and each says also when this agent came to know of it, because between the two
lies what nobody here could have acted on.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.core.event import (
    Acknowledged,
    CaptureAsked,
    CaptureReported,
    Event,
    MaintenanceBegun,
    MaintenanceEnded,
    Observed,
    PermitAsked,
    PermitReleased,
    ServerRead,
    Ticked,
    WinnerDecided,
)
from agent.core.moment import Moment
from agent.core.observation import (
    Observation,
    Outcome,
    PostgresSight,
    ReadFailure,
    Report,
    SelfHealth,
    ServerFacts,
    Sight,
)
from agent.core.rule import CLUSTER
from agent.core.verdict import Family, Verdict

DISK = "disk"
COPY = "copy"
CLOCK = "clock"
REQUEST = "request"
JUMP_S = 1.0
"""A clock that moved by less is not worth a line."""
LAG_S = 3.0
TOGETHER_S = 1.5
"""What one observer sees alike of several nodes within this is one line."""
LOOK_BACK = 16
"""Groups among which the one that a sight belongs to is looked for."""
REASON_MAX = 100

_FAILED = {
    Outcome.REFUSED: "refuses",
    Outcome.GARBLED: "answers what nobody understands",
    Outcome.FOREIGN: "belongs to another cluster",
    Outcome.INCOMPATIBLE: "speaks another version",
    Outcome.UNREACHABLE: "cannot be reached",
    Outcome.TIMED_OUT: "does not answer",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that somebody saw and had not seen before."""

    wall_s: float
    """When it was seen, on this agent's wall clock."""
    learnt_wall_s: float
    """When this agent came to know of it."""
    observer: str
    node: str
    channel: str
    """A channel, or `disk`, `copy`, `clock`, `request`."""
    what: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What each observer last saw, by `observer>node/channel`."""

    last: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What one observer saw alike of one or several nodes."""

    wall_s: float
    learnt_wall_s: float
    observer: str
    about: tuple[str, ...]
    """Nodes, each with its channels in brackets."""
    what: str


def fold(memory: Memory, event: Event, me: str) -> tuple[Memory, tuple[Seen, ...]]:
    """Return the memory after `event`, and what was new in it."""
    new: dict[str, str] = {}
    found: list[Seen] = []
    for seen, identity in _sights(event, me):
        place = f"{seen.observer}>{seen.node}/{seen.channel}"
        known = new.get(place, memory.last.get(place))
        if known == identity:
            continue
        new[place] = identity
        found.append(seen)
    if not new:
        return memory, ()
    return Memory({**memory.last, **new}), tuple(found)


def grouped(seen: Iterable[Seen]) -> tuple[Told, ...]:
    """Return what was seen in order of time, with what belongs together joined."""
    groups: list[list[Seen]] = []
    for one in sorted(seen, key=lambda each: each.wall_s):
        near = [each for each in groups[-LOOK_BACK:] if _alike(each[0], one)]
        if near:
            near[-1].append(one)
        else:
            groups.append([one])
    return tuple(_told(group) for group in groups)


def _alike(first: Seen, second: Seen) -> bool:
    together = second.wall_s - first.wall_s <= TOGETHER_S
    return together and (first.observer, first.what) == (second.observer, second.what)


def _told(group: list[Seen]) -> Told:
    channels: dict[str, list[str]] = {}
    for one in group:
        known = channels.setdefault(one.node, [])
        if one.channel not in known:
            known.append(one.channel)
    return Told(
        wall_s=group[0].wall_s,
        learnt_wall_s=max(one.learnt_wall_s for one in group),
        observer=group[0].observer,
        about=tuple(f"{node} ({', '.join(by)})" for node, by in channels.items()),
        what=group[0].what,
    )


def _sights(event: Event, me: str) -> Iterator[tuple[Seen, str]]:
    """Yield what the event shows, each with what tells it from another sight."""
    match event:
        case Observed():
            yield from _observed(event.observation, event.at, me)
        case ServerRead():
            yield _own(event.at, me, DISK, _disk(event.facts))
        case CaptureReported():
            status = event.status
            what = f"copy {status.capture_id}: {status.phase.value}"
            if status.reached_lsn is not None:
                what += f", {status.grade.value}"
            yield _own(event.at, me, COPY, what)
        case Ticked():
            what = _clock(event.health)
            if what:
                yield _once(event.at, me, CLOCK, what)
        case _:
            yield from _requests(event, me)


def _requests(event: Event, me: str) -> Iterator[tuple[Seen, str]]:
    match event:
        case PermitAsked():
            text = f"somebody is about to resync it ({event.purpose})"
            yield _once(event.at, me, REQUEST, text)
        case PermitReleased():
            text = f"{event.who} lets the resync pass: {event.reason}"
            yield _once(event.at, me, REQUEST, text)
        case CaptureAsked():
            yield _once(event.at, me, REQUEST, f"a copy is asked for: {event.reason}")
        case Acknowledged():
            text = f"{event.who} takes {event.incident_id}"
            yield _once(event.at, me, REQUEST, text)
        case MaintenanceBegun():
            text = f"{event.owner} announces a switchover: {event.reason}"
            yield _once(event.at, me, REQUEST, text)
        case MaintenanceEnded():
            text = f"{event.who} ends the announcement {event.maintenance_id}"
            yield _once(event.at, me, REQUEST, text)
        case WinnerDecided():
            text = f"{event.who} {_decided(event)}"
            yield _once(event.at, me, REQUEST, text)
        case _:
            return


def _decided(event: WinnerDecided) -> str:
    if event.node is None:
        return "takes the pin of the winner back"
    return f"pins {event.node} as the winner: {event.reason}"


def _observed(seen: Observation, at: Moment, me: str) -> Iterator[tuple[Seen, str]]:
    wall_s = at.wall_s - (at.monotonic_s - seen.received_s)
    what, identity = _answer(seen)
    yield Seen(wall_s, wall_s, me, seen.node, seen.channel.value, what), identity
    if seen.report is not None:
        yield from _reported(seen.report, wall_s)


def _reported(report: Report, wall_s: float) -> Iterator[tuple[Seen, str]]:
    """Yield what a peer's report says that it saw, dated by its ages."""
    for sight in report.sights:
        what, identity = _answer(sight)
        then_s = wall_s - sight.age_s
        channel = sight.channel.value
        yield Seen(then_s, wall_s, report.node, sight.node, channel, what), identity
    if report.server is not None:
        then_s = wall_s - report.server_age_s
        what, node = _disk(report.server), report.node
        yield Seen(then_s, wall_s, node, node, DISK, what), what


def _answer(seen: Observation | Sight) -> tuple[str, str]:
    """Return in words what came back, and what tells it from another answer."""
    if seen.outcome is not Outcome.ANSWERED:
        reason = f": {seen.reason[:REASON_MAX]}" if _says(seen.reason) else ""
        return f"{_FAILED[seen.outcome]}{reason}", seen.outcome.value
    if seen.postgres is not None:
        return _postgres(seen.postgres)
    if seen.manager is not None:
        if seen.manager.silent:
            return "answers", "answers"
        what = f"says that it is {'' if seen.manager.active else 'not '}active"
        return what, what
    if isinstance(seen, Observation) and seen.report is not None and seen.report.doubt:
        return f"answers, in doubt: {seen.report.doubt}", "in doubt"
    return "answers", "answers"


def _says(reason: str) -> bool:
    return bool(reason) and reason != "no answer"


def _postgres(sight: PostgresSight) -> tuple[str, str]:
    role = "is a standby" if sight.in_recovery else "accepts writes"
    timeline = "" if sight.timeline is None else f" on timeline {sight.timeline}"
    alone = ""
    if sight.in_recovery and sight.upstream is None:
        alone = " and receives from nobody"
    what = f"{role}{timeline}{alone}"
    return what, f"{what}, {sight.system_id}, since {sight.postmaster_started}"


def _disk(facts: ServerFacts | ReadFailure) -> str:
    if isinstance(facts, ReadFailure):
        return f"cannot be read: {facts.reason[:REASON_MAX]}"
    timeline = facts.lineage.timeline
    if facts.running:
        return f"runs on timeline {timeline}"
    return f"is stopped on timeline {timeline} ({facts.control_state})"


def _clock(health: SelfHealth) -> str:
    if health.suspended_s >= JUMP_S:
        return f"the machine was suspended for {health.suspended_s:.0f} s"
    if abs(health.wall_jump_s) >= JUMP_S:
        return f"the wall clock jumped by {health.wall_jump_s:+.0f} s"
    if health.loop_lag_s >= LAG_S:
        return f"the agent was held up for {health.loop_lag_s:.0f} s"
    return ""


def _own(at: Moment, me: str, channel: str, what: str) -> tuple[Seen, str]:
    return Seen(at.wall_s, at.wall_s, me, me, channel, what), what


def _once(at: Moment, me: str, channel: str, what: str) -> tuple[Seen, str]:
    """Return what is new each time, however often it comes."""
    seen, _ = _own(at, me, channel, what)
    return seen, f"{what} {at.monotonic_s}"


def concerns(seen: Seen, verdict: Verdict) -> bool:
    """Whether it belongs into the story of this trouble.

    What is true of the cluster is told with all that anybody saw of any node; what an
    agent says of itself, with what it saw.
    """
    if verdict.family is Family.SELF:
        return seen.observer == verdict.subject
    return verdict.subject == CLUSTER or seen.node in verdict.subject.split("|")
