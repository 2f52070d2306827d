"""The server that a rescue is applied to: the right one, and able to take the rows.

Theory of operation. All sides of a fork have one system id, so that alone does not tell
the winner from the losing side. What does: rows that only the losing side wrote bear
there the very transaction ids that its log names. On a winner that took them in a
rescue they bear the rescue's. What the winner lacks (a table, a column, a sequence, a
permission) is found before the first row, once for a table and not at each row.
"""
# ruff: noqa: S608 - names are quoted, values are constants, nothing else varies

from collections.abc import Iterable, Iterator
from itertools import islice

import psycopg

from agent.divergence.model import DifferenceKind, Name, Table
from agent.divergence.rescue_order import target
from agent.divergence.rescue_quote import array, identifier, literal, qualified
from agent.divergence.rescue_script import Target, settings_sql
from agent.divergence.rescue_survey import Source
from agent.errors import DivergenceError
from agent.postgres.connect import Session, failed, fetch_one

LOCK_TIMEOUT_S = 10
SAMPLE_ROWS = 20
SAMPLE_TABLES = 10
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def check_server(session: Session, goal: Target) -> None:
    """Refuse a server that is no primary of this cluster. Raises DivergenceError."""
    recovering, system_id, database = fetch_one(
        session,
        "SELECT pg_is_in_recovery(), (SELECT system_identifier::text"
        " FROM pg_control_system()), current_database()",
    )
    if recovering:
        raise DivergenceError(
            "this server is a standby: nothing can be written there",
            "name the winner, which is the primary",
        )
    if system_id != goal.system_id:
        raise DivergenceError(
            f"this server has system id {system_id}, the snapshot {goal.system_id}:"
            " they are not of one cluster",
            "name the winner of the split that the snapshot is of",
        )
    if database != goal.database:
        raise DivergenceError(
            f"this is database {database}, the rows were lost from {goal.database}"
        )


def settle_writing(session: Session) -> None:
    """Fix how values print and read, and how long locks are waited for."""
    try:
        session.execute("SET client_encoding = 'UTF8'")
        session.execute(settings_sql().encode())
        session.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'".encode())
    except psycopg.Error as error:
        raise failed("the winner's session cannot be set up", error) from error


def refuse_loser(
    session: Session, tables: Iterable[Table], source: Source, timeline: int
) -> None:
    """Refuse the losing side itself, or a copy of it. Raises DivergenceError.

    `timeline` is the losing side's.
    """
    seen: set[str] = set()
    for table in islice((each for each in tables if each.keys), SAMPLE_TABLES):
        for theirs, ours in _writers(session, table, source):
            if theirs != ours:
                return
            seen.add(theirs)
    (here,) = fetch_one(
        session,
        "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int",
    )
    # One row alone may have its transaction id by chance, but hardly there as well.
    if len(seen) > 1 or (seen and here == timeline):
        raise DivergenceError(
            "this server is the losing side, or a copy of it: its rows were written by"
            " the losing side's own transactions",
            "name the winner",
        )


def _writers(
    session: Session, table: Table, source: Source
) -> Iterator[tuple[str, str]]:
    """Yield the transactions that wrote some rows: here, and on the losing side."""
    lost = (
        one
        for one in source.differences(table)
        if one.kind is DifferenceKind.LOST and one.xid is not None
    )
    for one in islice(lost, SAMPLE_ROWS):
        key = [
            f"{identifier(name)} = {literal((one.loser or ())[table.position(name)])}"
            for name in table.keys[0]
        ]
        found = session.execute(
            f"SELECT xmin::text FROM {qualified(target(table))}"
            f" WHERE {' AND '.join(key)}".encode()
        ).fetchone()
        if found is not None:
            yield found[0], str(one.xid)


def lacking(session: Session, tables: Iterable[Table]) -> dict[Name, str]:
    """Return the tables that the winner cannot take rows of, and why not."""
    found = {}
    for table in tables:
        reason = _lack(session, table)
        if reason:
            found[table.name] = reason
    return found


def _lack(session: Session, table: Table) -> str:
    name = qualified(target(table))
    known = session.execute(
        f"SELECT to_regclass({literal(name)}) IS NOT NULL".encode()
    ).fetchone()
    if known is None or not known[0]:
        return "the winner has no such table: create it there first"
    columns = [column for column in table.columns if not column.generated]
    missing = session.execute(
        f"SELECT w.name FROM unnest({array(c.name for c in columns)}) AS w (name)"
        " WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE"
        f" a.attrelid = {literal(name)}::regclass AND a.attname = w.name"
        " AND a.attnum > 0 AND NOT a.attisdropped)".encode()
    ).fetchall()
    if missing:
        lost = {name for (name,) in missing}
        adds = ", ".join(
            f"ADD COLUMN {identifier(column.name)} {column.type}"
            for column in columns
            if column.name in lost
        )
        return f"the winner lacks columns; add them first: ALTER TABLE {name} {adds}"
    return _forbidden(session, table, name)


def _forbidden(session: Session, table: Table, name: str) -> str:
    refused = session.execute(
        f"SELECT w.name FROM unnest({array(RIGHTS)}) AS w (name)"
        f" WHERE NOT has_table_privilege({literal(name)}, w.name)".encode()
    ).fetchall()
    if refused:
        rights = ", ".join(right for (right,) in refused)
        return f"this role may not write there: GRANT {rights} ON {name} TO it"
    for column in table.columns:
        if column.sequence is not None:
            sequence = literal(qualified(column.sequence))
            known = session.execute(
                f"SELECT to_regclass({sequence}) IS NOT NULL".encode()
            ).fetchone()
            if known is None or not known[0]:
                return f"the winner has no sequence {column.sequence}"
    return ""
