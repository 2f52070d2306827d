"""What the running server beside this agent says of its position, by SQL.

Theory of operation. One short query on a kept connection tells the role, the
timeline and how far WAL is flushed (on a standby: received or replayed). A server
that hangs answers nothing and never ends a query by itself, so every question has
a deadline after which the socket is shut; the caller then reads the disk instead.
The connection is given up as soon as the server wants to stop, because a smart
shutdown waits for it.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.connect import Session, connect, failed
from agent.postgres.postmaster import running

ANSWER_S = 2.0
"""A server that does not answer within this is read from disk."""
_POSITION = """
SELECT r, pg_postmaster_start_time()::text,
  CASE WHEN r THEN
    (SELECT received_tli FROM pg_stat_wal_receiver WHERE received_tli > 0)
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
  CASE WHEN r THEN
    greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
  ELSE pg_current_wal_flush_lsn() END::text
FROM (SELECT pg_is_in_recovery() AS r) AS role
"""
_SETTINGS = """
SELECT pg_size_bytes(current_setting('max_wal_size')),
  current_setting('config_file', true), current_setting('hba_file', true),
  current_setting('ident_file', true)
"""


FindDsn = Callable[[], str | None]
"""How role splitguard_local connects now; a server that was down when the agent
started, or moved its socket, is found when it is needed. None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a running server is."""

    in_recovery: bool
    started: str
    """When its postmaster started, as text; another text is another server."""
    timeline: int | None
    """None on a standby that streams from nobody."""
    flush_lsn: Lsn | None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What of the server's settings a capture needs."""

    max_wal_bytes: int
    files: tuple[Path, ...]
    """The configuration files, wherever they are."""


class Breaker:
    """Ends a connection from another thread, so that a blocked query returns."""

    def __init__(self, session: Session) -> None:
        self._socket = socket.socket(fileno=os.dup(session.fileno()))

    def trip(self) -> None:
        """Shut the connection both ways. May be called from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection without touching it."""
        self._socket.close()


@contextmanager
def deadline(breaker: Breaker, seconds: float) -> Iterator[None]:
    """Trip the breaker unless the block ends within `seconds`."""
    timer = threading.Timer(seconds, breaker.trip)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class LocalServer:
    """A kept connection to the server beside this agent. For one thread."""

    def __init__(self, data_dir: Path, find_dsn: FindDsn) -> None:
        self._data_dir = data_dir
        self._find_dsn = find_dsn
        self._session: Session | None = None
        self.stopping = False
        """Whether the server was told to stop when it was last looked at."""

    def runs(self) -> bool:
        """Whether a postmaster is there. Raises PostgresError."""
        found = running(self._data_dir)
        self.stopping = found is not None and found.status == "stopping"
        return found is not None

    def position(self) -> Position | None:
        """Ask the server; None while it is about to stop.

        Raises PostgresError when it cannot be asked.
        """
        self.runs()
        if self.stopping:
            self.close()
            return None
        row = self._ask(_POSITION)
        flush = None if row[3] is None else Lsn.parse(row[3])
        return Position(bool(row[0]), str(row[1]), row[2], flush)

    def settings(self) -> ServerSettings:
        """Return the settings. Raises PostgresError."""
        row = self._ask(_SETTINGS)
        files = tuple(Path(name) for name in row[1:] if name)
        return ServerSettings(int(row[0]), files)

    def close(self) -> None:
        """Give the connection up."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _ask(self, statement: str) -> tuple[Any, ...]:
        if self._session is None or self._session.closed:
            dsn = self._find_dsn()
            if dsn is None:
                raise PostgresError(
                    "the server beside this agent cannot be asked",
                    "set local.dsn to a connection through the unix socket",
                )
            self._session = connect(
                dsn,
                connect_timeout_s=int(ANSWER_S),
                statement_timeout_s=ANSWER_S,
            )
        return self._fetch(self._session, statement)

    def _fetch(self, session: Session, statement: str) -> tuple[Any, ...]:
        breaker = Breaker(session)
        try:
            with deadline(breaker, ANSWER_S):
                row = session.execute(statement.encode()).fetchone()
        except psycopg.Error as error:
            self.close()
            raise failed("the local server cannot be asked", error) from error
        finally:
            breaker.close()
        if row is None:
            raise PostgresError("the local server gave no row")
        return row
