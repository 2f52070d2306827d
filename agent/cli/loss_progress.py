"""How far a loss report is, on the terminal of whoever waits for it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str, int, int], None]
"""Takes what is being done, how far it is, and how far it goes; 0: nobody knows."""


@contextmanager
def progress(title: str) -> Iterator[Show]:
    """Give a function that shows what is being done, on a terminal alone."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    columns = ("[bold]{task.fields[doing]}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, doing=title)

        def show(doing: str, done: int, total: int) -> None:
            bar.update(task, doing=doing, completed=done, total=total or None)

        yield show
