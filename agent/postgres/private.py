"""A private server on a scratch copy: nobody reaches it, and it reaches nobody.

Theory of operation. To be completed with the module.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.core.lsn import Lsn
from agent.postgres.programs import Programs

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0


def prepare(folder: Path, *, tablespaces: Mapping[int, Path] | None = None) -> None:
    """Make a scratch copy of a data directory safe to start. Changes the folder.

    Removes what would let it reach out or refuse to start: replication slots, signal
    files, the pid file, tablespace_map, postgresql.auto.conf. `backup_label` stays.
    Links below pg_tblspc are pointed at `tablespaces` (by OID); pg_wal must be a
    folder. A link that still leads outside, or files that are hard links (a pin), are
    a PostgresError: opening would change the original. As root, a folder of root is
    given to an unprivileged user.
    """
    raise NotImplementedError


class PrivateServer:
    """A server on a prepared scratch folder, for the length of a `with`.

    Entering starts it and returns when it is out of recovery; raises PostgresError
    with the log's last lines when it does not get there within `start_timeout_s`.
    `tip_timeline` is the timeline on which the copy's WAL ends; where pg_control (or
    backup_label) begins on another one, recovery is told to go there, which ends on
    a new timeline of the copy's own.
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        *,
        tip_timeline: int | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        raise NotImplementedError

    @property
    def dsn(self) -> str:
        """libpq's connection string, without a database; see `dsn_for`."""
        raise NotImplementedError

    def dsn_for(self, dbname: str) -> str:
        """Return the connection string to one database."""
        raise NotImplementedError

    @property
    def recovered_lsn(self) -> Lsn:
        """The end of the last record that recovery replayed (or of a clean copy)."""
        raise NotImplementedError

    @property
    def log_tail(self) -> str:
        """The last lines of the server's log, on one line."""
        raise NotImplementedError

    def start(self) -> None:
        """Start and wait until it is out of recovery. Raises PostgresError."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop fast, at once if that takes too long. May be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
