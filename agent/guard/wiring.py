"""Whether HA software is led through the gate, as its own configuration says.

Theory of operation. Patroni's file is read as Patroni reads it: a program is
`bin_dir` joined with its name in `bin_name`; what the file says of `postgresql` goes
before what the cluster's shared configuration says (`patronictl show-config`), which
is no file on this machine and can be given apart. Without that, the file's
`bootstrap.dcs` tells what the cluster began with. repmgr takes pg_rewind from
`pg_bindir`, unless a path follows `--force-rewind`.

A node is `wired` when both ways to lose data lead through the gate: the rewind, and
the replica made anew. With the first alone it is `bypassable`. Settings that delete a
loser's data are named always; behind the gate they delete only what is kept.
Sources: Patroni's postgresql/__init__.py (pgcommand), postgresql/rewind.py,
postgresql/bootstrap.py (create_replica); repmgr's `node rejoin`.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.gate import Wired
from agent.errors import GuardError
from agent.guard.shim import PROGRAM, REPLICA

FILE_BYTES_MAX = 4 << 20
DELETES = (
    "remove_data_directory_on_rewind_failure",
    "remove_data_directory_on_diverged_timelines",
)
"""Patroni's settings that delete a loser's data folder."""
BIN_NAME_SINCE = (3, 0, 3)
VERSION_UNKNOWN = (
    "bin_name counts from Patroni 3.0.3 on, and which version runs is not known here:"
    " see `patroni --version`"
)
REPMGR_CLONE = (
    "`repmgr standby clone --force` is not held back: stop the server, ask for a permit"
    " (`splitguard guard permit`), then clone"
)
_BINDIR = re.compile(r"^\s*pg_bindir\s*=\s*'?([^'#\n]*?)'?\s*(?:#.*)?$", re.MULTILINE)
_DATA_DIR = re.compile(
    r"^\s*data_directory\s*=\s*'?([^'#\n]*?)'?\s*(?:#.*)?$", re.MULTILINE
)
_NODE = re.compile(r"^\s*node_name\s*=\s*'?([^'\s#]+)", re.MULTILINE)
_REWIND = re.compile(r"--force-rewind(?:=(\"[^\"]*\"|'[^']*'|\S+))?")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What one configuration file says."""

    file: str
    node: str
    state: Wired
    destructive: tuple[str, ...]
    """Settings that are on and delete a loser's data before it is kept."""
    gaps: tuple[str, ...] = ()
    """What is missing at the gate, and what to do about it."""
    notes: tuple[str, ...] = ()
    """What else the settings do."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that there is to say, what is missing first."""
        return (*self.gaps, *self.notes)

    @property
    def safe(self) -> bool:
        """Whether a rewind is held back, and no setting deletes what is not kept."""
        return self.state is not Wired.NOT_WIRED and not self.destructive


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside Patroni's file."""

    shared: Mapping[str, Any] | None = None
    """The cluster's own configuration, as `patronictl show-config` prints it."""
    version: tuple[int, ...] | None = None
    """Patroni's, such as (4, 1, 5)."""


def read_yaml(text: str, name: str) -> Mapping[str, Any]:
    """Return the mapping in `text`. Raises GuardError."""
    import yaml  # noqa: PLC0415 - an agent without HA software needs no parser

    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise GuardError(
            f"{name} is not YAML{line}", "give Patroni's configuration file"
        ) from error
    if not isinstance(found, dict):
        raise GuardError(
            f"{name} holds no mapping", "give Patroni's configuration file"
        )
    return found


def read_text(file: Path) -> str:
    """Return a configuration file's text. Raises GuardError."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise GuardError(
            f"{file} cannot be read: {error.strerror}",
            "run this as root, or as the user that the HA software runs as",
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise GuardError(f"{file} is too large for a configuration file")
    return raw.decode("utf-8", "replace")


def patroni(
    name: str,
    document: Mapping[str, Any],
    place: Path,
    around: Around,
) -> Wiring:
    """Return what Patroni's configuration file says of the shim at `place`."""
    settings = _settings(document, around)
    named = bool(_table(settings, "bin_name").get(PROGRAM))
    rewinds = _same(_program(settings, PROGRAM), place)
    clones = _keeps_data(settings, place.with_name(REPLICA))
    on = tuple(key for key in DELETES if settings.get(key))
    gaps = [
        *([] if rewinds else [_rewind_gap(settings, place, around)]),
        *([] if clones else [_clone_gap(settings, place)]),
    ]
    notes = [_threat(key, rewinds, clones) for key in on]
    if not settings.get("use_pg_rewind"):
        notes.append(
            "use_pg_rewind is not set"
            + (
                ""
                if around.shared is not None
                else " here (or only in the cluster's own)"
            )
            + ": a diverged node is not rewound but made anew"
        )
    if named and rewinds and around.version is None:
        notes.append(VERSION_UNKNOWN)
    state = Wired.NOT_WIRED
    if rewinds:
        state = Wired.WIRED if clones else Wired.BYPASSABLE
    return Wiring(
        file=name,
        node=str(document.get("name") or "?"),
        state=state,
        destructive=tuple(key for key in on if not _behind(key, rewinds, clones)),
        gaps=tuple(gaps),
        notes=tuple(notes),
    )


