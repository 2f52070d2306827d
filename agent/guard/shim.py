"""Writing the scripts that stand in for others, and reading installed ones back.

Theory of operation. There are two, `pg_rewind` and `replica`: templates in this
package, with what they share in a third. Their first lines are assignments, filled in
here with quoted values. A script is written aside and renamed, so that HA software
never runs half of it, and it belongs outside Splitguard's own folder: a script that is
gone together with Splitguard would be a failing pg_rewind, which some HA software
answers by deleting the data. A file that has not the template's mark is somebody
else's, and is neither read as a shim nor replaced or removed.
"""

import os
import re
import shlex
import tempfile
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from agent.errors import GuardError

PROGRAM = "pg_rewind"
DEFAULT_PLACE = Path("/usr/local/lib/splitguard") / PROGRAM
REPLICA = "replica"
"""The script beside it, for Patroni's create_replica_methods."""
MARK = ", with Splitguard in front"
"""What stands in the second line of every script."""
FILE_BYTES_MAX = 1 << 20
MODE = 0o755
_ASSIGNED = re.compile(r"^([A-Z]+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shim:
    """What is written into a script; each an absolute path."""

    real: Path
    """PostgreSQL's own program: pg_rewind, or pg_basebackup for a replica."""
    splitguard: Path
    """The command that asks for the permit."""
    socket: Path
    """The agent's unix socket."""
    rescue: Path
    """Where the shim copies WAL to when no agent answers."""
    controldata: Path
    """PostgreSQL's pg_controldata, of the same version."""


def render(shim: Shim, script: str = PROGRAM) -> str:
    """Return the script. Raises GuardError for a path that no line can hold."""
    text = _template(script)
    for field in fields(shim):
        path: Path = getattr(shim, field.name)
        if not path.is_absolute() or not str(path).isprintable():
            raise GuardError(
                f"{field.name}: {str(path)!r} is not an absolute path in one line",
                "give the full path",
            )
        text = text.replace(f"@{field.name.upper()}@", shlex.quote(str(path)), 1)
    return text


def read(place: Path) -> Shim | None:
    """Return what an installed shim was written with; None when there is none there.

    A program that is not ours is not a shim. Raises GuardError when the file cannot
    be read, or is a shim that was changed beyond recognition.
    """
    try:
        with place.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise GuardError(f"{place} cannot be read: {error.strerror}") from error
    if MARK not in text[:200]:
        return None
    found = dict(_ASSIGNED.findall(text.partition("\ncase ")[0]))
    try:
        return Shim(**{f.name: _path(found[f.name.upper()]) for f in fields(Shim)})
    except (KeyError, ValueError) as error:
        raise GuardError(
            f"{place} is a shim that was changed by hand: {error}",
            "write it again: `splitguard guard install`",
        ) from error


def current(place: Path, shim: Shim, script: str = PROGRAM) -> bool:
    """Whether the file at `place` is exactly what this version would write."""
    try:
        return place.read_text("utf-8", "replace") == render(shim, script)
    except OSError:
        return False


def unusable(place: Path, shim: Shim) -> tuple[str, ...]:
    """Return why the script at `place` could not be run by this user."""
    told = []
    if not os.access(place, os.X_OK):
        told.append(f"{place} cannot be run: chmod 755")
    told += [
        f"{place} wants {program}, which is not there"
        for program in (shim.real, shim.splitguard)
        if not os.access(program, os.X_OK)
    ]
    return tuple(told)


def write(place: Path, shim: Shim, script: str = PROGRAM) -> None:
    """Put the script at `place`, all at once. Raises GuardError.

    Whatever is there and is not a shim stays as it is.
    """
    text = render(shim, script)
    if os.path.lexists(place) and read(place) is None:
        raise GuardError(
            f"{place} is there and was not written by Splitguard",
            "choose another place with --to",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _replace(place, text)
    except OSError as error:
        raise GuardError(
            f"{place} cannot be written: {error.strerror}",
            "run this as root, or choose another place with --to",
        ) from error


def remove(place: Path) -> None:
    """Remove the shim at `place`. Raises GuardError, also when there is none."""
    if read(place) is None:
        raise GuardError(
            f"there is no shim at {place}", "say where it is with --to FILE"
        )
    try:
        place.unlink()
    except OSError as error:
        raise GuardError(
            f"{place} cannot be removed: {error.strerror}", "run this as root"
        ) from error


def _template(script: str) -> str:
    folder = resources.files("agent.guard").joinpath("scripts")
    shared = folder.joinpath("common.sh").read_text("utf-8")
    own = folder.joinpath(f"{script}.sh").read_text("utf-8")
    return own.replace("@COMMON@\n", shared, 1)


def _path(quoted: str) -> Path:
    words = shlex.split(quoted)
    if len(words) != 1:
        raise ValueError(f"not one path: {quoted[:100]}")
    return Path(words[0])


def _replace(place: Path, text: str) -> None:
    """Write aside, and rename when it is on disk."""
    number, aside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        Path(aside).replace(place)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise
