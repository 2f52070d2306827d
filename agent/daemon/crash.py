"""Crash points: named places where a test makes the agent die at once.

With `SPLITGUARD_CRASH_AT` naming a point and `SPLITGUARD_CRASH_MARK` a file that
does not exist yet, the process ends there as if it had been killed, after it has
made the file, so that it dies once and not for ever. Without them nothing happens.
"""

import os
from collections.abc import Mapping
from pathlib import Path

POINTS = (
    "before-journal",
    "after-journal",
    "during-tail",
    "during-copy",
    "before-rename",
    "after-grant",
)
KILLED = 137
"""The exit code of a process that got SIGKILL, as shells print it."""


class CrashPoints:
    """Ends the process at the point that the environment names, once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._point = environ.get("SPLITGUARD_CRASH_AT", "")
        self._mark = environ.get("SPLITGUARD_CRASH_MARK", "")

    def __call__(self, point: str) -> None:
        """Die here, if this is the point and it has not happened yet."""
        if point != self._point or not self._mark:
            return
        try:
            os.close(os.open(Path(self._mark), os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        os._exit(KILLED)
