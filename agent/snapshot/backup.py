"""A backup session: PostgreSQL told that its files are being copied.

Theory of operation. pg_backup_start forces a checkpoint and makes the server log
whole pages; pg_backup_stop returns the label with which a copy is recovered. Both
belong to one connection, and the server forgets the backup when it ends, so a
killed agent leaves nothing behind. Neither waits for the WAL archive: the WAL
comes from the tail. It needs no slot and no walsender. Names before version 15 are
pg_start_backup and pg_stop_backup.
"""

import re
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from agent.core.lsn import Lsn
from agent.errors import CaptureError
from agent.postgres.connect import connect, failed
from agent.snapshot.server import Breaker

START_S = 3600.0
"""A checkpoint that takes longer than this ends the backup."""
_TIMELINE = re.compile(r"^START TIMELINE: ([0-9]{1,10})$", re.MULTILINE)
_START_FILE = re.compile(r"^START WAL LOCATION: \S+ \(file ([0-9A-F]{8})", re.MULTILINE)
"""Of version 10, whose label names no timeline by itself."""
_NOT_GRANTED = "42501"
_IDLE_LIMITS = (
    ("idle_in_transaction_session_timeout", 90600),
    ("idle_session_timeout", 140000),
    ("transaction_timeout", 170000),
)
"""Settings that end a session, each with the first version that knows it."""
RENAMED_IN = 150000
"""The first version that says pg_backup_start."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The running server as it was when the backup began."""

    start_lsn: Lsn
    in_recovery: bool
    started: str


@dataclass(frozen=True, slots=True)
class Ended:
    """What pg_backup_stop gave."""

    stop_lsn: Lsn
    timeline: int
    """The timeline that the label names."""
    label: bytes


class BackupSession:
    """One backup of a running server. `trip` may be called from any thread."""

    def __init__(self, dsn: str, name: str) -> None:
        self._name = f"splitguard {name}"
        self._session = connect(dsn, statement_timeout_s=START_S)
        self._breaker = Breaker(self._session)
        self._version = self._session.info.server_version
        try:
            self._stay()
        except BaseException:
            self.close()
            raise

    def _stay(self) -> None:
        """Let no time limit of the server or the role end the session.

        Nothing is asked of it while the files are copied, for hours perhaps. Raises
        PostgresError.
        """
        for setting, first_version in _IDLE_LIMITS:
            if self._version >= first_version:
                self._row("SELECT pg_catalog.set_config(%s, '0', false)", setting)

    def begin(self) -> Begun:
        """Start the backup. Raises PostgresError."""
        old = self._version < RENAMED_IN
        start: LiteralString = (
            "SELECT pg_start_backup(%s, true, false)::text"
            if old
            else "SELECT pg_backup_start(%s, true)::text"
        )
        role = self._row("SELECT pg_is_in_recovery(), pg_postmaster_start_time()::text")
        lsn = self._row(start, self._name)[0]
        return Begun(Lsn.parse(str(lsn)), bool(role[0]), str(role[1]))

    def end(self) -> Ended:
        """Stop the backup. Raises PostgresError, as when the server was promoted."""
        stop: LiteralString = (
            "SELECT lsn::text, labelfile FROM pg_stop_backup(false, false)"
            if self._version < RENAMED_IN
            else "SELECT lsn::text, labelfile FROM pg_backup_stop(false)"
        )
        row = self._row(stop)
        label = str(row[1] or "")
        timeline, file = _TIMELINE.search(label), _START_FILE.search(label)
        if file is None:
            raise CaptureError("pg_backup_stop gave no usable label")
        number = int(file[1], 16) if timeline is None else int(timeline[1])
        return Ended(Lsn.parse(str(row[0])), number, label.encode("utf-8"))

    def trip(self) -> None:
        """End the session from outside, whatever it waits for."""
        self._breaker.trip()

    def close(self) -> None:
        """End the session; an unfinished backup is forgotten by the server."""
        self._breaker.close()
        self._session.close()

    def _row(self, statement: LiteralString, *values: object) -> tuple[object, ...]:
        try:
            row = self._session.execute(statement, values or None).fetchone()
        except psycopg.Error as error:
            failure = failed("the backup did not go through", error)
            if error.sqlstate == _NOT_GRANTED:
                failure.hint = "apply what `splitguard grants` prints"
            raise failure from error
        if row is None:
            raise CaptureError("the server gave no row")
        return row
