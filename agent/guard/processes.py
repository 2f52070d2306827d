"""The processes of this machine, and how each was called.

Theory of operation. What runs is read from `/proc`, so nothing needs to be installed
for it. A process may end between two looks, and one of another user may hide: neither
is yielded. Words are as file names are in Python, whatever bytes they have.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

PROCESSES_MAX = 100_000
COMMAND_BYTES_MAX = 64 * 1024


def processes(root: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each process of a machine with the words of its command line."""
    entries = (entry for entry in (root / "proc").iterdir() if entry.name.isdecimal())
    for entry in islice(entries, PROCESSES_MAX):
        words = _words(entry)
        if words is not None:
            yield int(entry.name), words


def still(root: Path, pid: int, words: list[str]) -> bool:
    """Whether that process runs yet, as what it was when these words were read."""
    return _words(root / "proc" / str(pid)) == words


def _words(entry: Path) -> list[str] | None:
    try:
        with (entry / "cmdline").open("rb") as file:
            raw = file.read(COMMAND_BYTES_MAX)
    except OSError:
        return None  # it ended meanwhile
    return os.fsdecode(raw).split("\0")
