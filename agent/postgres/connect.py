"""Short-lived SQL connections, blocking.

Theory of operation. For work in a thread: a backup's start and stop, reading an
opened copy, a winner or a source. Every connection has a bounded time to connect and to
run a statement, names itself, and commits statement by statement. An error names the
server by host and port, "local" only where it is reached through a socket of this
machine; it carries the server's code and message, never the connection string, which
may hold a password.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent.errors import PostgresError

APPLICATION_NAME = "splitguard"

_PLACE = ("host", "hostaddr", "port", "sslmode", "sslrootcert")

Session = psycopg.Connection[tuple[Any, ...]]
"""A connection whose rows are tuples."""


def connect(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    statement_timeout_s: float = 30.0,
    dbname: str | None = None,
    named: str = "",
) -> Session:
    """Connect in autocommit mode. Raises PostgresError.

    `dsn` is libpq's connection string; the database in it gives way to `dbname`.
    A `statement_timeout_s` of 0 stands for no limit. `named` is what people call the
    server: an error then has it beside host and port.
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
        tried = failed(f"cannot connect to {server_named(dsn, named)}", error)
        raise PostgresError(tried.message, _to_be_reached(dsn)) from error
    return session


@contextmanager
def session(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    statement_timeout_s: float = 30.0,
    dbname: str | None = None,
    named: str = "",
) -> Iterator[Session]:
    """Connect for the length of a `with`; SQL errors in it become PostgresError."""
    connection = connect(
        dsn,
        connect_timeout_s=connect_timeout_s,
        statement_timeout_s=statement_timeout_s,
        dbname=dbname,
        named=named,
    )
    try:
        yield connection
    except psycopg.Error as error:
        doing = f"{server_named(dsn, named)} did not do as asked"
        raise failed(doing, error) from error
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


def server_named(dsn: str, named: str = "") -> str:
    """Return what people call a server: `n2 (10.0.0.2:5432)`, `10.0.0.2:5432`.

    One that is reached through a socket of this machine is `the local server`, unless
    `named` says better. Nothing else of the connection string is in it.
    """
    host, port = _place(dsn)
    if not host:
        return named or "the local server"
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not named or named.startswith(place):
        return named or place
    return f"{named} ({place})"


def place_named(dsn: str) -> str:
    """Return a connection string as it may be shown: `10.0.0.2:5432/shop`.

    Without role, password and passfile; `the local server` where it is a socket's.
    """
    try:
        dbname = conninfo_to_dict(dsn).get("dbname")
    except psycopg.Error:
        dbname = None
    place = server_named(dsn)
    return f"{place}/{dbname}" if dbname and _place(dsn)[0] else place


def _place(dsn: str) -> tuple[str, str]:
    """Return host and port as libpq takes them; no host where it is a socket's."""
    try:
        parts: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "", ""
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or ""
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    return ("" if str(host).startswith(("/", "@")) else str(host)), str(port)


def _to_be_reached(dsn: str) -> str:
    host, port = _place(dsn)
    if not host:
        return "see that it runs, and that this role may connect"
    return (
        "see that it runs, can be reached from here, and lets this role in:"
        f" `pg_isready -h {host} -p {port}`"
    )


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


def for_writing(dsn: str, user: str = "postgres") -> str:
    """Return a connection string that people may be shown, to the same server.

    Host, port and how the connection is secured; `user` in place of its role, and
    nothing that is that role's own. Empty where it cannot be read.
    """
    try:
        parts: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.Error:
        return ""
    kept = {name: parts[name] for name in _PLACE if parts.get(name)}
    return make_conninfo(**kept | {"user": user})


def quoted(value: str) -> str:
    """Return a value as it stands in a connection string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def failed(doing: str, error: psycopg.Error) -> PostgresError:
    """Return the error that people read: what was tried, the code, the message."""
    reason = error.diag.message_primary or str(error).strip()
    first = reason.splitlines()[0] if reason else type(error).__name__
    code = f" [{error.sqlstate}]" if error.sqlstate else ""
    return PostgresError(f"{doing}:{code} {first[:300]}")
