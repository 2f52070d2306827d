"""Running again what an agent has seen, and telling what came of it.

Theory of operation. `step` is a function, so a recorded state and the events after it
give the same verdicts again, on any machine and in any version of the rules. An
Outcome is what people would have been shown after an event; a Turn is the passage of
one subject, or of one incident, from one conclusion to the next. What the agent
recorded of its outcomes is compared with what comes out now.
"""

from dataclasses import dataclass, fields

from agent.core.action import Action, RunCapture
from agent.core.event import Event
from agent.core.explain import sentence
from agent.core.frozen import replace
from agent.core.incident import Incident
from agent.core.incidents import QUIET
from agent.core.machine import Step, step
from agent.core.moment import Moment
from agent.core.policy import Policy
from agent.core.state import State
from agent.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Held:
    """One verdict that stood, in short."""

    family: str
    subject: str
    code: str
    rule: int
    severity: str


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one incident was in its life, in short."""

    id: str
    status: str
    verdict: str
    subject: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What people would have been shown after an event."""

    verdicts: tuple[Held, ...] = ()
    incidents: tuple[Stand, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject's passage from one conclusion to the next."""

    wall_s: float
    incident: str
    """The incident whose status has changed; empty when it is a verdict that has."""
    family: str
    subject: str
    verdict: str
    """The one that stands after it, or stood before."""
    before: str
    """A verdict, or an incident's status; empty for none."""
    after: str
    rule: int
    severity: str
    sentence: str
    """The evidence in words, of what is so after it, or was so before it."""


def uncommitted(before: State, made: Step) -> Step:
    """Return what is left of a step whose ledger could not be written.

    The ledger stays, so the next step decides the same again; captures begin all the
    same, because the data at stake matters more than the note of it.
    """
    view = replace(made.state.view, in_hand=before.view.in_hand)
    actions: tuple[Action, ...] = tuple(
        action for action in made.actions if isinstance(action, RunCapture)
    )
    return Step(replace(made.state, ledger=before.ledger, view=view), actions)


def again(state: State, event: Event, policy: Policy, *, committed: bool) -> State:
    """Return the state after `event`, as the agent had it."""
    made = step(state, event, policy)
    return made.state if committed else uncommitted(state, made).state


def outcome(state: State) -> Outcome:
    """Return what people are shown in this state."""
    return Outcome(_verdicts(state), _incidents(state))


def same_outcome(before: State, after: State) -> bool:
    """Whether people are shown the same in both."""
    untouched = before.ledger.incidents is after.ledger.incidents
    if not untouched and _incidents(before) != _incidents(after):
        return False
    return _verdicts(before) == _verdicts(after)


def _incidents(state: State) -> tuple[Stand, ...]:
    return tuple(
        Stand(one.id, one.status.value, one.verdict.code.value, one.verdict.subject)
        for one in state.ledger.incidents
    )


def _verdicts(state: State) -> tuple[Held, ...]:
    return tuple(_held(one) for one in state.view.verdicts)


def unequal_parts(recorded: State, replayed: State) -> tuple[str, ...]:
    """Return the names of what differs between two states."""
    return tuple(
        f"{part.name}.{each.name}"
        for part in fields(State)
        for each in fields(getattr(recorded, part.name))
        if getattr(getattr(recorded, part.name), each.name)
        != getattr(getattr(replayed, part.name), each.name)
    )


def turns(before: State, after: State, at: Moment, policy: Policy) -> tuple[Turn, ...]:
    """Return what changed between two states, in the order of the verdicts."""
    found = [*_verdict_turns(before, after, at, policy)]
    found += _incident_turns(before, after, at, policy)
    return tuple(found)


def _held(verdict: Verdict) -> Held:
    return Held(
        verdict.family.value,
        verdict.subject,
        verdict.code.value,
        verdict.rule,
        verdict.severity.value,
    )


def _verdict_turns(
    before: State, after: State, at: Moment, policy: Policy
) -> list[Turn]:
    old = {(one.family, one.subject): one for one in before.view.verdicts}
    new = {(one.family, one.subject): one for one in after.view.verdicts}
    found: list[Turn] = []
    for place in dict.fromkeys((*new, *old)):
        was, now = old.get(place), new.get(place)
        said = now or was
        if said is None or (was and now and was.code is now.code):
            continue
        if now is None and said.code in QUIET:
            continue  # what came instead says it
        found.append(
            Turn(
                wall_s=at.wall_s,
                incident="",
                family=said.family.value,
                subject=said.subject,
                verdict=said.code.value,
                before=was.code.value if was else "",
                after=now.code.value if now else "",
                rule=said.rule,
                severity=said.severity.value,
                sentence=sentence(said, policy),
            )
        )
    return found


def _incident_turns(
    before: State, after: State, at: Moment, policy: Policy
) -> list[Turn]:
    old = {one.id: one for one in before.ledger.incidents}
    new = {one.id: one for one in after.ledger.incidents}
    return [
        _incident_turn(old.get(name), new.get(name), at, policy)
        for name in dict.fromkeys((*new, *old))
        if _status(old.get(name)) != _status(new.get(name))
        and not _forgotten(old.get(name), new.get(name))
    ]


def _status(incident: Incident | None) -> str:
    return "" if incident is None else incident.status.value


def _forgotten(was: Incident | None, now: Incident | None) -> bool:
    """Whether it left the ledger only because it was over for long."""
    return now is None and was is not None and was.resolved_wall_s is not None


def _incident_turn(
    was: Incident | None, now: Incident | None, at: Moment, policy: Policy
) -> Turn:
    one = now or was
    if one is None:
        raise ValueError("an incident that was never there has no turn")
    return Turn(
        wall_s=at.wall_s,
        incident=one.id,
        family=one.verdict.family.value,
        subject=one.verdict.subject,
        verdict=one.verdict.code.value,
        before=_status(was),
        after=_status(now),
        rule=one.verdict.rule,
        severity=one.verdict.severity.value,
        sentence=sentence(one.verdict, policy),
    )
