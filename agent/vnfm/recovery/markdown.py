"""A scenario as a runbook: Markdown, made from the data that a run follows.

Theory of operation. Pure text. What differs between the generations of managers stands
below each other; what only a run knows stands in capitals. `python -m
agent.vnfm.recovery FOLDER` writes one file for each scenario.
"""

import textwrap
from collections.abc import Iterable

from agent.vnfm.records import Generation
from agent.vnfm.recovery.model import Each, Kind, Scenario, Step, filled

WIDTH = 110
_WHO = {Kind.SAY: "You", Kind.DO: "Splitguard", Kind.CHECK: "Check"}
_EACH = {
    Each.ONCE: "",
    Each.MANAGERS: "for every manager",
    Each.OTHERS: "for every manager but LEADER",
    Each.ELSEWHERE: "for every manager on another machine",
    Each.LOSERS: "for every losing side",
}

_LED = (
    "Splitguard leads through it, shows each step before it does it, waits for what a"
    " person does, and goes on where it stopped when it is run again:"
)
_GENERATIONS = (
    "4.x are managers up to 5.0.0 (one is active, each beside a PostgreSQL of its own),"
    " 5.x+ those from 5.0.5 on (all are active, over one database cluster). Words in"
    " capitals are filled in by a run."
)
_FACTS = {
    "certificates": "/home/admin/files/ssl and /etc/cloudify/ssl",
    "certificates_below_root": "home/admin/files/ssl etc/cloudify/ssl",
    "username": "admin",
    "tenant": "default_tenant",
    "whose_folders": "Its folders are those of `[vnfm] certificates` there.",
    "its_certificates": "Unpack TO/NODE-certificates.tar there.",
}
"""The defaults of the configuration."""


def runbook(scenario: Scenario) -> str:
    """Return the whole page."""
    command = f"    splitguard recover {scenario.name} {scenario.options}".rstrip()
    parts = [
        f"# {scenario.title}",
        _wrapped(scenario.about),
        _wrapped(_LED),
        f"{command} --dry-run\n{command}",
        _wrapped(_GENERATIONS),
        "The guide says:",
        "\n".join(
            f"{number}. {line}" for number, line in enumerate(scenario.guide, start=1)
        ),
        "## Steps",
        *(_step(number, step) for number, step in enumerate(scenario.steps, start=1)),
    ]
    return "\n\n".join(parts) + "\n"


def _step(number: int, step: Step) -> str:
    title = _plain(step.title)
    notes = [note for note in (_EACH[step.each], _when(step), _only(step)) if note]
    suffix = f" ({'; '.join(notes)})" if notes else ""
    blocks = [f"### {number}. {_WHO[step.kind]}: {title}{suffix}"]
    if step.text.old and step.text.new and step.text.old != step.text.new:
        for name, generation in _NAMES:
            blocks.append(_wrapped(f"{name}: {_plain(step.text.of(generation))}"))
    else:
        blocks.append(_wrapped(_plain(step.text.old or step.text.new)))
    blocks += _commands(step)
    return "\n\n".join(blocks)


_NAMES = (("4.x", Generation.ACTIVE_STANDBY), ("5.x+", Generation.ALL_ACTIVE))


def _commands(step: Step) -> Iterable[str]:
    """Yield code blocks: one when both generations type the same."""
    of = {name: step.commands.of(generation) for name, generation in _NAMES}
    one, other = of["4.x"], of["5.x+"]
    if one == other or not one or not other:
        if one or other:
            yield _block(one or other)
        return
    for name, each in of.items():
        yield f"{name}:\n\n{_block(each)}"


def _block(commands: Iterable[str]) -> str:
    text = "\n".join(_plain(line) for line in commands)
    return f"```sh\n{text}\n```"


def _when(step: Step) -> str:
    return "only when it is replaced" if step.when is not None else ""


def _only(step: Step) -> str:
    if step.text.old and step.text.new:
        return ""
    return "4.x only" if step.text.old else "5.x+ only"


def _plain(text: str) -> str:
    return filled(text, _FACTS)


def _wrapped(text: str) -> str:
    return "\n".join(
        textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    )
