"""What reads rows out of a losing server, as the capture engine sees it.

Theory of operation. How rows are found, read and kept is not the engine's matter: it
knows where the log lies that it keeps, how the server is reached, and when somebody
wants an end. Whoever puts the agent together hands it a reader.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.lineage import Fork, Lineage
from agent.core.lsn import Lsn
from agent.postgres.programs import Programs


@dataclass(frozen=True, slots=True)
class RowsTask:
    """Which rows, of which server, and where they go."""

    folder: Path
    """The capture's own; the kept log is below it."""
    node: str
    system_id: str
    fork: Fork
    """Rows that were written past here are wanted."""
    lineage: Lineage
    start_lsn: Lsn
    """From here on the log is kept."""
    wal_segment_bytes: int
    programs: Programs
    dsn: str
    """As the role that reads. Never printed: it may hold a password."""
    made_wall_s: float
    tail_has: Callable[[Lsn, float], bool]
    """Wait for so many seconds until the log is kept up to there; whether it is."""
    mind: Callable[[], None]
    """Called now and then; raises when the work is to end."""


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Rows that are kept, and were read back."""

    upto: Lsn
    """What committed before this position of the log is among them."""
    folder: str
    """Where they are, below the capture's own folder."""


class RowsReader(Protocol):
    """Reads rows. Blocking; raises SplitguardError and OSError."""

    def read(self, task: RowsTask) -> RowsRead:
        """Read the rows out of the running server and keep them."""
        ...

    def quiet(self, task: RowsTask, begin: Lsn, end: Lsn) -> bool:
        """Whether no user transaction committed in this stretch of the kept log."""
        ...
