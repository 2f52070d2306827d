"""An incident's timeline: what was seen, what was concluded, who was told.

Theory of operation. What was seen is looked up in the recorded rounds, around the
incident's beginning and each of its turns, because in between nothing changed that
mattered. Conclusions and notices come from the incident itself, so they are there also
when the rounds are long gone.
"""

from collections.abc import Iterable, Iterator

from agent.api.models_timeline import MomentOut, RuleOut, TimelineOut
from agent.api.present.frame import Frame, rfc3339, rfc3339_or_none, short
from agent.core.chronicle import Memory, Seen, Told, concerns, fold, grouped
from agent.core.incident import Incident
from agent.core.rules import BY_NUMBER
from agent.store.recall import Recalled, Window

BEFORE_S = 10.0
AFTER_S = 10.0
BEGINNING_S = 30.0
TURNS_MAX = 20
"""Turns of an incident around which is looked: the first and the last ones."""
MOMENTS_MAX = 500
LATE_S = 0.5
"""What was learnt within this was learnt at once."""


def windows(incident: Incident) -> list[Window]:
    """Return the spans of time that the story of an incident needs."""
    since_s = incident.since_wall_s
    flips = [flip.wall_s for flip in incident.history]
    half = TURNS_MAX // 2
    turns = [*flips[:half], *flips[half:][-half:]]
    return [
        Window(since_s - BEFORE_S, since_s + BEGINNING_S),
        *(Window(at_s - BEFORE_S, at_s + AFTER_S) for at_s in turns),
    ]


def seen_around(
    incident: Incident, recalled: Iterable[Recalled], me: str
) -> tuple[Told, ...]:
    """Return what was seen within the windows and concerns the incident. Blocking."""
    memory = Memory()
    found: list[Seen] = []
    for each in recalled:
        memory, new = fold(memory, each.event, me)
        if not each.before:
            found += _about(incident, new)
    return grouped(found)[:MOMENTS_MAX]


def _about(incident: Incident, new: Iterable[Seen]) -> Iterator[Seen]:
    return (one for one in new if concerns(one, incident.verdict))


def timeline(
    frame: Frame, incident: Incident, told: tuple[Told, ...], since_s: float | None
) -> TimelineOut:
    """Return the timeline of what was seen, concluded and told."""
    moments = [
        *(_seen(one) for one in told),
        *_verdicts(frame, incident),
        *_notices(frame, incident),
    ]
    return TimelineOut(
        incident=incident.id,
        observer=frame.policy.me,
        rounds_since=rfc3339_or_none(since_s),
        whole=since_s is not None and since_s <= incident.since_wall_s,
        rules=_rules(incident),
        moments=sorted(moments, key=lambda moment: moment.at),
    )


def _seen(one: Told) -> MomentOut:
    late_s = one.learnt_wall_s - one.wall_s
    return MomentOut(
        at=rfc3339(one.wall_s),
        learnt_s=short(late_s) if late_s >= LATE_S else 0.0,
        kind="seen",
        by=one.observer,
        about=list(one.about),
        what=one.what,
        rule=None,
    )


def _verdicts(frame: Frame, incident: Incident) -> Iterator[MomentOut]:
    last = ""
    for flip in incident.history:
        said = "" if flip.sentence == last else f": {flip.sentence}"
        over = incident.resolved_wall_s if flip.status == "resolved" else None
        yield MomentOut(
            at=rfc3339(flip.wall_s if over is None else over),
            learnt_s=0.0 if over is None else short(max(0.0, flip.wall_s - over)),
            kind="verdict",
            by=frame.policy.me,
            about=[incident.verdict.subject],
            what=f"{flip.status.value} {flip.verdict}{said if over is None else ''}",
            rule=flip.rule,
        )
        last = flip.sentence


def _notices(frame: Frame, incident: Incident) -> Iterator[MomentOut]:
    for entry in frame.state.ledger.told:
        if entry.told.incident_id != incident.id:
            continue
        fate = "delivered" if entry.told.delivered else "not delivered yet"
        yield MomentOut(
            at=rfc3339(entry.wall_s),
            learnt_s=0.0,
            kind="told",
            by=frame.policy.me if entry.mine else "a peer",
            about=[],
            what=f"told ({entry.told.reason}), {fate}",
            rule=None,
        )


def _rules(incident: Incident) -> list[RuleOut]:
    fired = dict.fromkeys(
        (*(flip.rule for flip in incident.history), incident.verdict.rule)
    )
    return [
        RuleOut(number=number, says=BY_NUMBER[number].sentence)
        for number in fired
        if number in BY_NUMBER
    ]
