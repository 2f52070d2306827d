"""The only door: one event in, the next state and its actions out."""

from dataclasses import dataclass

from agent.core.action import Action
from agent.core.state import State


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one event.

    The shell commits `state.ledger` (with a notice's outbox row) when it differs
    from the one before, and only then carries out `actions`, in order.
    """

    state: State
    actions: tuple[Action, ...]
