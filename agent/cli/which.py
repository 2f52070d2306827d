"""Which snapshot is meant: the options and arguments that several commands share.

Theory of operation. A snapshot is given by its id, and then found in the capture
folder, or by the path of its folder or of an archive; whatever has a slash in it, or
is a file, is a path.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.call import Call
from agent.cli.console import say
from agent.errors import AgentUnreachableError, ConfigError, SnapshotError

if TYPE_CHECKING:
    from agent.postgres.programs import Programs
    from agent.snapshot.catalogue import Catalogue
    from agent.snapshot.sealing import Identity

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The capture folder, to be read without agent and configuration.",
        show_default=False,
    ),
]
BinDir = Annotated[
    Path | None,
    typer.Option(
        "--bin-dir",
        help="Where PostgreSQL's programs are. Default: local.bin_dir, else found.",
        show_default=False,
    ),
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        "-i",
        help="File with the private key for an encrypted archive, as for age -d.",
        show_default=False,
    ),
]
Id = Annotated[str, typer.Argument(help="Its id.")]
Which = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="Its id, its folder or its archive.")
]


def catalogue_of(call: Call, folder: Path | None) -> "Catalogue":
    """Return the catalogue of the named, or the configured, capture folder."""
    from agent.snapshot.catalogue import Catalogue

    return Catalogue(folder or call.settings(files=False).capture_dir)


def place_of(call: Call, snapshot: str, folder: Path | None) -> Path:
    """Return where a snapshot lies, given by id, folder or archive."""
    if "/" in snapshot or Path(snapshot).is_file():
        place = Path(snapshot)
        if not place.exists():
            raise SnapshotError(f"there is no {place}")
        return place
    try:
        return catalogue_of(call, folder).folder(snapshot)
    except ConfigError as error:
        hint = "or give --dir FOLDER, or the snapshot's own folder"
        raise ConfigError(error.problems, f"{error.hint}; {hint}") from error


def programs_of(call: Call, bin_dir: Path | None) -> "Programs | None":
    """Return the programs that were named; None finds them by the version."""
    from agent.postgres.programs import find_programs

    if bin_dir is None:
        try:
            bin_dir = call.settings(files=False).local.bin_dir
        except ConfigError:
            return None  # a copy can be looked at without any configuration
    return None if bin_dir is None else find_programs(bin_dir, None)


def identities_of(file: Path | None) -> "tuple[Identity, ...]":
    """Return the private keys in a file; none where none is named."""
    from agent.snapshot.sealing import read_identities

    return () if file is None else read_identities(file)


def not_asked(call: Call, error: AgentUnreachableError) -> None:
    """Say that the folder is read instead; raise where another agent was meant."""
    if call.url is not None:
        raise error
    say(f"splitguard: {error.message}; reading the capture folder itself")
