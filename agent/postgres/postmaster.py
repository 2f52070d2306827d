"""Whether a server runs on a data directory.

Theory of operation. `postmaster.pid` names a process, but outlives a crash, and
its number may have gone to another program since. So the process is looked at
itself: it must be alive, work in this very data directory, and have been there
before the file was written. Anything else is not running.
Source of the form: PostgreSQL's src/include/utils/pidfile.h.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server that runs."""

    pid: int
    started_s: int
    """When it started, in seconds since 1970, as it wrote itself."""
    port: int
    socket_dir: Path | None
    """Where its unix socket is; None when it has none, or is not ready yet."""
    status: str
    """`ready`, `standby`, `starting`, `stopping`; empty in its first moments."""


def running(data_dir: Path) -> Postmaster | None:
    """Return the postmaster of `data_dir`; None when there is none, or a stale file.

    Raises PostgresError when the file is there and may not be read.
    """
    raise NotImplementedError
