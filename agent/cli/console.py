"""Printing: data to stdout, words to stderr, for people or for programs.

Theory of operation. `table` is for people: rich draws it, with colours and as wide as
the screen on a terminal, plain and never wrapped where the output is a file or a pipe.
`json` is one document; `jsonl` one line per item. Nothing else ever goes to stdout, so
a program can read it whole. NO_COLOR is honoured by rich itself.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Plain = Mapping[str, Any]
"""A JSON object as it came."""

PIPE_WIDTH = 500
"""Columns of a table that no screen limits: a line in a file is one line."""

STYLES = {
    "ok": "green",
    "info": "cyan",
    "unknown": "magenta",
    "warning": "yellow",
    "critical": "bold red",
}
"""Colour of each severity."""


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class Out:
    """Where one command prints."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def data(
        self,
        value: object,
        draw: Callable[[], "RenderableType"],
        items: Iterable[object] | None = None,
    ) -> None:
        """Print data in the wanted form.

        `draw` makes the table; `items` are the lines of `jsonl`, by default the one
        value.
        """
        if self.output is Output.TABLE:
            self.draw(draw())
        elif self.output is Output.JSON:
            self.line(json.dumps(value, indent=2, ensure_ascii=False))
        else:
            for item in [value] if items is None else items:
                self.line(json.dumps(item, ensure_ascii=False))

    def draw(self, renderable: "RenderableType") -> None:
        """Print something made for people."""
        if on_terminal():
            console().print(renderable)
            return
        screen = console()
        with screen.capture() as drawn:
            screen.print(renderable)
        for line in drawn.get().splitlines():
            self.line(line.rstrip())

    def line(self, text: str) -> None:
        """Print one line of data at once."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def say(text: str) -> None:
    """Print words for the person, beside the data."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def on_terminal() -> bool:
    """Whether a person looks at the data as it comes."""
    return sys.stdout.isatty()


def console() -> "Console":
    """Return rich's console for stdout."""
    from rich.console import Console

    width = None if on_terminal() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def grid(
    headers: Sequence[str], rows: Iterable[Sequence[object]], styles: Sequence[str] = ()
) -> "RenderableType":
    """Return a table without lines; None prints as `-`.

    `styles` gives each column's style, where it has one.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for number, header in enumerate(headers):
        style = styles[number] if number < len(styles) else ""
        table.add_column(header, style=style, overflow="fold")
    for row in rows:
        table.add_row(*(text_of(cell) for cell in row))
    return table


def text_of(cell: object) -> Any:  # noqa: ANN401 - rich takes texts and renderables
    """Return what a cell shows."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, list | tuple):
        return ", ".join(str(item) for item in cell) or "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return str(cell) if isinstance(cell, int | float) else cell


def words(value: str, style: str = "") -> "RenderableType":
    """Return text that rich prints as it stands, in a style."""
    from rich.text import Text

    return Text(value, style=style)


def stacked(*parts: "RenderableType") -> "RenderableType":
    """Return parts below each other."""
    from rich.console import Group

    return Group(*parts)


def severity(value: str) -> "RenderableType":
    """Return a severity in its colour."""
    return words(value, STYLES.get(value, ""))


def bytes_text(count: int | None) -> str:
    """Return a number of bytes as people read it, such as `1.2 MiB`."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - the step from one unit to the next
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration_text(seconds: float | None) -> str:
    """Return a duration as people read it, such as `3 min`."""
    if seconds is None:
        return "-"
    for limit, divisor, unit in (
        (120, 1, "s"),
        (7200, 60, "min"),
        (172_800, 3600, "h"),
    ):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def safe(text: object) -> str:
    """Return text from elsewhere without what could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))
