"""What a recovery scenario is made of: steps of say, do and check.

Theory of operation. Values only. A step has its words for each generation of managers;
one without words for a generation is no step there. In words and commands, names in
braces stand for what a run knows: `{node}`, `{leader}`, `{to}`. A runbook shows them in
capitals. A `say` tells a person what to type and proves nothing: a `check` follows it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.vnfm.records import Generation

_BRACES = re.compile(r"\{([a-z_]+)\}")

Facts = Mapping[str, str]
"""What a run knows, by name; what fills the braces."""


class Kind(StrEnum):
    """Who does a step."""

    SAY = "say"
    """A person types what is shown."""
    DO = "do"
    """Splitguard does it, after it was shown."""
    CHECK = "check"
    """Splitguard looks until it is so, or a time is over."""


class Each(StrEnum):
    """For which nodes a step is there, once for each; `{node}` is that one."""

    ONCE = ""
    MANAGERS = "managers"
    """Every node with a manager."""
    OTHERS = "others"
    """Every node with a manager but the leader."""
    ELSEWHERE = "elsewhere"
    """Every node with a manager on another machine than this one."""
    LOSERS = "losers"
    """Every node that loses the split."""


@dataclass(frozen=True, slots=True)
class Words:
    """Text for the managers of 4.x and for those of 5.x and later; either may lack."""

    old: str = ""
    new: str = ""

    def of(self, generation: Generation) -> str:
        """Return the text for one generation."""
        return self.old if generation is Generation.ACTIVE_STANDBY else self.new


@dataclass(frozen=True, slots=True)
class Lines:
    """Command lines, like Words."""

    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def of(self, generation: Generation) -> tuple[str, ...]:
        """Return the lines for one generation."""
        return self.old if generation is Generation.ACTIVE_STANDBY else self.new


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    id: str
    kind: Kind
    title: str
    text: Words
    act: str = ""
    """What is done or checked; a say has none."""
    commands: Lines = Lines()
    """What a person types."""
    each: Each = Each.ONCE
    when: tuple[str, str] | None = None
    """A fact and the value that it must have, or the step is left out."""
    wait_s: float = 0.0
    """Of a check: how long it may take until it is so; 0: it is so or not."""
    changes: bool = False
    """Of a do: something is changed outside the journal, so a person is asked."""

    def is_for(self, generation: Generation) -> bool:
        """Whether these managers have this step."""
        return bool(self.text.of(generation))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One trouble and the way out of it."""

    name: str
    """The word on the command line and the runbook's file name."""
    title: str
    """As the guide calls it."""
    about: str
    """When it is the right one, and what to know before; paragraphs."""
    guide: tuple[str, ...]
    """The guide's own steps."""
    steps: tuple[Step, ...]
    options: str = ""
    """What the command does not go without on a manager's machine."""
    by_agents: bool = False
    """Whether the managers are judged by what agents see of them, but for the proof at
    the end: each login is a write, which would push a clean side past the fork."""


def both(text: str) -> Words:
    """Return words that hold for every manager."""
    return Words(text, text)


def lines(*each: str) -> Lines:
    """Return command lines that hold for every manager."""
    return Lines(each, each)


def filled(text: str, facts: Facts) -> str:
    """Return text with the braces filled; what is not known stands in capitals."""

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        return facts.get(name, "") or capitals(name)

    return _BRACES.sub(value, text)


def capitals(name: str) -> str:
    """Return how a runbook writes a value that only a run knows."""
    return name.upper().replace("_", "-")


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in braces, in the order of their first use."""
    return tuple(dict.fromkeys(_BRACES.findall(text)))


def steps_of(
    scenario: Scenario, generation: Generation, facts: Facts | None = None
) -> Iterable[Step]:
    """Yield the steps for these managers, without those whose fact says otherwise.

    Without facts every branch is yielded.
    """
    for step in scenario.steps:
        if not step.is_for(generation):
            continue
        if step.when is not None and facts is not None:
            name, wanted = step.when
            if facts.get(name) != wanted:
                continue
        yield step