def rewinder(document: Mapping[str, Any], around: Around) -> Path | None:
    """Return the program by which Patroni rewinds; None when PATH decides."""
    return _program(_settings(document, around), PROGRAM)


def _settings(document: Mapping[str, Any], around: Around) -> dict[str, Any]:
    """Return Patroni's section `postgresql`: the file's before the cluster's own."""
    shared = around.shared
    began = _table(_table(document, "bootstrap"), "dcs")
    common = _table(began if shared is None else shared, "postgresql")
    settings = {**common, **_table(document, "postgresql")}
    old = around.version is not None and around.version < BIN_NAME_SINCE
    if old and _table(settings, "bin_name").get(PROGRAM):
        settings["bin_name"] = {}
    return settings


def repmgr(name: str, text: str, place: Path) -> Wiring:
    """Return what repmgr.conf, or a script that rejoins nodes, says."""
    programs = repmgr_rewinders(text)
    wired = bool(programs) and all(_same(path, place) for path in programs)
    gap = (
        f"no pg_rewind here is the shim: rejoin with --force-rewind={place}, or set"
        " pg_bindir to a folder of links (`guard install --links DIR`)"
    )
    node = _NODE.search(text)
    return Wiring(
        file=name,
        node=node[1] if node is not None else "?",
        state=Wired.BYPASSABLE if wired else Wired.NOT_WIRED,
        destructive=(),
        gaps=() if wired else (gap,),
        notes=(REPMGR_CLONE,),
    )


def repmgr_data_dir(text: str) -> str:
    """Return the data directory that a repmgr.conf names; empty when it names none."""
    found = _DATA_DIR.search(text)
    return found[1].strip() if found is not None else ""


def repmgr_rewinders(text: str) -> tuple[Path, ...]:
    """Return by which programs a node is rejoined; empty when PATH decides."""
    found = _BINDIR.search(text)
    bin_dir = found[1].strip() if found is not None else ""
    default = Path(bin_dir, PROGRAM) if bin_dir else None
    asked = [path.strip("\"'") for path in _REWIND.findall(text)] or [""]
    programs = [Path(path) if path else default for path in asked]
    if None in programs:
        return ()
    return tuple(path for path in programs if path is not None)


def _table(found: object, key: str) -> Mapping[str, Any]:
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, dict) else {}


def _program(settings: Mapping[str, Any], program: str) -> Path | None:
    """Return the program that Patroni runs; None when PATH decides."""
    name = _table(settings, "bin_name").get(program) or program
    bin_dir = settings.get("bin_dir") or ""
    found = Path(str(bin_dir), str(name))
    return found if found.is_absolute() else None


def _same(path: Path | None, place: Path) -> bool:
    if path is None:
        return False
    try:
        return path == place or path.samefile(place)
    except OSError:
        return False


def _keeps_data(settings: Mapping[str, Any], replica: Path) -> bool:
    """Whether the first way to a replica is ours, and leaves the data to it."""
    methods = settings.get("create_replica_methods") or settings.get(
        "create_replica_method"
    )
    first = methods[0] if isinstance(methods, list) and methods else methods
    if not isinstance(first, str):
        return False
    method = _table(settings, first)
    try:
        words = shlex.split(str(method.get("command") or first))
    except ValueError:
        return False
    return (
        bool(words)
        and _same(Path(words[0]), replica)
        and bool(method.get("keep_data"))
        and not method.get("no_params")
    )


def _rewind_gap(settings: Mapping[str, Any], place: Path, around: Around) -> str:
    found = _program(settings, PROGRAM)
    named = "the pg_rewind in PATH" if found is None else str(found)
    if around.version is not None and around.version < BIN_NAME_SINCE:
        return (
            f"a rewind runs {named}, and this Patroni is older than bin_name: set"
            " postgresql.bin_dir to a folder of links (`guard install --links DIR`)"
        )
    return f"a rewind runs {named}: set postgresql.bin_name.pg_rewind to {place}"


def _clone_gap(settings: Mapping[str, Any], place: Path) -> str:
    replica = place.with_name(REPLICA)
    methods = settings.get("create_replica_methods")
    first = methods[0] if isinstance(methods, list) and methods else None
    if isinstance(first, str) and _table(settings, first).get("no_params"):
        return f"{first}: no_params takes away what {replica} has to know: remove it"
    return (
        "a replica made anew deletes the old data: let create_replica_methods begin"
        f" with {replica} and keep_data"
    )


def _behind(key: str, rewinds: bool, clones: bool) -> bool:
    """Whether what the setting deletes has passed the gate before.

    The first deletes after a rewind that failed; the other also makes a node anew
    without trying to rewind it.
    """
    return rewinds and (clones or key == DELETES[0])


def _threat(key: str, rewinds: bool, clones: bool) -> str:
    if _behind(key, rewinds, clones):
        return (
            f"{key} is on: behind the gate it deletes only what is kept, unless"
            " somebody kills the shim by SIGKILL; nothing needs it"
        )
    return f"{key} is on and deletes a loser's data before anybody has kept it"
