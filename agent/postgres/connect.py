"""Short-lived SQL connections to a server on this machine, blocking.

Theory of operation. For work in a thread: a backup's start and stop, reading an
opened copy. Every connection has a bounded time to connect and to run a statement,
names itself, and commits statement by statement. An error carries the server's
code and message, never the connection string, which may hold a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent.errors import PostgresError

APPLICATION_NAME = "splitguard"

Session = psycopg.Connection[tuple[Any, ...]]
"""A connection whose rows are tuples."""


def connect(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    statement_timeout_s: float = 30.0,
    dbname: str | None = None,
) -> Session:
    """Connect in autocommit mode. Raises PostgresError.

    `dsn` is libpq's connection string; the database in it gives way to `dbname`.
    A `statement_timeout_s` of 0 stands for no limit.
    """
    try:
        session: Session = psycopg.connect(
            dsn if dbname is None else make_conninfo(dsn, dbname=dbname),
            autocommit=True,
            connect_timeout=connect_timeout_s,
            application_name=APPLICATION_NAME,
            options=f"-c statement_timeout={int(statement_timeout_s * 1000)}",
        )
    except psycopg.Error as error:
        raise failed("cannot connect to the local server", error) from error
    return session


@contextmanager
def session(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    statement_timeout_s: float = 30.0,
    dbname: str | None = None,
) -> Iterator[Session]:
    """Connect for the length of a `with`; SQL errors in it become PostgresError."""
    connection = connect(
        dsn,
        connect_timeout_s=connect_timeout_s,
        statement_timeout_s=statement_timeout_s,
        dbname=dbname,
    )
    try:
        yield connection
    except psycopg.Error as error:
        raise failed("the local server did not do as asked", error) from error
    finally:
        connection.close()


def fetch_one(
    session: Session, statement: LiteralString, *values: object
) -> tuple[Any, ...]:
    """Run a statement and return its first row. Raises PostgresError without one."""
    row = session.execute(statement, values or None).fetchone()
    if row is None:
        raise PostgresError(f"no row came back from: {statement[:80]}")
    return row


def as_role(dsn: str, user: str) -> str:
    """Return a connection string to the same server as another role.

    A password in it is the other role's, so it goes; a passfile stays. Raises
    PostgresError when it is no connection string.
    """
    try:
        parts: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        raise PostgresError("the connection string cannot be read") from error
    parts.pop("password", None)
    return make_conninfo(**parts | {"user": user})


def quoted(value: str) -> str:
    """Return a value as it stands in a connection string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def failed(doing: str, error: psycopg.Error) -> PostgresError:
    """Return the error that people read: what was tried, the code, the message."""
    reason = error.diag.message_primary or str(error).strip()
    first = reason.splitlines()[0] if reason else type(error).__name__
    code = f" [{error.sqlstate}]" if error.sqlstate else ""
    return PostgresError(f"{doing}:{code} {first[:300]}")
