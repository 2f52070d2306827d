"""The door: every command's end becomes an exit code, no error a traceback.

Theory of operation. Exit 0: done. 1: failed, with one message and what to do. 2: the
command line was wrong. 130: interrupted. `check` speaks Nagios: whatever goes wrong
with itself is 3 (unknown), never a false CRITICAL. A closed pipe ends quietly.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from agent import __version__
from agent.cli import (
    check,
    config,
    explain,
    grants,
    guard,
    incidents,
    journal,
    loss,
    maintenance,
    recover,
    replay,
    resync,
    run,
    snapshots,
    status,
    token,
    vnfm,
    winner,
)
from agent.cli.console import say
from agent.cli.lab_door import add_lab
from agent.errors import SplitguardError

FAILED = 1
USAGE = 2
NAGIOS_UNKNOWN = 3
INTERRUPTED = 130

HELP = """Sees a PostgreSQL cluster split and keeps what a resync would destroy.

Most commands ask the agent on this machine through its unix socket; --url asks another
one. Data goes to stdout (--output table, json or jsonl), words to stderr."""


def make_app(argv: list[str]) -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="splitguard",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for group in (run, status, explain, check):
        group.add_to(app)
    app.add_typer(incidents.app, name="incidents")
    app.add_typer(snapshots.app, name="snapshots")
    app.add_typer(loss.app, name="loss")
    app.add_typer(guard.app, name="guard")
    app.add_typer(maintenance.app, name="maintenance")
    app.add_typer(winner.app, name="winner")
    app.add_typer(vnfm.app, name="vnfm")
    app.add_typer(journal.app, name="journal")
    replay.add_to(app)
    resync.add_to(app)
    recover.add_to(app)
    grants.add_to(app)
    app.add_typer(config.app, name="config")
    app.add_typer(token.app, name="token")
    add_lab(app, argv)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"splitguard {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, by default this process's; return the exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    try:
        code, trouble = _run(argv)
        if trouble and _command(argv) == "check":
            line = "; ".join(part.strip() for part in trouble.splitlines())
            line = line.replace("splitguard: ", "").replace("|", "/")
            sys.stdout.write(f"SPLITGUARD UNKNOWN - {line}\n")
            code = NAGIOS_UNKNOWN
        elif trouble:
            say(trouble)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(argv: list[str]) -> tuple[int, str]:
    """Run a command; return its exit code, and what to say if it failed."""
    command = typer.main.get_command(make_app(argv))
    try:
        code = command.main(argv, prog_name="splitguard", standalone_mode=False)
    except typer.TyperException as error:
        return USAGE, usage_text(error)
    except typer.Abort:
        return INTERRUPTED, "interrupted"
    except SplitguardError as error:
        return FAILED, error_text(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - no traceback ever reaches a person
        return FAILED, bug_text(error)
    return (code if isinstance(code, int) else 0), ""


def error_text(error: SplitguardError) -> str:
    """Return an error as people read it: what, and what to do."""
    lines = [f"splitguard: {line}" for line in error.message.splitlines()]
    return "\n".join([*lines, *([f"  {error.hint}"] if error.hint else [])])


def usage_text(error: typer.TyperException) -> str:
    """Return what was wrong with the command line, and how it is meant."""
    context = getattr(error, "ctx", None)
    if context is None:
        return f"splitguard: {error.format_message()}"
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.format_message()
    hint = f"`{context.command_path} --help` lists commands and options"
    return f"{context.get_usage()}\nsplitguard: {error.format_message()}\n  {hint}"


def bug_text(error: Exception) -> str:
    """Return an unforeseen error in one line with its place, without values."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return (
        f"splitguard: this is a bug: {type(error).__name__} at {place}: {error}\n"
        "  please report it, with the command that you gave"
    )


def _command(argv: list[str]) -> str:
    """Return the command's name: the first word that is no option."""
    return next((word for word in argv if not word.startswith("-")), "")
