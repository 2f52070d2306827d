"""`splitguard guard install`: the stand-in for pg_rewind."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import safe, say, words
from agent.errors import GuardError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.guard.shim import Shim

COMMAND = "splitguard"
RESCUE = ".rescue"
"""The shim's folder among the snapshots. No snapshot's id begins with a dot."""

TO = Annotated[
    Path | None,
    typer.Option(
        "--to",
        help="Where the shim stands. Default: /usr/local/lib/splitguard/pg_rewind.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command("install")(install)


@reads_config
def install(
    call: Call,
    to: TO = None,
    bin_dir: Annotated[
        Path | None,
        typer.Option(
            "--bin-dir",
            help="Folder with the real pg_rewind. Default: as configured, or found.",
            show_default=False,
        ),
    ] = None,
    rescue: Annotated[
        Path | None,
        typer.Option(
            "--rescue",
            help="Where the shim copies WAL to while no agent answers. Default:"
            " .rescue in the folder of the snapshots.",
            show_default=False,
        ),
    ] = None,
    links: Annotated[
        Path | None,
        typer.Option(
            "--links",
            help="Make this folder of links to PostgreSQL's programs, with the shim as"
            " pg_rewind, for a Patroni before 3.0.3.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Write a pg_rewind that waits for a permit.

    With it a node is not rewound before what it wrote is kept. Beside it stands
    `replica`, by which Patroni makes a new replica and keeps the old data. Nothing of
    the HA software is changed here: what to change is printed.
    """
    from agent.guard import advice, shim

    place = (to or shim.DEFAULT_PLACE).absolute()
    if place.is_dir():
        place /= shim.PROGRAM
    _outside(place)
    made, cloning = _made(call.settings(files=False), bin_dir, rescue)
    shim.write(place, made)
    shim.write(place.with_name(shim.REPLICA), cloning, shim.REPLICA)
    if links is not None:
        links = links.absolute()
        advice.make_links(links, place, made)
    row = {
        "pg_rewind": str(place),
        "replica": str(place.with_name(shim.REPLICA)),
        "real": str(made.real),
        "splitguard": str(made.splitguard),
        "socket": str(made.socket),
        "rescue": str(made.rescue),
        "links": None if links is None else str(links),
    }
    call.out.data(row, lambda: words(advice.how_to(place, links)))
    say(f"splitguard: {safe(place)} now stands in front of {safe(made.real)},")
    say(f"  and {safe(place.with_name(shim.REPLICA))} of {safe(cloning.real)}")
    return 0


def _outside(place: Path) -> None:
    """Refuse a place that goes away together with Splitguard itself."""
    own = Path(sys.prefix).resolve()
    if sys.prefix != sys.base_prefix and place.resolve().is_relative_to(own):
        raise GuardError(
            f"{place} lies in {own}, which is removed together with Splitguard",
            "choose a place outside with --to",
        )


def _made(
    settings: "Settings", bin_dir: Path | None, rescue: Path | None
) -> "tuple[Shim, Shim]":
    """Return what both scripts are written with. Raises GuardError or PostgresError."""
    from agent.guard.shim import PROGRAM, Shim
    from agent.postgres.programs import find_programs

    folder = bin_dir.absolute() if bin_dir is not None else settings.local.bin_dir
    data_dir = settings.local.data_dir
    if folder is None and data_dir is None:
        data_dir = running_data_dir(settings)
    programs = find_programs(folder, data_dir)
    made = Shim(
        real=programs.path(PROGRAM),
        splitguard=_command(),
        socket=settings.socket,
        rescue=(rescue or settings.capture_dir / RESCUE).absolute(),
        controldata=programs.path("pg_controldata"),
    )
    return made, replace(made, real=programs.path("pg_basebackup"))


def running_data_dir(settings: "Settings") -> Path | None:
    """Return the running server's data directory; None when none is found."""
    from agent.errors import PostgresError
    from agent.postgres.discovery import find_data_dir, port_of

    dsn = settings.node_settings(settings.me).postgres
    try:
        return find_data_dir(port_of(dsn) if dsn else None)
    except PostgresError:
        return None


def _command() -> Path:
    """Return the command that asks for permits: the one of this very installation."""
    beside = Path(sys.executable).with_name(COMMAND)
    if beside.exists():
        return beside
    found = shutil.which(COMMAND)
    if found is None:
        raise GuardError(
            "the command splitguard is not to be found",
            f"it belongs beside {sys.executable}, or into PATH",
        )
    return Path(found).absolute()
