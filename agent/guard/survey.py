"""A look at the HA software of one server: is it held back, and what may it delete.

Theory of operation. The agent beside the server takes this look every few minutes, so
that a configuration that would wipe a loser is known before there is one. It reads the
files that the settings name, that packages put where they belong, and that a running
Patroni was started with, and keeps to those that are of this server's data directory:
whatever else lies on the machine is no business of this node. What counts as the shim
is what the file leads to, wherever it was installed.

What the cluster's shared configuration adds is asked of Patroni itself, on this machine
only. Where it does not tell, what the cluster once began with is no substitute for it:
settings of it may be on or off by now, so they are told as not known.

These files hold passwords. Nothing of them is told but paths, the node's name, names of
settings and of a replica method; no failure is raised, each becomes a text.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.gate import Gate, HaSoftware, Wired
from agent.errors import GuardError
from agent.guard import restapi, shim, visible, wiring
from agent.guard.visible import Kind
from agent.guard.wiring import Around, Wiring

FILES_MAX = 16
NAMES = {Kind.PATRONI: "Patroni", Kind.REPMGR: "repmgr"}
SHOW = "`patronictl show-config` tells, and `splitguard guard check --shared`"


@dataclass(frozen=True, slots=True)
class Mine:
    """What the look is for."""

    data_dir: Path
    socket: Path
    """The agent's own."""
    patroni: Path | None = None
    """Patroni's configuration file, where the settings name it."""
    repmgr: Path | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """One file: software of this server, somebody else's, or not known."""

    software: HaSoftware | None = None
    elsewhere: str = ""
    unknown: str = ""


def survey(mine: Mine, root: Path = Path("/")) -> Gate:
    """Look once. Blocking, for a second or so; raises nothing of what files can do."""
    found = [_one(kind, path, mine) for kind, path in _files(mine, root)]
    unknown = [one.unknown for one in found if one.unknown]
    lost = visible.unnamed_patronis(root)
    if lost and mine.patroni is None:
        unknown.append(
            f"Patroni runs (process {lost[0]}) and names no configuration file: set"
            " guard.patroni"
        )
    elsewhere = [one.elsewhere for one in found if one.elsewhere]
    return Gate(
        software=tuple(one.software for one in found if one.software is not None),
        unknown="; ".join(unknown),
        elsewhere=elsewhere[0] if elsewhere else "",
    )


def _files(mine: Mine, root: Path) -> Iterator[tuple[Kind, Path]]:
    """Yield each file; a kind that the settings name is looked for nowhere else."""
    named = {Kind.PATRONI: mine.patroni, Kind.REPMGR: mine.repmgr}
    yield from ((kind, path) for kind, path in named.items() if path is not None)
    others = [
        (kind, path)
        for kind, path in visible.configurations(root)
        if named[kind] is None
    ]
    yield from others[:FILES_MAX]


def _one(kind: Kind, path: Path, mine: Mine) -> _Found:
    try:
        text = wiring.read_text(path)
        if kind is Kind.PATRONI:
            return _patroni(path, wiring.read_yaml(text, str(path)), mine)
        return _repmgr(path, text, mine)
    except GuardError as error:
        return _Found(unknown=error.message)


def _patroni(path: Path, document: Mapping[str, Any], mine: Mine) -> _Found:
    section = document.get("postgresql")
    data_dir = section.get("data_dir") if isinstance(section, dict) else None
    if not isinstance(data_dir, str) or not data_dir:
        if path != mine.patroni:
            return _Found()  # a part of a configuration, or a tool's
        return _Found(unknown=f"{path} names no postgresql.data_dir")
    if not _is_ours(data_dir, path, mine):
        return _foreign(path, data_dir)
    shared, why = restapi.shared(document)
    # What the cluster began with must not be taken for what is so now.
    own = {key: value for key, value in document.items() if key != "bootstrap"}
    around = Around(shared, None if why else restapi.version(document))
    place = _place([wiring.rewinder(own, around)])
    told = wiring.patroni(str(path), own, place, around)
    unknown = ""
    if why and told.state is not Wired.WIRED:
        unknown = f"what the cluster's shared configuration adds ({why}; {SHOW})"
    return _Found(_software(Kind.PATRONI, told, place, mine, unknown))


def _repmgr(path: Path, text: str, mine: Mine) -> _Found:
    data_dir = wiring.repmgr_data_dir(text)
    if not data_dir:
        if path != mine.repmgr:
            return _Found()
        return _Found(unknown=f"{path} names no data_directory")
    if not _is_ours(data_dir, path, mine):
        return _foreign(path, data_dir)
    place = _place(list(wiring.repmgr_rewinders(text)))
    told = wiring.repmgr(str(path), text, place)
    return _Found(_software(Kind.REPMGR, told, place, mine, ""))


def _software(
    kind: Kind, told: Wiring, place: Path, mine: Mine, unknown: str
) -> HaSoftware:
    return HaSoftware(
        name=NAMES[kind],
        file=told.file,
        wired=told.state,
        destructive=told.destructive,
        gaps=told.gaps,
        notes=told.notes,
        broken="" if told.state is Wired.NOT_WIRED else _broken(place, mine.socket),
        unknown=unknown,
    )


def _foreign(path: Path, data_dir: str) -> _Found:
    """Return that a file is of another server; a container's is not worth a word."""
    if _in_container(path):
        return _Found()
    return _Found(elsewhere=f"{path} is of {data_dir}")


def _in_container(path: Path) -> bool:
    """Whether a file is seen through the root folder of another process."""
    return path.parts[1:2] == ("proc",) and path.parts[3:4] == ("root",)


def _is_ours(named: str, file: Path, mine: Mine) -> bool:
    """Whether the data directory that a file names is the one beside this agent."""
    theirs = named
    if _in_container(file):
        theirs = str(Path(*file.parts[:4], named.lstrip("/")))
    if os.path.realpath(theirs) == os.path.realpath(mine.data_dir):
        return True
    try:
        return Path(theirs).samefile(mine.data_dir)
    except OSError:
        return False


def _place(programs: list[Path | None]) -> Path:
    """Return which of these programs is a shim; where one belongs if none is."""
    for program in programs:
        if program is not None and _read(program) is not None:
            return program
    return shim.DEFAULT_PLACE


def _read(program: Path) -> shim.Shim | None:
    try:
        return shim.read(program)
    except GuardError:
        return None


def _broken(place: Path, socket: Path) -> str:
    """Return why the shim at `place` would not do its work."""
    found = _read(place)
    if found is None:
        return f"{place} cannot be read as what `splitguard guard install` writes"
    wrong = shim.unusable(place, found)
    if wrong:
        return wrong[0]
    if found.socket != socket and not _same(found.socket, socket):
        return f"{place} asks the agent at {found.socket}, and this one is at {socket}"
    return ""


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
