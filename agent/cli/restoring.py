"""`splitguard snapshots restore`: a snapshot as a data folder that can be started.

Theory of operation. It needs no agent, and never writes into a folder that holds
anything. What is printed on stdout is the new folder and the command that starts a
server on it; nothing is started here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import safe, say, stacked, words
from agent.cli.which import (
    BinDir,
    Dir,
    IdentityFile,
    Which,
    identities_of,
    place_of,
    programs_of,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.snapshot.restore import Restored


def add_to(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("restore")(reads_config(restore_snapshot))


def restore_snapshot(  # noqa: PLR0913 - one parameter for each option
    call: Call,
    snapshot: Which,
    *,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", help="The data folder to write; not there, or empty."
        ),
    ],
    folder: Dir = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            help="As root: the user that the server is to run as. Default: the"
            " snapshot's owner, else postgres.",
            show_default=False,
        ),
    ] = None,
    identity: IdentityFile = None,
    bin_dir: BinDir = None,
) -> int:
    """Write a startable data folder from a snapshot or an archive.

    Its configuration reaches nobody: a unix socket only, no archiving, no replication,
    read-only by default. The server's own configuration is put beside it.
    """
    from agent.cli import shelf
    from agent.snapshot.restore import restore

    place = place_of(call, snapshot, folder)
    programs = programs_of(call, bin_dir)
    identities = identities_of(identity)
    with shelf.ends_on_sigterm(), shelf.progress_bar("copying, reading back") as show:
        done = restore(
            place,
            to,
            owner=owner,
            programs=programs,
            progress=show,
            identities=identities,
        )
    shown = {
        "id": done.manifest.id,
        "folder": str(done.folder),
        "tablespaces": str(done.tablespaces) if done.tablespaces else None,
        "config": str(done.config) if done.config else None,
        "owner": done.owner.name,
        "start": done.start,
        "end_lsn": str(done.manifest.end_lsn or done.manifest.tail_lsn),
        "notes": list(done.notes),
    }
    call.out.data(shown, lambda: _drawn(done))
    return 0


def _drawn(done: "Restored") -> "RenderableType":
    say(f"splitguard: {done.manifest.id} is restored to {done.folder}; to start it:")
    for note in done.notes:
        say(f"splitguard: note: {safe(note)}")
    say(
        "splitguard: it listens on that socket only and is read-only by default"
        " (default_transaction_read_only)"
    )
    if done.config is not None:
        say(f"splitguard: the server's own configuration is in {done.config}")
    if done.tablespaces is not None:
        say(f"splitguard: its tablespaces are in {done.tablespaces}")
    return stacked(words(done.start))
