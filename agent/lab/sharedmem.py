"""Shared memory that killed servers leave in the kernel.

Theory of operation. A postmaster marks its data folder with a small System V segment
whose number it writes into postmaster.pid. Ended in order it removes the segment;
killed it cannot, and when the folder goes too nobody ever will. So before a lab's
folder is removed, each segment named there is removed, if it still has the same key
and nobody is attached to it.
Source: PostgreSQL's miscadmin.h, LOCK_FILE_LINE_SHMEM_KEY.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_LINE = 7
_IPC_RMID = 0
_SEGMENTS = Path("/proc/sysvipc/shm")
_LIBC = ctypes.CDLL(None, use_errno=True)


def remove_orphans(folder: Path) -> int:
    """Remove the segments of dead servers anywhere below `folder`; return how many."""
    named = set(_named_below(folder))
    orphans = [number for key, number in _unattached() if (key, number) in named]
    return sum(_LIBC.shmctl(number, _IPC_RMID, None) == 0 for number in orphans)


def _named_below(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield key and number of each segment that a postmaster.pid names."""
    for parent, _, files in os.walk(folder):
        if "postmaster.pid" not in files:
            continue
        try:
            lines = Path(parent, "postmaster.pid").read_text("utf-8").splitlines()
            key, number = lines[_LINE - 1].split()
            yield int(key), int(number)
        except (OSError, ValueError, IndexError):
            continue  # a server that had not come so far


def _unattached() -> Iterator[tuple[int, int]]:
    """Yield key and number of each segment that no process is attached to."""
    try:
        header, *rows = _SEGMENTS.read_text().splitlines()
    except (OSError, ValueError):
        return
    names = header.split()
    for row in rows:
        found = dict(zip(names, map(int, row.split()), strict=False))
        if found.get("nattch") == 0:
            yield found["key"], found["shmid"]
