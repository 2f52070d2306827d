"""Which snapshot is meant: the options and arguments that several commands share.

Theory of operation. A snapshot is given by its id, and then found in the capture
folder, or by the path of its folder or of an archive; whatever has a slash in it, or
is a file, is a path.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call
from agent.cli.console import safe, say
from agent.errors import (
    AgentUnreachableError,
    CatalogueError,
    ConfigError,
    SnapshotError,
    SplitguardError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.postgres.programs import Programs
    from agent.snapshot.catalogue import Catalogue
    from agent.snapshot.sealing import Identity

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The capture folder, to be read without agent and configuration.",
        readable=False,  # whether it can be read is ours to say
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


def check_id(snapshot: str) -> str:
    """Return what may be a snapshot's id. Raises SnapshotError."""
    from agent.snapshot.catalogue import check_id as checked

    return checked(snapshot)


def place_of(call: Call, snapshot: str, folder: Path | None) -> Path:
    """Return where a snapshot lies, given by id, folder or archive.

    Raises SnapshotError, which says where it lies when another agent has it.
    """
    if "/" in snapshot or _is_file(Path(snapshot)):
        return _named(call, Path(snapshot), folder)
    try:
        return catalogue_of(call, folder).folder(snapshot)
    except ConfigError as error:
        hint = "or give --dir FOLDER, or the snapshot's own folder"
        raise ConfigError(error.problems, f"{error.hint}; {hint}") from error
    except CatalogueError:
        raise
    except SnapshotError:
        check_id(snapshot)
        if folder is None:
            refuse_elsewhere(call, snapshot)
        raise


def refuse_elsewhere(call: Call, snapshot: str) -> None:
    """Raise SnapshotError when the agent knows that it lies beside another one."""
    try:
        found = call.agent.get("/v1/snapshots")["elsewhere"]
    except SplitguardError:
        return  # the agent is not needed for what is here
    for one in found:
        if one["id"] == snapshot:
            raise SnapshotError(
                f"snapshot {snapshot} lies beside {safe(one['reporter'])}",
                f"run this there{_asked_at(one)}, or fetch it:"
                f" `splitguard snapshots download {snapshot}`",
            )


def _asked_at(one: "Mapping[str, Any]") -> str:
    """Return how the agent there is asked from here, where its address is known."""
    url = one["agent_url"]
    return f" (its agent answers at {safe(url)}: --url)" if url else ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # such as a name too long for one: it is looked up as an id


def _named(call: Call, place: Path, folder: Path | None) -> Path:
    """Return a folder with a manifest, or a file. Raises SnapshotError."""
    from agent.snapshot import manifest as manifests

    try:
        if not place.exists():
            raise SnapshotError(f"there is no {place}")
        if not place.is_dir() or (place / manifests.NAME).exists():
            return place
        kept_in = place.resolve().parent
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SnapshotError(
            f"{place} cannot be looked at: {reason}",
            "run this as a user that may read it",
        ) from error
    hint = "name a snapshot's own folder, or its archive"
    if kept_in == _capture_dir(call, folder):
        hint = "it was never finished; order the capture again or remove the folder"
    raise SnapshotError(f"{place} is no snapshot: it has no {manifests.NAME}", hint)


def _capture_dir(call: Call, folder: Path | None) -> Path | None:
    try:
        return (folder or call.settings(files=False).capture_dir).resolve()
    except (ConfigError, OSError, RuntimeError):
        return None


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
