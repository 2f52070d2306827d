"""`splitguard run`: the agent itself, in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.call import Call


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run")(run)


def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Configuration file. Default: $SPLITGUARD_CONFIG, else"
            " /etc/splitguard/agent.toml.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run the agent in the foreground. It logs to stderr and ends on SIGTERM.

    On SIGHUP it reads configuration and tokens again. What is wrong changes nothing,
    and what needs a restart is named in the log.
    """
    call = Call(config=config)
    settings = call.settings()
    from agent.daemon import lifecycle

    return lifecycle.run(settings, call.settings)
