"""The only door: one event in, the next state and its actions out.

Theory of operation. Each event passes the same stations. It is folded into what
is known; the rules say what is so; incidents live on by that; then requests for
permits are answered, captures ordered and news told. Nothing in here knows why a
station decides as it does, and no station calls another one.

The order of carrying out is part of the contract: commit `state.ledger` (with the
outbox rows of its notices) when it differs from the one before, then carry out
`actions` one by one. A crash in between loses nothing, because every action can be
derived again from the ledger: captures that were not handed over since the start
are handed over again, and notices are in the outbox.
"""

from dataclasses import dataclass

from agent.core import (
    demand,
    incidents,
    lastseen,
    losses,
    maintenance,
    permits,
    pinning,
    proof,
    protection,
    removal,
    rules,
    selfdoubt,
    taking,
    telling,
    untaken,
    view,
    weather,
)
from agent.core.action import Action
from agent.core.event import (
    Acknowledged,
    CaptureAsked,
    CaptureReported,
    Event,
    LossTold,
    NoticeDelivered,
    Observed,
    PermitAsked,
    PermitReleased,
    SnapshotsRemoved,
    Started,
    Ticked,
)
from agent.core.frozen import replace
from agent.core.policy import Policy
from agent.core.scene import Scene, build
from agent.core.state import State
from agent.core.verdict import VerdictCode


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one event."""

    state: State
    actions: tuple[Action, ...]


def step(state: State, event: Event, policy: Policy) -> Step:
    """Return the state after `event`, and what is to be done.

    Total: every event of the contract is accepted in every state.
    """
    state = untaken.caught_up(state, event.at)
    seen = _fold(view.fold(state, event, policy), event, policy)
    seen = weather.noted(state.view, seen, event, policy)
    questions = proof.questions(state, seen, event, policy)
    scene = build(seen, event.at, policy)
    judged = _judged(seen, scene)
    ledger, changes = incidents.advance(
        judged.ledger, judged.view.verdicts, judged, event.at, policy, scene
    )
    lived = State(ledger, judged.knowledge, judged.view)
    if isinstance(event, LossTold | Ticked):
        lived, learnt = losses.advance(lived)
        changes = (*changes, *learnt)
    answered = permits.advance(lived, event.at, policy)
    kept, captures = protection.advance(answered, event.at, policy)
    told, tells = telling.advance(kept, changes, event.at, policy)
    return Step(told, (*questions, *captures, *tells))


def _judged(state: State, scene: Scene) -> State:
    """Let the rules say what is so now.

    Not while the clocks have parted: all that is known may be from before a sleep.
    """
    if selfdoubt.clocks_parted(state.view.offset_s, scene.at):
        return state
    verdicts = rules.judged(scene)
    isolated_s = state.view.isolated_s
    if any(one.code is VerdictCode.OBSERVER_ISOLATED for one in verdicts):
        isolated_s = scene.at.monotonic_s
    if (verdicts, isolated_s) == (state.view.verdicts, state.view.isolated_s):
        return state
    view = replace(state.view, verdicts=verdicts, isolated_s=isolated_s)
    return State(state.ledger, state.knowledge, view)


def _fold(state: State, event: Event, policy: Policy) -> State:
    """Take in what the event says about permits, captures and news."""
    match event:
        case Observed():
            heard = telling.heard_of(state, event.observation)
            told = maintenance.heard_of(heard, event.observation, event.at, policy)
            pinned = pinning.heard_of(told, event.observation, event.at, policy)
            return lastseen.noted(pinned, event.observation, event.at, policy)
        case CaptureReported():
            return untaken.told(state, event.status, event.at)
        case LossTold():
            return losses.told(state, event)
        case NoticeDelivered():
            return telling.delivered(state, event.notice_id)
        case Started():
            return permits.restarted(state, event.at)
        case _:
            return _asked(state, event, policy)


def _asked(state: State, event: Event, policy: Policy) -> State:
    """Take in what a person or a program asked for, or did."""
    match event:
        case CaptureAsked():
            return demand.asked(state, event, policy)
        case SnapshotsRemoved():
            return removal.forgotten(state, event.ids, policy.me)
        case PermitAsked():
            return permits.asked(state, event, policy)
        case PermitReleased():
            return permits.released(state, event)
        case Acknowledged():
            ledger = taking.acknowledge(
                state.ledger, event.incident_id, event.who, event.at, policy
            )
            return replace(state, ledger=ledger)
        case _:
            return pinning.asked(maintenance.asked(state, event), event)
