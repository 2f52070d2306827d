"""What a run works with: hands that do and look, a screen that tells and asks.

Theory of operation. The runner decides what comes next and nothing else; who does it,
and how it is shown, is behind these two protocols.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.vnfm.recovery.model import Facts, Step


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check found."""

    ok: bool
    told: str
    """What is so, or what is not; people read it."""
    facts: Facts = field(default_factory=dict)
    hopeless: bool = False
    """With ok false: waiting will not help."""
    undone: bool = False
    """With ok true: it was not done, and the run goes on all the same."""
    left: str = ""
    """What is still to be done, and how: said again at the end, which is not well."""


Note = Callable[[Facts], None]
"""Writes down at once what must not be forgotten in the middle of a step."""


class Hands(Protocol):
    """What a run can do and look at. Everything raises SplitguardError."""

    async def plan(self, act: str, facts: Facts) -> str:
        """Say what `act` would do now, with names and numbers; empty: nothing."""
        ...

    async def do(self, act: str, facts: Facts, note: Note) -> Seen:
        """Do it. Done twice it does no harm."""
        ...

    async def check(self, act: str, facts: Facts) -> Seen:
        """Look once."""
        ...


class Screen(Protocol):
    """Where a run speaks with a person."""

    def step(self, shown: "Shown") -> None:
        """Show a step before anything of it is done."""
        ...

    def progress(self, told: str, left_s: float) -> None:
        """Say what is waited for, and how long at most."""
        ...

    def ended(self, shown: "Shown", state: str, told: str) -> None:
        """Say what became of it: `done`, `not done`, `told`, `failed`, `not yet`."""
        ...

    def allows(self, shown: "Shown") -> bool:
        """Ask whether to go on with a step that changes something."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """A step with all its braces filled."""

    number: int
    step: Step
    node: str
    title: str
    text: str
    commands: tuple[str, ...]
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    ok: bool
    stopped_at: str = ""
    """The step; empty when it came to its end."""
    told: str = ""
    hopeless: bool = False
    """Nothing was begun: there is nothing to go on with."""
    left: tuple[str, ...] = ()
    """What is still to be done although the run came to its end."""
