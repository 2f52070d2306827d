"""`splitguard snapshots archive`: a snapshot as one file that needs nothing of ours.

Theory of operation. A tar, compressed and encrypted as the settings or the options say;
the file's name shows it: ID.tar, ID.tar.zst, ID.tar.zst.age. Passwords and keys in
configuration are cut out of it; where there are recipients they go along in a member
that only those can read.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import say
from agent.cli.which import Dir, Id, check_id, place_of
from agent.errors import ConfigError, SnapshotError

if TYPE_CHECKING:
    from agent.cli.writing import Pour
    from agent.snapshot.sealing import Seal


def add_to(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("archive")(asks_agent(archive))


def archive(  # noqa: PLR0913 - one parameter for each option
    call: Call,
    snapshot: Id,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Where to; in a folder it is called ID.tar, .tar.zst or .tar.zst.age."
            " A file that is there is not overwritten. Default: stdout, if a pipe.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option(
            "--compress/--no-compress",
            help="With zstd. Default: capture.compress.",
            show_default=False,
        ),
    ] = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient",
            "-r",
            help="Encrypt for this public key (age1…, ssh-…), as age -r; may be given"
            " more than once. Default: capture.recipients.",
            show_default=False,
        ),
    ] = None,
    encrypt: Annotated[
        bool,
        typer.Option(
            "--encrypt/--no-encrypt", help="Whether recipients are used for the whole."
        ),
    ] = True,
    folder: Dir = None,
) -> int:
    """Write a snapshot as one tar archive.

    It needs nothing of ours to be opened.
    Passwords and keys of the configuration are cut out; where there are recipients,
    what was cut out is in it as secrets.tar.age. With --url it is fetched from the
    agent there, as that gives it; that needs a token with scope data.
    """
    from agent.cli import shelf, writing

    if file is None and sys.stdout.isatty():
        raise SnapshotError("an archive is not for a terminal", "give --file FILE")
    if call.url is not None:
        how, source = _elsewhere(call, snapshot, sealed=bool(compress or recipient))
    else:
        how = _seal(call, compress, recipient)
        place = place_of(call, snapshot, folder)
        source = shelf.local_archive(place, how, encrypt=encrypt)
    if file is not None:
        suffix = shelf.whole(how, encrypt=encrypt).suffix
        file = writing.named(file, f"{Path(snapshot).name}{suffix}")
    size = writing.write_archive(source, file)
    say(f"splitguard: {size} bytes written to {file or 'stdout'}")
    return 0


def _elsewhere(call: Call, snapshot: str, *, sealed: bool) -> "tuple[Seal, Pour]":
    """Return how the archive of an agent elsewhere comes, and what fetches it."""
    from agent.cli import shelf
    from agent.snapshot.sealing import Seal

    check_id(snapshot)
    if sealed:
        raise SnapshotError(
            "an agent elsewhere gives plain archives",
            "leave --compress and --recipient out, and use zstd and age here",
        )
    return Seal(), shelf.remote_archive(call.agent, snapshot)


def _seal(call: Call, compress: bool | None, recipients: list[str] | None) -> "Seal":
    """Return what the options say, and the settings where they say nothing.

    Raises SnapshotError on what is no recipient.
    """
    from agent.snapshot.sealing import Seal, check_recipients

    if compress is None or recipients is None:
        try:
            capture = call.settings(files=False).capture
        except ConfigError:
            capture = None  # a copy can be archived without any configuration
        if capture is not None:
            compress = capture.compress if compress is None else compress
            recipients = list(capture.recipients) if recipients is None else recipients
    check_recipients(recipients or ())
    return Seal(bool(compress), tuple(recipients or ()))
