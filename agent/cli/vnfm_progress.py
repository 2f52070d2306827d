"""How far it is: bars on a terminal, plain lines where nobody watches.

Theory of operation. Words go to stderr, data to stdout. A file or a pipe gets one line
at each tenth of a transfer and at each change of a state, never a line that is drawn
over: a log keeps every one of them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.cli.console import bytes_text, safe, say

Told = Callable[[int, int | None], object]
"""Bytes so far, and the whole where it is known."""
Stage = Callable[[str], object]
"""A word that says where it stands."""
LINES_MAX = 10
UNKNOWN_STEP_BYTES = 64 << 20


@contextmanager
def transfer(title: str) -> Iterator[Told]:
    """Give a function that shows how much of a file has gone."""
    if not sys.stderr.isatty():
        yield _Lines(title).show
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    columns = (
        "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(Text(safe(title)).markup, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def waiting(title: str) -> Iterator[Stage]:
    """Give a function that shows the state of what is waited for."""
    if not sys.stderr.isatty():
        yield _States(title).show
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
    from rich.text import Text

    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(Text(safe(title)).markup, total=None)

        def show(state: str) -> None:
            words = Text(f"{safe(title)}: {safe(state)}").markup
            bar.update(task, description=words)

        yield show


class _Lines:
    """One line for each tenth; where the whole is unknown, for each 64 MiB."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next = 0.0

    def show(self, done: int, total: int | None) -> None:
        if done < self._next or not done:
            return
        step = total / LINES_MAX if total else UNKNOWN_STEP_BYTES
        whole = f" of {bytes_text(total)}" if total else ""
        say(f"splitguard: {self._title}: {bytes_text(done)}{whole}")
        self._next = (done // step + 1) * step
        if total and done < total:
            self._next = min(self._next, total)


class _States:
    """One line for each change."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = ""

    def show(self, state: str) -> None:
        if state != self._last:
            say(f"splitguard: {self._title}: {safe(state)}")
            self._last = state
