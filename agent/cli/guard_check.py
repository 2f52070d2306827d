"""`splitguard guard check` and `uninstall`: is the gate in front, and away with it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, reads_config
from agent.cli.console import grid, safe, stacked, words
from agent.cli.guard_install import TO
from agent.errors import AgentUnreachableError, GuardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.guard.shim import Shim
    from agent.guard.visible import Kind
    from agent.guard.wiring import Wiring

_PATRONI = Annotated[
    list[Path] | None,
    typer.Option(
        "--patroni",
        help="Patroni's configuration file; may be given several times. Default:"
        " those found on this machine.",
        show_default=False,
    ),
]
_REPMGR = Annotated[
    list[Path] | None,
    typer.Option(
        "--repmgr",
        help="repmgr.conf, or a script that rejoins nodes; may be given several times."
        " Default: those found on this machine.",
        show_default=False,
    ),
]
SHARED_BYTES_MAX = 4 << 20


def add_to(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("check")(check)
    app.command("uninstall")(uninstall)


@asks_agent
def check(
    call: Call,
    to: TO = None,
    patroni: _PATRONI = None,
    repmgr: _REPMGR = None,
    shared: Annotated[
        str | None,
        typer.Option(
            "--shared",
            help="File with what `patronictl show-config` prints; - for stdin.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Say whether resyncs on this machine go through the gate.

    The agent that is asked is the shim's own, unless another one is named.

    Exit 0: the shim is whole, the agent answers, and each configuration leads a rewind
    to it and deletes nothing before. Exit 1: not so; what is missing is said.
    """
    from agent.guard import shim, visible, wiring

    place = (to or shim.DEFAULT_PLACE).absolute()
    notes: list[str] = []
    troubles = _troubles(call, place, notes)
    files = _files(patroni, repmgr) or visible.configurations()
    around = wiring.Around(_shared(shared), visible.patroni_version())
    told = visible.judged(files, place, around)
    if not told:
        troubles.append("no configuration of Patroni or repmgr was found: name it")
    row = {
        "shim": str(place),
        "troubles": troubles,
        "notes": notes,
        "configurations": [
            {
                "file": each.file,
                "node": each.node,
                "state": each.state.value,
                "destructive": list(each.destructive),
                "sentences": list(each.sentences),
            }
            for each in told
        ],
    }
    call.out.data(row, lambda: _drawn(place, [*troubles, *notes], told))
    return 0 if not troubles and all(each.safe for each in told) else 1


@reads_config
def uninstall(
    call: Call, to: TO = None, patroni: _PATRONI = None, repmgr: _REPMGR = None
) -> int:
    """Remove the shim, unless something still needs it.

    It is refused while a configuration names the shim, or a resync waits in it. What it
    copied aside, and old data that was moved aside, stays.
    """
    from agent.guard import shim, visible

    place = (to or shim.DEFAULT_PLACE).absolute()
    files = (*_files(patroni, repmgr), *visible.configurations())
    naming = visible.still_naming(files, place)
    if naming:
        raise GuardError(
            f"{', '.join(map(str, naming))} still names the shim, or cannot be read",
            "without it a rewind fails, and Patroni may delete the data: change the"
            " configuration and reload first",
        )
    busy = visible.waiting(place)
    if busy:
        raise GuardError(
            f"{place} runs: process {', '.join(map(str, busy))}",
            "wait for it, or end it with SIGTERM",
        )
    shim.remove(place)
    if shim.read(place.with_name(shim.REPLICA)) is not None:
        shim.remove(place.with_name(shim.REPLICA))
    call.out.data({"removed": str(place)}, lambda: words(f"{place} is removed"))
    return 0


def _files(
    patroni: list[Path] | None, repmgr: list[Path] | None
) -> "tuple[tuple[Kind, Path], ...]":
    from agent.guard.visible import Kind

    return (
        *((Kind.PATRONI, path) for path in patroni or ()),
        *((Kind.REPMGR, path) for path in repmgr or ()),
    )


def _shared(source: str | None) -> "Mapping[str, Any] | None":
    from agent.guard import wiring

    if source is None:
        return None
    if source == "-":
        return wiring.read_yaml(sys.stdin.read(SHARED_BYTES_MAX), "stdin")
    return wiring.read_yaml(wiring.read_text(Path(source)), source)


def _troubles(call: Call, place: Path, notes: list[str]) -> list[str]:
    """Return what is wrong with the scripts themselves, and with whom they ask.

    What is merely worth knowing is put into `notes`.
    """
    from agent.guard import shim

    told = []
    agent = call.agent
    for script in (shim.REPLICA, shim.PROGRAM):
        at = place if script == shim.PROGRAM else place.with_name(script)
        found = shim.read(at)
        if found is None:
            told.append(f"there is no shim at {at}: `splitguard guard install`")
            continue
        told += _shim_troubles(at, found, script)
        if call.socket is None and call.url is None:
            agent = replace(call, socket=found.socket).agent
        if script == shim.PROGRAM:
            told += _owner_troubles(call, found)
    try:
        notes += _rows_notes(agent.get("/v1/guard/permits"))
    except AgentUnreachableError as error:
        told.append(f"a resync would wait: {error.message}; {error.hint}")
    return told


def _rows_notes(found: dict[str, Any]) -> list[str]:
    """Return why no permit could rest on rows here."""
    why = found.get("no_rows")
    if not why:
        return []
    if found.get("minimum") == "rows":
        return [f"guard.minimum is rows, and they could not be read out: {why}"]
    return [f"where no full copy fits, a resync would wait for a person: {why}"]


def _owner_troubles(call: Call, found: "Shim") -> tuple[str, ...]:
    """Return what the user who will run the shim cannot do with it."""
    from agent.cli.guard_install import running_data_dir
    from agent.errors import ConfigError
    from agent.guard import reach

    try:
        settings = call.settings(files=False)
    except ConfigError:
        return ()  # the agent that is asked need not be configured by a file here
    data_dir = settings.local.data_dir or running_data_dir(settings)
    return () if data_dir is None else reach.troubles(found, data_dir)


def _shim_troubles(place: Path, found: "Shim", script: str) -> list[str]:
    from agent.guard import shim

    told = []
    if not shim.current(place, found, script):
        told.append(f"{place} is of another version: `splitguard guard install`")
    return [*told, *shim.unusable(place, found)]


def _drawn(place: Path, troubles: list[str], told: "tuple[Wiring, ...]") -> Any:  # noqa: ANN401 - rich's
    rows = [
        [each.node, each.state.value, ", ".join(each.destructive), safe(each.file)]
        for each in told
    ]
    lines = [f"shim: {place}", *(f"  {safe(trouble)}" for trouble in troubles)]
    notes = [
        f"{safe(each.node)} ({safe(each.file)}): {safe(sentence)}"
        for each in told
        for sentence in each.sentences
    ]
    return stacked(
        words("\n".join(lines)),
        *([grid(("NODE", "REWIND", "DESTRUCTIVE", "FILE"), rows)] if rows else []),
        *([words("\n".join(notes))] if notes else []),
    )
