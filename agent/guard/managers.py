"""HA software on this machine that resyncs nodes by itself.

Theory of operation. What runs shows in the list of processes by its own name; what is
configured, by its file where packages put it. Both count only for the server that is
meant: software that names another data directory, in its file or on its command line,
looks after that one. A file that cannot be read counts, because nobody knows.
Sources: Patroni's and repmgr's documentation; pg_auto_failover's pg_autoctl; stolon's
stolon-keeper; Pacemaker's daemons, whatever resource agent they run (PAF, pgsql).
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import GuardError
from agent.guard import wiring
from agent.guard.processes import processes, still

_INTERPRETED = 3
"""A script's name is at most the third word: interpreter, option, script."""
_REPMGR_DIR = re.compile(
    r"^\s*data_directory\s*=\s*'?([^'#\n]*?)'?\s*(?:#.*)?$", re.MULTILINE
)
_REPMGR_AUTO = re.compile(r"^\s*failover\s*=\s*'?automatic'?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kind:
    """One HA software: its processes, and what to use instead."""

    name: str
    programs: frozenset[str]
    instead: str
    files: tuple[str, ...] = ()
    """Where its configuration is, below the root folder."""


_INSTEAD_GUARD = "and let it wait for the permit (`splitguard guard install`)"
PATRONI = Kind(
    "Patroni",
    frozenset({"patroni", "patroni.py"}),
    f"use `patronictl reinit`, {_INSTEAD_GUARD}",
    ("etc/patroni.y*ml", "etc/patroni/*.y*ml"),
)
REPMGR = Kind(
    "repmgrd",
    frozenset({"repmgrd"}),
    f"use `repmgr node rejoin --force-rewind=…`, {_INSTEAD_GUARD}",
    ("etc/repmgr.conf", "etc/repmgr/*.conf", "etc/repmgr/*/repmgr.conf"),
)
AUTO_FAILOVER = Kind(
    "pg_auto_failover",
    frozenset({"pg_autoctl"}),
    "let pg_autoctl rejoin the node; stop it there first if you want to do it by hand",
)
STOLON = Kind(
    "stolon",
    frozenset({"stolon-keeper"}),
    "let the keeper resync the node (`stolonctl removekeeper` and start it again)",
)
PACEMAKER = Kind(
    "Pacemaker",
    frozenset({"pacemakerd", "pacemaker_remoted", "pacemaker-remoted"}),
    "take the resource from it (`pcs resource unmanage`), stop Pacemaker on this node,"
    " and run this once more",
)
KINDS = (PATRONI, REPMGR, AUTO_FAILOVER, STOLON, PACEMAKER)


@dataclass(frozen=True, slots=True)
class Managers:
    """What was found, a text `NAME (where): what to use instead` each."""

    running: tuple[str, ...]
    configured: tuple[str, ...]


def find(data_dir: Path, root: Path = Path("/")) -> Managers:
    """Return the HA software that looks after the server of `data_dir`."""
    running: dict[str, str] = {}
    for pid, words in processes(root):
        kind = _kind_of(words)
        if kind is None or not _means(kind, pid, words, data_dir, root):
            continue
        # One that ended meanwhile may have taken the file with it that it was told by.
        if still(root, pid, words):
            running.setdefault(kind.name, _told(kind, f"process {pid}"))
    configured = [
        _told(kind, where)
        for kind, where in _configured(data_dir, root)
        if kind.name not in running
    ]
    return Managers(tuple(running.values()), tuple(dict.fromkeys(configured)))


def _told(kind: Kind, where: str) -> str:
    return f"{kind.name} ({where}): {kind.instead}"


def _kind_of(words: list[str]) -> Kind | None:
    names = {Path(word).name for word in words[:_INTERPRETED] if word}
    # A title such as `postgres: …` or `patroni: …` is one word with spaces.
    return next((kind for kind in KINDS if kind.programs & names), None)


def _means(kind: Kind, pid: int, words: list[str], data_dir: Path, root: Path) -> bool:
    """Whether a process looks after this very data directory, as far as it shows."""
    inside = root / "proc" / str(pid) / "root"
    for path in _named_files(words):
        seen = path if path.exists() else inside / path.relative_to("/")
        named = _data_dir_in(kind, seen)
        if named is not None:
            return _same(named, data_dir)
    named = _pgdata_of(words)
    return named is None or _same(named, data_dir)


def _named_files(words: list[str]) -> Iterator[Path]:
    for word in words[1:]:
        path = Path(word.partition("=")[2] if word.startswith("--") else word)
        if path.suffix in {".yml", ".yaml", ".conf", ".cfg"} and path.is_absolute():
            yield path


def _pgdata_of(words: list[str]) -> Path | None:
    for number, word in enumerate(words):
        if word.startswith("--pgdata="):
            return Path(word.partition("=")[2])
        if word == "--pgdata" and number + 1 < len(words):
            return Path(words[number + 1])
    return None


def _data_dir_in(kind: Kind, file: Path) -> Path | None:
    """Return the data directory that a configuration names; None when none shows."""
    try:
        text = wiring.read_text(file)
        if kind is PATRONI:
            section = wiring.read_yaml(text, str(file)).get("postgresql")
            named = section.get("data_dir") if isinstance(section, dict) else None
            return Path(named) if isinstance(named, str) else None
    except GuardError:
        return None
    found = _REPMGR_DIR.search(text) if kind is REPMGR else None
    return Path(found[1]) if found is not None and found[1] else None


def _same(named: Path, data_dir: Path) -> bool:
    """Whether both are one folder; a name that leads nowhere is another's."""
    with suppress(OSError):
        return named.samefile(data_dir)
    return Path(os.path.normpath(named)) == data_dir


def _configured(data_dir: Path, root: Path) -> Iterator[tuple[Kind, str]]:
    mark = data_dir / "patroni.dynamic.json"
    if mark.exists():
        yield PATRONI, str(mark)
    for kind in (PATRONI, REPMGR):
        for pattern in kind.files:
            for file in sorted(root.glob(pattern)):
                named = _data_dir_in(kind, file)
                if named is not None and not _same(named, data_dir):
                    continue
                if kind is PATRONI or _automatic(file):
                    yield kind, str(file)


def _automatic(file: Path) -> bool:
    """Whether repmgr's file wants repmgrd; without it repmgr is a tool for people."""
    try:
        return _REPMGR_AUTO.search(wiring.read_text(file)) is not None
    except GuardError:
        return True
