"""Where an archive is written to: a new file, stdout, or what is there and is no file.

Theory of operation. A new file is written aside and renamed, so that what bears its
name is whole. A regular file that is there already is never overwritten. What is there
and is none, such as a pipe or a device, is opened and written into as it is: to rename
over it would replace it. A link counts as what it leads to.
"""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from agent.errors import SnapshotError

Write = Callable[[bytes], int]
Pour = Callable[[Write], None]
"""Writes a whole archive, piece by piece."""


def named(file: Path, name: str, option: str = "--file") -> Path:
    """Return where to write: `name` in the folder `file`, or `file` itself.

    Raises SnapshotError where something that could be overwritten is there already, or
    nobody can say what is there.
    """
    found = _kind(file)
    if found is not None and stat.S_ISDIR(found):
        file = file / name
        found = _kind(file)
    if found is not None and (stat.S_ISREG(found) or stat.S_ISDIR(found)):
        raise SnapshotError(f"{file} is there already", f"name another {option}")
    return file


def write_archive(pour: Pour, file: Path | None) -> int:
    """Write an archive to stdout or to what `named` returned; return its bytes.

    Raises SnapshotError.
    """
    size = 0

    def counted(write: Write) -> Write:
        def both(piece: bytes) -> int:
            nonlocal size
            size += len(piece)
            return write(piece)

        return both

    if file is None:
        pour(counted(sys.stdout.buffer.write))
        return size
    try:
        if _kind(file) is None:
            _write_new(lambda write: pour(counted(write)), file)
        else:
            with file.open("wb") as opened:
                pour(counted(opened.write))
    except OSError as error:
        raise SnapshotError(f"{file}: {error.strerror}") from error
    return size


def _kind(file: Path) -> int | None:
    """Return the mode of what is there, links followed; None when nothing is."""
    try:
        return file.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(f"{file}: {error.strerror}") from error


def _write_new(pour: Pour, file: Path) -> None:
    """Write aside, force it to disk and rename it. Raises OSError."""
    target = Path(os.path.realpath(file))  # a link may lead to what is not there yet
    aside = target.with_name(f".{target.name}.part")
    # It holds a whole database: nobody else may read it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    handle = os.open(aside, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as opened:
            pour(opened.write)
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
