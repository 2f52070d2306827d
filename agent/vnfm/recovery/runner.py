"""Plays a scenario: shows each step, does or checks it, and notes what became of it.

Theory of operation. Step by step, each once for every node that it is for. A say is
shown, and the check after it waits until it was done: nothing ever takes a person's
word, or `--yes`, for it. A do is shown and asked for before anything is changed. What
is learnt goes into the journal with the step, so a run that is interrupted goes on at
the step where it was, and shows again what was told and not seen to be done. A step
that leaves something to be done stops nothing; the run ends unwell, and the next one
goes on at that step. A dry run shows all of it, looks at what is so before its first
act, and does nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.errors import SplitguardError
from agent.ports import Clock
from agent.vnfm.records import Generation
from agent.vnfm.recovery.journal import Journal, time_text
from agent.vnfm.recovery.model import (
    Each,
    Facts,
    Kind,
    Scenario,
    Step,
    filled,
    steps_of,
)
from agent.vnfm.recovery.ports import Hands, Outcome, Screen, Seen, Shown

POLL_S = 2.0
POLL_MAX_S = 10.0
"""People's work takes long, and each look is a login at every manager."""


@dataclass
class Runner:
    """One run."""

    scenario: Scenario
    generation: Generation
    hands: Hands
    screen: Screen
    clock: Clock
    journal: Journal | None = None
    """None: a dry run."""
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.steps = tuple(steps_of(self.scenario, self.generation))
        """Those for these managers."""
        acts = (step.kind is not Kind.CHECK for step in self.steps)
        self._first_act = next((n for n, act in enumerate(acts, 1) if act), 0)
        self._blind = False
        self._left: list[str] = []

    async def run(self) -> Outcome:
        """Play all steps, or as many as can be. Raises SplitguardError."""
        last = Outcome(ok=True)
        for number, step in enumerate(self.steps, start=1):
            if not self._is_on(step):
                continue
            for node in self._nodes_of(step):
                if self._is_behind(number, step, node):
                    continue
                last = await self._one(self._shown(number, step, node))
                if not last.ok and self.journal is not None:
                    return self._stopped(self.journal, number, last)
        if self._left:
            return Outcome(ok=False, told=last.told, left=tuple(self._left))
        if self.journal is not None:
            self.journal.end(self._time(), last.told)
        return Outcome(ok=True, told=last.told)

    def _stopped(self, journal: Journal, number: int, last: Outcome) -> Outcome:
        """End the journal too where nothing was begun and waiting will not help."""
        hopeless = last.hopeless and number < self._first_act
        if hopeless:
            journal.end(self._time(), last.told)
        return replace(last, hopeless=hopeless)

    def _nodes_of(self, step: Step) -> tuple[str, ...]:
        """Return for whom a step is; a dry run shows it though nobody knows that."""
        found = tuple(nodes_of(step, self.facts))
        return found or ("",) * (self.journal is None)

    def _is_behind(self, number: int, step: Step, node: str) -> bool:
        """Whether a step was done; a say was, once the check after it has passed."""
        if self.journal is None:
            return False
        if step.kind is Kind.SAY:
            rest = self.steps[number:]
            step = next(each for each in rest if each.kind is Kind.CHECK)
            node = node if step.each is not Each.ONCE else ""
        return (step.id, node) in self.journal.done

    def _time(self) -> str:
        return time_text(self.clock.moment().wall_s)

    def _is_on(self, step: Step) -> bool:
        if step.when is None:
            return True
        name, wanted = step.when
        # A dry run shows every way that may still be taken.
        return self.facts.get(name, wanted if self.journal is None else "") == wanted

    def _shown(self, number: int, step: Step, node: str) -> Shown:
        facts = of_node(self.facts, node)
        return Shown(
            number,
            step,
            node,
            filled(step.title, facts),
            filled(step.text.of(self.generation), facts),
            tuple(filled(each, facts) for each in step.commands.of(self.generation)),
        )

    async def _one(self, shown: Shown) -> Outcome:
        step, facts = shown.step, of_node(self.facts, shown.node)
        if step.kind is Kind.DO:
            plan = await self.hands.plan(step.act, facts)
            shown = replace(shown, plan=plan)
        self.screen.step(shown)
        if step.kind is Kind.SAY:
            return self._end(shown, Seen(ok=True, told=""), "told")
        if self.journal is None and (self._blind or shown.number > self._first_act):
            return Outcome(ok=True)  # what would be so by then, nobody knows
        if step.kind is Kind.CHECK:
            seen = await self._wait(shown)
        elif self.journal is None:
            return Outcome(ok=True)
        else:
            if step.changes and not self.screen.allows(shown):
                return Outcome(ok=False, stopped_at=step.id, told="not wanted")
            seen = await self._do(self.journal, shown, facts)
        state = "not done" if seen.undone or seen.left else "done"
        return self._end(shown, seen, state if seen.ok else "failed")

    async def _do(self, journal: Journal, shown: Shown, facts: Facts) -> Seen:
        key = (shown.step.id, shown.node)

        def note(learnt: Facts) -> None:
            journal.told(self._time(), key, "noted", "", learnt)
            self.facts.update(learnt)

        journal.told(self._time(), key, "begun")
        try:
            return await self.hands.do(shown.step.act, facts, note)
        except SplitguardError as error:
            journal.told(self._time(), key, "failed", error.message)
            raise

    async def _wait(self, shown: Shown) -> Seen:
        """Look until it is so, it is hopeless, or the step's time is over.

        What a look shows may be gone at the next one, so it is remembered at once.
        """
        end_s = self.clock.moment().monotonic_s + shown.step.wait_s
        while True:
            facts = of_node(self.facts, shown.node)
            seen = await self.hands.check(shown.step.act, facts)
            self.facts.update(seen.facts)
            left_s = end_s - self.clock.moment().monotonic_s
            if seen.ok or seen.hopeless or left_s <= 0 or self.journal is None:
                return seen
            self.screen.progress(seen.told, left_s)
            waited_s = shown.step.wait_s - left_s
            pause_s = min(POLL_MAX_S, max(POLL_S, waited_s / 10))
            await self.clock.sleep(min(pause_s, left_s))

    def _end(self, shown: Shown, seen: Seen, state: str) -> Outcome:
        self.facts.update(seen.facts)
        if seen.left:
            self._left.append(seen.left)
        if self.journal is not None:
            key = (shown.step.id, shown.node)
            # What follows a step that left something is gone through again with it.
            noted = "left" if self._left and seen.ok else state
            noted = "done" if noted == "not done" else noted
            self.journal.told(self._time(), key, noted, seen.told, seen.facts)
        elif state == "failed":
            state, self._blind = "not yet", True
        self.screen.ended(shown, state, seen.told)
        stopped_at = "" if seen.ok else shown.step.id
        return Outcome(seen.ok, stopped_at, seen.told, hopeless=seen.hopeless)


def nodes_of(step: Step, facts: Facts) -> Iterator[str]:
    """Yield the nodes that a step is for; one empty name for a step without."""
    if step.each is Each.ONCE:
        yield ""
        return
    yield from (name for name in facts.get(step.each.value, "").split(",") if name)


def of_node(facts: Facts, node: str) -> Mapping[str, str]:
    """Return the facts with those of one node under their plain names.

    `address.n1` becomes `address` where n1 is the node that is spoken of.
    """
    name = node or facts.get("node", "")
    ending = f".{name}"
    own = {
        key.removesuffix(ending): value
        for key, value in facts.items()
        if name and key.endswith(ending)
    }
    return {**facts, **own, **({"node": name} if name else {})}
