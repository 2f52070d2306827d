"""Hangs `splitguard lab` into the command line, at no cost for other commands.

Theory of operation. The lab brings real servers and more libraries with it. Its
commands are imported when `lab` or the list of commands is asked for; where a library
is not installed, `lab` stays a command and says what to install.
"""

import importlib

import typer

from agent.errors import LabError

HELP = "Three real PostgreSQL servers here, and faults on demand."


def add_lab(app: typer.Typer, argv: list[str]) -> None:
    """Add the lab's commands to `app` when this command line can want them."""
    words = [word for word in argv if not word.startswith("-")]
    if words and words[0] != "lab":
        return
    try:
        lab = importlib.import_module("agent.cli.lab")
    except ImportError as error:
        _add_excuse(app, error.name or str(error))
    else:
        app.add_typer(lab.app, name="lab", help=HELP)


def _add_excuse(app: typer.Typer, missing: str) -> None:
    @app.command(
        "lab",
        help=HELP,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def lab() -> None:
        raise LabError(
            f"the lab needs {missing}, which is not installed",
            "pip install 'splitguard[lab]', or `make setup` in a clone",
        )
