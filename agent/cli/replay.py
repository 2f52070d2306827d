"""`splitguard replay`: judge again what an agent saw, by the rules of this version."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, prints
from agent.cli.console import safe, say, stacked, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.cli.rerun import Difference, Rerun
    from agent.core.replay import Turn
    from agent.store.field import FieldJournal

DIFFERS = 1
STRIDE = 50
"""Lines between two movements of the progress bar."""


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("replay")(prints(replay))


def replay(
    call: Call,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What `splitguard journal export` wrote.",
            readable=False,
        ),
    ],
) -> int:
    """Judge again what an agent saw.

    Shows each change of a verdict. Exit 0: the same came out as the agent recorded.
    1: something else did, and where.
    """
    from agent.cli.rerun import Rerun
    from agent.store.field import FieldJournal

    journal = FieldJournal(file)
    rerun = Rerun()
    with _progress(journal.lines) as told:
        rerun.run(journal, told)
    found = _plain(journal, rerun)
    call.out.data(found, lambda: _drawn(found), items=found["flips"])
    say(_summary(journal, rerun))
    return DIFFERS if rerun.differences else 0


@contextlib.contextmanager
def _progress(lines: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on stderr when a person looks at it: a whole day takes minutes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("judging", BarColumn(), "{task.percentage:3.0f} %")
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("judging", total=lines + 1)
        yield (
            lambda number: (
                bar.update(task, completed=number) if number % STRIDE == 0 else None
            )
        )


def _plain(journal: "FieldJournal", rerun: "Rerun") -> dict[str, Any]:
    from agent import __version__
    from agent.cli.when import text_of

    def time(wall_s: float | None) -> str | None:
        return None if wall_s is None else text_of(wall_s)

    return {
        "cluster": journal.header.cluster,
        "node": journal.header.node,
        "judged_by": sorted(rerun.judged_by),
        "replayed_by": __version__,
        "events": rerun.events,
        "from": time(rerun.from_wall_s),
        "to": time(rerun.to_wall_s),
        "flips": [_flip(turn) for turn in rerun.turns],
        "flips_left_out": rerun.turns_left_out,
        "differences": [_difference(each) for each in rerun.differences],
        "differences_left_out": rerun.differences_left_out,
    }


def _flip(turn: "Turn") -> dict[str, Any]:
    from agent.cli.when import text_of

    return {
        "at": text_of(turn.wall_s),
        "incident": turn.incident or None,
        "family": turn.family,
        "subject": turn.subject,
        "verdict": turn.verdict,
        "before": turn.before or None,
        "after": turn.after or None,
        "rule": turn.rule,
        "severity": turn.severity,
        "sentence": turn.sentence,
    }


def _difference(each: "Difference") -> dict[str, Any]:
    from agent.cli.when import text_of

    return {
        "at": text_of(each.wall_s),
        "line": each.line,
        "event": each.event,
        "recorded": list(each.recorded),
        "replayed": list(each.replayed),
    }


def _drawn(found: dict[str, Any]) -> "RenderableType":
    parts: list[RenderableType] = [_row(flip) for flip in found["flips"]]
    if not parts:
        parts = [words("No verdict changed.")]
    if found["flips_left_out"]:
        parts.append(words(f"and {found['flips_left_out']} more"))
    for each in found["differences"]:
        parts.append(
            words(f"{each['at']}  DIFFERS at line {each['line']} ({each['event']})")
        )
        parts += [words(safe(f"    only recorded: {one}")) for one in each["recorded"]]
        parts += [words(safe(f"    only replayed: {one}")) for one in each["replayed"]]
    if found["differences_left_out"]:
        parts.append(words(f"and {found['differences_left_out']} more differences"))
    return stacked(*parts)


def _row(flip: dict[str, Any]) -> "RenderableType":
    """Return one change: when, of what, from what to what, by which rule, and why."""
    ways = f"{flip['before'] or 'nothing'} -> {flip['after'] or 'gone'}"
    if flip["incident"] is not None:
        what = f"{flip['incident']} {flip['verdict']} {flip['subject']}"
        return words(safe(f"{flip['at']}  {what}: {ways}"))
    rule = f"(rule {flip['rule']})" if flip["after"] else "(no rule fires any more)"
    was = "" if flip["after"] else "It was: "
    return stacked(
        words(safe(f"{flip['at']}  {flip['subject']}: {ways} {rule}"), "bold"),
        words(safe(f"    {was}{flip['sentence']}")),
    )


def _summary(journal: "FieldJournal", rerun: "Rerun") -> str:
    from agent import __version__
    from agent.cli.when import text_of

    if rerun.from_wall_s is None or rerun.to_wall_s is None:
        return "splitguard: there are no events in it"
    begin, end = text_of(rerun.from_wall_s), text_of(rerun.to_wall_s)
    told = f"{rerun.events} events of {safe(journal.header.node)}, {begin} to {end}"
    others = rerun.judged_by - {__version__}
    versions = f"; judged by {', '.join(sorted(others))}, replayed by {__version__}"
    count = len(rerun.differences) + rerun.differences_left_out
    same = "the same came out as the agent recorded"
    result = f"{count} differences from what the agent recorded" if count else same
    return f"splitguard: {told}: {result}{safe(versions) if others else ''}"
