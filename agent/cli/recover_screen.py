"""How a recovery speaks with a person: each step, what is waited for, and questions.

Theory of operation. Words go to stderr. What a person has to type stands on lines of
its own behind `$`, so that it can be copied. While something is waited for, a line
comes when what is so changes, and once a minute otherwise. With --output jsonl each
step becomes a line on stdout as it begins and as it ends.
"""

import signal
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Any

import typer

from agent.cli.console import Out, Output, bytes_text, duration_text, safe, say
from agent.errors import SplitguardError
from agent.vnfm.recovery.model import Kind
from agent.vnfm.recovery.ports import Shown

WIDTH = 88
AGAIN_S = 60.0
"""So often it is said what is waited for, though nothing changes."""
_WHO = {Kind.SAY: "you", Kind.DO: "splitguard", Kind.CHECK: "check"}
_MARKS = {"done": "ok", "not done": "NOT DONE", "failed": "NOT OK"}


@dataclass
class Screen:
    """Implements ports.Screen of agent.vnfm.recovery."""

    out: Out
    total: int
    yes: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What became of each step, for --output json."""
    _at: int = 0
    _waited: tuple[str, float] = ("", 0.0)
    _tenths: int = 0
    _stage: str = ""

    def step(self, shown: Shown) -> None:
        """Show a step before anything of it is done."""
        self._waited, self._at = ("", 0.0), shown.number
        say("")
        who = _WHO[shown.step.kind]
        say(f"[{shown.number}/{self.total}] {who}: {safe(shown.title)}")
        _paragraph(shown.text)
        if shown.plan:
            _paragraph(f"now: {shown.plan}")
        for command in shown.commands:
            say(f"    $ {safe(command)}")
        self._event({**_row(shown), "state": "begun", "told": shown.plan})

    def progress(self, told: str, left_s: float) -> None:
        """Say what is waited for, when it changes or has not been said for long."""
        before, said_s = self._waited
        if told == before and said_s - left_s < AGAIN_S:
            return
        self._waited = (told, left_s)
        first, *others = told.splitlines() or [""]
        say(f"  waiting, at most {duration_text(left_s)}: {safe(first)}")
        for line in others:
            say(f"    {safe(line)}")

    def ended(self, shown: Shown, state: str, told: str) -> None:
        """Say what became of a step."""
        if state != "told":
            mark = _MARKS.get(state, state)
            first, *others = told.splitlines() or [""]
            say(f"  {mark}: {safe(first)}")
            for line in others:
                say(f"    {safe(line)}")
        row = {**_row(shown), "state": state, "told": told}
        self.steps.append(row)
        self._event(row)

    def interrupted(self) -> None:
        """Say where it was, and that nothing is lost."""
        at = f"at step {self._at} of {self.total}" if self._at else "before it began"
        say(f"\nsplitguard: interrupted {at}: the same command goes on there")

    def archive(self, done: int, total: int | None) -> None:
        """Say how much of an archive has gone, at each tenth."""
        tenths = done * 10 // total if total else 0
        if tenths != self._tenths:
            self._tenths = tenths
            say(f"  {bytes_text(done)} of {bytes_text(total)}")

    def stage(self, told: str) -> None:
        """Say how far a manager is, when that changes."""
        if told != self._stage:
            self._stage = told
            say(f"  {safe(told)}")

    def allows(self, shown: Shown) -> bool:
        """Ask whether a step that changes something is wanted."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise SplitguardError(
                f"step {shown.step.id} changes something, and nobody can be asked",
                "run it on a terminal, or give --yes: it goes on at this step",
            )
        # The event loop's own handler would let the first Ctrl-C go unheard here.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return typer.confirm("  do it?", default=False, err=True)
        finally:
            signal.signal(signal.SIGINT, before)

    def _event(self, row: dict[str, Any]) -> None:
        if self.out.output is Output.JSONL:
            self.out.data(row, lambda: "")


def _row(shown: Shown) -> dict[str, Any]:
    return {
        "step": shown.step.id,
        "node": shown.node or None,
        "kind": shown.step.kind.value,
        "title": shown.title,
        "commands": list(shown.commands),
    }


def _paragraph(text: str) -> None:
    for line in textwrap.wrap(safe(text), WIDTH - 2, break_on_hyphens=False):
        say(f"  {line}")
