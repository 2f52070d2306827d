"""`splitguard snapshots download`: a snapshot's archive from the agent that has it.

The command alone stands here, so that help needs no HTTP client; `fetching` does it.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import bytes_text, say, words
from agent.cli.which import Id, check_id
from agent.errors import SnapshotError


def add_to(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("download")(asks_agent(download))


def download(
    call: Call,
    snapshot: Id,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Where to. Default: ID.tar here.",
            readable=False,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Fetch a snapshot's archive from its agent, and check it.

    Without --url the agent here says where it lies. Another node's agent wants a token
    with scope data. A download that broke off goes on where it was.
    """
    from agent.cli import writing
    from agent.cli.fetching import Fetch, agent_with

    check_id(snapshot)
    agent = agent_with(call, snapshot)
    target = writing.named(file or Path(), f"{snapshot}.tar")
    if os.path.lexists(target):
        raise SnapshotError(f"{target} is there already", "name another --file")
    fetched = Fetch(agent, snapshot, target).run()
    say(f"splitguard: {bytes_text(fetched['bytes'])} fetched, SHA-256 compared")
    call.out.data(fetched, lambda: words(str(target)))
    return 0
