"""What people announce and decide: planned switchovers, and who is to be kept.

Theory of operation. Two kinds of things that are no harm by themselves, and must hide
none. An announcement is made at any agent, for a while, for one node or for any, and
may be taken back at another one. A decision is made at one agent, or at two that may
not know of each other, and then the two may exclude each other. Whoever decides has a
name of his own, so that an oracle can ask whose word a verdict follows.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agent.core import event as events
from tests.sim.harness import Simulation

OWNER = "planner"
"""Who announces; nobody acknowledges anything under this name."""
LATER_S = (5.0, 30.0, 120.0)
"""How long things stand, or how much later they are taken back."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision on who is to be kept, by whoever made it."""

    who: str
    node: str | None
    """None: no earlier decision is to count."""


class People:
    """Announces and decides, at agents that run."""

    def __init__(self, sim: Simulation, dice: random.Random) -> None:
        self.sim = sim
        self.dice = dice
        self.decided: dict[str, Decided] = {}
        """By the name of who decided."""
        self._count = 0

    def announce(self, name: str) -> tuple[str, None]:
        """Announce a switchover at this agent; it may be called off at another one."""
        self._count += 1
        node = self.dice.choice((None, *self.sim.world.servers))
        plan, span_s = f"plan-{self._count}", self.dice.choice(LATER_S)
        at = self.sim.moment(name)
        begun = events.MaintenanceBegun(at, plan, node, OWNER, "patching", span_s)
        self.sim.submit(name, begun)
        if self.dice.random() < 0.4:
            self._later(partial(self._call_off, plan))
        return f"to {node or 'any'} for {span_s:.0f} s, at {name}", None

    def pin(self) -> tuple[str, None]:
        """Decide who is to be kept, here or at two places at once."""
        places = self.dice.sample(tuple(self.sim.agents), self.dice.choice((1, 2, 2)))
        words = [self.decide(name, self._side()) for name in places]
        if self.dice.random() < 0.4:
            self._later(partial(self.decide, places[0], None))
        return ", ".join(words), None

    def _later(self, act: Callable[[], object]) -> None:
        def taken() -> None:
            act()

        after_s = self.dice.choice(LATER_S) * self.dice.random()
        self.sim.at(self.sim.now_s + after_s, taken)

    def _side(self) -> str:
        return self.dice.choice(tuple(self.sim.world.servers))

    def _call_off(self, plan: str) -> None:
        name = self.dice.choice(tuple(self.sim.agents))
        at = self.sim.moment(name)
        self.sim.submit(name, events.MaintenanceEnded(at, plan, "grace"))

    def decide(self, name: str, node: str | None) -> str:
        """Decide at this agent, under a name of one's own, who is to be kept."""
        self._count += 1
        made = Decided(f"ada-{self._count}", node)
        self.decided[made.who] = made
        at, reason = self.sim.moment(name), "it has the orders"
        self.sim.submit(name, events.WinnerDecided(at, node, made.who, reason))
        return f"{node or 'nobody'} at {name}"
