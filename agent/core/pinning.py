"""Who is to be kept after a split, as an operator decided.

Theory of operation. A decision is a numbered value in the ledger that travels in
reports. Whoever decides counts one up from the highest number that this agent knows,
so a later decision replaces the earlier one everywhere, whatever the clocks say. Two
people who cannot know of each other may use one number for different nodes; then
neither counts, that is said, and the next decision settles it. A decision that was
made in a split ends with it: it must not speak in the next one. It orders the work,
and which side a load balancer that fails closed leaves open, and nothing else.
"""

from dataclasses import dataclass

from agent.core.event import Event, WinnerDecided
from agent.core.frozen import replace
from agent.core.incident import Incident, Status
from agent.core.maintenance import TEXT_MAX
from agent.core.moment import Moment
from agent.core.observation import Observation, PinBrief
from agent.core.plan import Pin
from agent.core.policy import Policy
from agent.core.state import State
from agent.core.verdict import Family

PINS_MAX = 8
"""Decisions of one number that are kept: more people do not disagree at once."""
REVISION_MAX = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Decision:
    """What counts now."""

    pin: Pin | None = None
    """The decision in force, which names a node."""
    disputed: tuple[Pin, ...] = ()
    """Decisions that exclude each other, none of which counts."""


def asked(state: State, event: Event) -> State:
    """Take in what a person decided; every other event changes nothing."""
    if not isinstance(event, WinnerDecided):
        return state
    last = max((pin.revision for pin in state.ledger.pins), default=0)
    split = _standing_split(state)
    made = Pin(
        node=event.node,
        who=event.who,
        reason=event.reason,
        revision=last + 1,
        wall_s=event.at.wall_s,
        incident=None if split is None else split.id,
    )
    return replace(state, ledger=replace(state.ledger, pins=(made,)))


def heard_of(state: State, seen: Observation, at: Moment, policy: Policy) -> State:
    """Take over what a peer's report says of decisions, if it was accepted."""
    report = seen.report
    if report is None or not report.pins:
        return state
    if state.view.reports.get(seen.node) is not seen:
        return state
    read_s = at.wall_s - (at.monotonic_s - seen.received_s)
    told = [_of_brief(one, read_s) for one in report.pins if _is_sound(one, policy)]
    everything = (*state.ledger.pins, *told)
    last = max((pin.revision for pin in everything), default=0)
    kept: dict[str | None, Pin] = {}
    for pin in everything:
        if pin.revision == last:
            same = kept.setdefault(pin.node, pin)
            kept[pin.node] = replace(same, over=same.over or pin.over)
    pins = tuple(kept.values())[:PINS_MAX]
    if pins == state.ledger.pins:
        return state
    return replace(state, ledger=replace(state.ledger, pins=pins))


def briefs(state: State, at: Moment) -> tuple[PinBrief, ...]:
    """Return what a report tells of decisions."""
    return tuple(
        PinBrief(
            node=pin.node,
            who=pin.who,
            reason=pin.reason,
            revision=pin.revision,
            age_s=at.wall_s - pin.wall_s,
            incident=pin.incident,
            over=pin.over or _is_over(pin, state),
        )
        for pin in state.ledger.pins
    )


def decision(state: State) -> Decision:
    """Return the decision that counts, or those that exclude each other."""
    pins = tuple(pin for pin in state.ledger.pins if not _is_over(pin, state))
    if len(pins) > 1:
        return Decision(disputed=pins)
    if pins and pins[0].node is not None:
        return Decision(pin=pins[0])
    return Decision()


def _is_over(pin: Pin, state: State) -> bool:
    """Whether the split that it was made in has ended.

    A split may go on under another id, when agents that were apart meet again; one that
    began after the decision is another split.
    """
    if pin.incident is None:
        return False
    split = _standing_split(state)
    if split is not None:
        return split.id != pin.incident and split.since_wall_s > pin.wall_s
    return pin.over or any(_has_ended(one, pin) for one in state.ledger.incidents)


def _has_ended(one: Incident, pin: Pin) -> bool:
    """Whether this is the split of the decision, and it is over.

    Agents that were apart may have known it under two ids; it ended after the decision.
    """
    if one.verdict.family is not Family.SPLIT or one.status is not Status.RESOLVED:
        return False
    ended_s = one.resolved_wall_s
    return one.id == pin.incident or (ended_s is not None and ended_s > pin.wall_s)


def _standing_split(state: State) -> Incident | None:
    for one in state.ledger.incidents:
        if one.verdict.family is Family.SPLIT and one.status is not Status.RESOLVED:
            return one
    return None


def _is_sound(brief: PinBrief, policy: Policy) -> bool:
    """Whether a peer's word can be one of ours."""
    texts = (brief.who, brief.reason, brief.incident or "")
    return (
        all(len(text) <= TEXT_MAX for text in texts)
        and 0 < brief.revision <= REVISION_MAX
        and (brief.node is None or brief.node in policy.order)
    )


def _of_brief(brief: PinBrief, read_s: float) -> Pin:
    return Pin(
        node=brief.node,
        who=brief.who,
        reason=brief.reason,
        revision=brief.revision,
        wall_s=read_s - max(0.0, brief.age_s),
        incident=brief.incident,
        over=brief.over,
    )
