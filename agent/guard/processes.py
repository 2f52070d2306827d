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
        try:
            with (entry / "cmdline").open("rb") as file:
                raw = file.read(COMMAND_BYTES_MAX)
        except OSError:
            continue  # it ended meanwhile
        yield int(entry.name), os.fsdecode(raw).split("\0")
