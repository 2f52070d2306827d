"""Command lines that were copied from the guide, with a long dash for two short ones.

Theory of operation. The managers' guide prints options with an em dash
(`—include-metrics`), which no shell and no parser takes for an option. What begins with
such a dash is refused before anything else is looked at, with the line as it is meant.
After `--` everything stands for itself.
"""

import re
import shlex
from typing import Any

import typer
from typer.core import TyperGroup

_LONG = re.compile(r"[-\u00ad]*[\u2010-\u2015\u2212\ufe58\ufe63\uff0d][^\w]*(?=\w)")


class PlainDashes(TyperGroup):
    """A group whose options begin with plain hyphens, and says so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - its type is private to typer
        """Refuse typographic dashes, then parse as ever."""
        wrong = [arg for arg in _options(args) if _LONG.match(arg)]
        if wrong:
            line = f"{ctx.command_path} {shlex.join(map(plain, args))}"
            raise typer.BadParameter(
                "a typographic dash stands where guides and text processors print one"
                f" for two hyphens. The line that is meant:\n  {line}",
                ctx=ctx,
                param_hint=", ".join(wrong),
            )
        return super().parse_args(ctx, args)


def plain(arg: str) -> str:
    """Return an option with the hyphens that are meant."""
    found = _LONG.match(arg)
    if found is None:
        return arg
    name = arg[found.end() :]
    return ("-" if len(name.partition("=")[0]) == 1 else "--") + name


def _options(args: list[str]) -> list[str]:
    return args[: args.index("--")] if "--" in args else args
