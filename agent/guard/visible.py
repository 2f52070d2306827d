"""What on this machine may name the shim: configuration files, and running shims.

Theory of operation. Patroni's file is found where packages put it, and in the command
line of a running Patroni; repmgr's likewise. What is not found can be named by the
caller. A shim that waits shows in the list of processes, by its own path.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from agent.core.gate import Wired
from agent.errors import GuardError
from agent.guard import wiring
from agent.guard.processes import processes
from agent.guard.shim import PROGRAM, REPLICA
from agent.guard.wiring import Around, Wiring

PLACES = {
    "patroni": ("etc/patroni.yml", "etc/patroni.yaml", "etc/patroni/*.y*ml"),
    "repmgr": ("etc/repmgr.conf", "etc/repmgr/*.conf", "etc/repmgr/*/repmgr.conf"),
}
"""Below the root folder: where Debian, Red Hat and the projects' guides put them."""
VERSION_S = 10.0


class Kind(StrEnum):
    """Whose configuration a file is."""

    PATRONI = "patroni"
    REPMGR = "repmgr"


def configurations(root: Path = Path("/")) -> tuple[tuple[Kind, Path], ...]:
    """Return the configuration files that this machine has, each once."""
    found: dict[Path, Kind] = {}
    for kind in Kind:
        for pattern in PLACES[kind]:
            for path in sorted(root.glob(pattern)):
                found.setdefault(path.resolve(), kind)
    for path in _of_running_patronis(root):
        found.setdefault(path, Kind.PATRONI)
    return tuple((kind, path) for path, kind in found.items())


def judged(
    files: Iterable[tuple[Kind, Path]], place: Path, around: Around
) -> tuple[Wiring, ...]:
    """Return what each file says. Raises GuardError."""
    told = []
    for kind, path in files:
        text = wiring.read_text(path)
        if kind is Kind.PATRONI:
            document = wiring.read_yaml(text, str(path))
            told.append(wiring.patroni(str(path), document, place, around))
        else:
            told.append(wiring.repmgr(str(path), text, place))
    return tuple(told)


def patroni_version() -> tuple[int, ...] | None:
    """Return the version of the `patroni` in PATH; None when that does not tell it."""
    program = shutil.which("patroni")
    if program is None:
        return None
    try:
        ran = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_S,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"\b(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", ran.stdout)
    return None if found is None else tuple(int(part or 0) for part in found.groups())


def still_naming(files: Iterable[tuple[Kind, Path]], place: Path) -> tuple[Path, ...]:
    """Return the files that name the shim, by its path or by a folder of links.

    A file that cannot be read or understood counts as naming it. Raises nothing.
    """
    named = (str(place), str(place.with_name(REPLICA)))
    naming = []
    for kind, path in files:
        try:
            text = wiring.read_text(path)
            [told] = judged([(kind, path)], place, Around())
        except GuardError:
            naming.append(path)
            continue
        if told.state is not Wired.NOT_WIRED or any(name in text for name in named):
            naming.append(path)
    return tuple(naming)


def waiting(place: Path, root: Path = Path("/")) -> tuple[int, ...]:
    """Return the processes that run a script of ours at this place."""
    scripts = {str(place), *(str(place.with_name(name)) for name in (PROGRAM, REPLICA))}
    return tuple(
        pid for pid, words in processes(root) if not scripts.isdisjoint(words[:3])
    )


def unnamed_patronis(root: Path = Path("/")) -> tuple[int, ...]:
    """Return the running Patronis whose command line names no configuration file."""
    return tuple(
        pid for pid, paths in _running_patronis(root) if not any(_are_files(paths))
    )


def _of_running_patronis(root: Path) -> Iterator[Path]:
    for pid, paths in _running_patronis(root):
        process = root / "proc" / str(pid)
        for file in _are_files(paths):
            path = file if file.is_absolute() else _folder_of(process) / file
            if path.is_absolute():
                yield from _as_seen_by(process, path)


def _running_patronis(root: Path) -> Iterator[tuple[int, list[Path]]]:
    """Yield each running Patroni with what its command line says after its name."""
    for pid, words in processes(root):
        paths = [Path(word) for word in words]
        names = [path.name for path in paths[:3]]
        if "patroni" in names:
            yield pid, paths[names.index("patroni") + 1 :]


def _are_files(paths: list[Path]) -> Iterator[Path]:
    return (path for path in paths if path.suffix in {".yml", ".yaml"})


def _folder_of(process: Path) -> Path:
    """Return in which folder a process works; a relative path where that is hidden."""
    try:
        return (process / "cwd").readlink()
    except OSError:
        return Path()


def _as_seen_by(process: Path, path: Path) -> Iterator[Path]:
    """Return a process's file: one in a container has a root folder of its own."""
    inside = process / "root" / path.relative_to("/")
    # Only the former may be made a path without links: /proc's own lead nowhere else.
    for place, shown in ((path, path.resolve()), (inside, inside)):
        try:
            if not place.exists():
                continue
        except PermissionError:
            pass  # it is there, and cannot be read
        yield shown
        return
