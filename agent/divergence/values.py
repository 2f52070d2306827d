"""Rows as texts: the same row reads the same on every server, and reads back.

Theory of operation. `settle` fixes what decides how a server prints a value, so that
two servers print equal values alike, and a server takes the text back as that value.
Texts come by COPY in text format: a type's own output, nothing cast, and not held in
memory. Names are sent as the bytes that they have in the catalogue: in a database in
SQL_ASCII those need be no UTF-8. What an error stops is one table, not the session: in
a caller's transaction each read stands in a savepoint. Row security is off, by which a
server refuses to read instead of leaving rows out. Equality of keys is the server's,
by the operator that the column's type is indexed with, wherever that lies.

A generator that is not read to its end has to be closed before its session is used.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext
from psycopg.pq import TransactionStatus

from agent.divergence.model import Name, Place, Table, Values, ctid, place_of
from agent.errors import PostgresError
from agent.postgres.connect import Session, failed

PLACES_AT_ONCE = 5000
"""Places that one statement asks for. It walks to each, which OR-ed ranges do not."""
KEYS_AT_ONCE = 1000
"""Keys that one statement looks up."""
SETTINGS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "pg_catalog",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
"""How values are printed, names resolved and rows ordered; where a version has it."""
RAW = ("SQL_ASCII", "MULE_INTERNAL")
"""Encodings of a database that have no conversion to UTF-8: bytes come as they are."""
_REFUSED = {
    "42501": "grant the role SELECT on the table and USAGE on its schema; where the"
    " table has row security the role needs BYPASSRLS too, or rows would be hidden",
    "57014": "allow more time (statement_timeout)",
    "42P01": "it was dropped or renamed meanwhile",
    "22P05": "a value has no form in UTF-8",
}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_EQUALS = sql.SQL("OPERATOR(pg_catalog.=)")


class _Raw(sql.Composable):
    """A piece of SQL of which any bytes may be part."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return it in UTF-8, escaped bytes as what they were."""
        del context  # `settle` has made it UTF-8, or what bytes there are
        return str(self._obj).encode("utf-8", "surrogateescape")


def settle(session: Session) -> None:
    """Fix how this session prints and takes values, for as long as it lasts.

    To be called outside of a transaction, which would take the settings along when it
    is rolled back. Raises PostgresError.
    """
    wanted = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(name), sql.Literal(value))
        for name, value in SETTINGS.items()
    )
    encoding = session.info.parameter_status("server_encoding") or ""
    try:
        session.execute(
            sql.SQL(
                "SELECT pg_catalog.set_config(s.name, w.value, false)"
                " FROM pg_catalog.pg_settings s JOIN (VALUES {}) w (name, value)"
                " ON pg_catalog.lower(s.name) = pg_catalog.lower(w.name)"
            ).format(wanted)
        )
        session.execute(
            sql.SQL("SET client_encoding = {}").format(
                sql.Literal("SQL_ASCII" if encoding in RAW else "UTF8")
            )
        )
    except psycopg.Error as error:
        raise failed("the session cannot be set up for reading rows", error) from error


def identifier(*names: str) -> sql.Composable:
    """Return a name, quoted, whatever its bytes are."""
    return _Raw(".".join('"' + name.replace('"', '""') + '"' for name in names))


def name_sql(name: Name) -> sql.Composable:
    """Return the name of a table or sequence with its schema, quoted."""
    return identifier(name.schema, name.name)


def literal(text: str | None) -> sql.Composable:
    """Return a text as a constant, whatever its bytes are; None as NULL."""
    if text is None:
        return sql.SQL("NULL")
    return _Raw("E'" + text.replace("\\", "\\\\").replace("'", "''") + "'")


def array_literal(texts: Sequence[str | None], kind: str) -> sql.Composable:
    """Return texts as a constant array of `kind`, a type's name in SQL."""
    items = ",".join(
        "NULL"
        if text is None
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for text in texts
    )
    return sql.SQL("{}::{}[]").format(literal("{" + items + "}"), _Raw(kind))


def columns_sql(table: Table, alias: str = "t") -> sql.Composable:
    """Return the table's columns, in their order, for the SELECT of a `copy_out`."""
    return sql.SQL(", ").join(
        identifier(alias, column.name) for column in table.columns
    )


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of the catalogue, as texts what a raw encoding gave as bytes."""
    return tuple(_text(value) for value in row)


def _text(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value


def copy_out(
    session: Session, doing: str, query: sql.Composable
) -> Generator[list[str | None], None, None]:
    """Yield the rows of a SELECT as the server prints them, one at a time.

    `doing` begins the message of the PostgresError that this raises.
    """
    statement = sql.SQL("COPY ({}) TO STDOUT").format(query)
    try:
        with (
            sheltered(session),
            session.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for line in copy:
                yield _fields(line)
    except psycopg.Error as error:
        raise refused(doing, error) from error


def sheltered(session: Session) -> AbstractContextManager[object]:
    """Return a savepoint where the session is in a transaction, else nothing."""
    if session.info.transaction_status is TransactionStatus.IDLE:
        return nullcontext()
    return session.transaction()


def refused(doing: str, error: psycopg.Error) -> PostgresError:
    """Return the error that people read, with what to do about it."""
    made = failed(doing, error)
    made.hint = _REFUSED.get(error.sqlstate or "", "")
    return made


def _fields(line: bytes | bytearray | memoryview) -> list[str | None]:
    """Take one line of COPY apart (protocol: each message is one line)."""
    text = str(line, "utf-8", "surrogateescape")[:-1]
    fields: list[str | None] = list(text.split("\t"))
    if "\\" not in text:
        return fields
    return [_unescaped(field) for field in fields]


def _unescaped(field: str | None) -> str | None:
    if field is None or field == "\\N":
        return None
    if "\\" not in field:
        return field
    return _ESCAPED.sub(lambda found: _PLAIN.get(found[1], found[1]), field)


def place_at(text: str | None) -> Place:
    """Return the place that a server prints as `(block,line pointer)`."""
    block, _, offset = (text or "")[1:-1].partition(",")
    return place_of(int(block), int(offset))


def _select(table: Table, condition: sql.Composable) -> sql.Composable:
    columns = columns_sql(table)
    return sql.SQL("SELECT t.ctid, t.xmin{}{} FROM ONLY {} AS t{}").format(
        sql.SQL(", " if table.columns else ""),
        columns,
        name_sql(table.name),
        condition,
    )


def _rows(
    session: Session, table: Table, condition: sql.Composable
) -> Generator[tuple[Place, int, Values], None, None]:
    # A row without columns prints nothing behind its place and transaction.
    query = _select(table, condition)
    for row in copy_out(session, _reading(table), query):
        yield place_at(row[0]), int(row[1] or 0), tuple(row[2:])


def _reading(table: Table) -> str:
    return f"table {table.name} cannot be read"


def fetch(
    session: Session, table: Table, places: Sequence[Place]
) -> Generator[tuple[Place, int, Values], None, None]:
    """Yield the rows at these places, with place and xmin; what is empty is left out.

    Raises PostgresError, naming the table.
    """
    for start in range(0, len(places), PLACES_AT_ONCE):
        wanted = [ctid(place) for place in places[start : start + PLACES_AT_ONCE]]
        asked = array_literal(wanted, "tid")
        yield from _rows(
            session, table, sql.SQL(" WHERE t.ctid = ANY ({})").format(asked)
        )


def fetch_all(
    session: Session, table: Table
) -> Generator[tuple[Place, int, Values], None, None]:
    """Yield every row of the table, its children's not. Raises PostgresError."""
    yield from _rows(session, table, sql.SQL(""))


def fetch_by_xid(
    session: Session, table: Table, xids: Sequence[int]
) -> Generator[tuple[Place, int, Values], None, None]:
    """Yield every row that one of these transactions left so. Reads the whole table.

    Raises PostgresError.
    """
    asked = array_literal([str(xid) for xid in sorted(xids)], "xid")
    yield from _rows(session, table, sql.SQL(" WHERE t.xmin = ANY ({})").format(asked))


def fetch_by_key(
    session: Session,
    table: Table,
    key_columns: Sequence[str],
    keys: Sequence[Values],
) -> Generator[tuple[int, Place, int, Values], None, None]:
    """Yield the rows with one of these keys: index into `keys`, place, xmin, values.

    Two keys that the server calls equal both find the row. A key with a NULL finds
    nothing, nor does one that no row has. Raises PostgresError, also where a key is no
    value of the column's type.
    """
    if not keys:
        return
    joined = _join(session, table, key_columns)
    names = [f"k{number}" for number in range(len(key_columns))]
    for start in range(0, len(keys), KEYS_AT_ONCE):
        batch = keys[start : start + KEYS_AT_ONCE]
        arrays = sql.SQL(", ").join(
            array_literal([key[number] for key in batch], "text")
            for number in range(len(key_columns))
        )
        query = sql.SQL(
            "SELECT k.number, t.ctid, t.xmin, {} FROM unnest({}) WITH ORDINALITY"
            " AS k ({}, number) JOIN ONLY {} AS t ON {}"
        ).format(
            columns_sql(table),
            arrays,
            sql.SQL(", ").join(identifier(name) for name in names),
            name_sql(table.name),
            joined,
        )
        for row in copy_out(session, _reading(table), query):
            number = start + int(row[0] or 0) - 1
            yield number, place_at(row[1]), int(row[2] or 0), tuple(row[3:])


def _join(session: Session, table: Table, key_columns: Sequence[str]) -> sql.Composable:
    """Return the condition by which row `t` has key `k`."""
    equals = _equalities(session, table)
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} CAST({} AS {})").format(
            identifier("t", column),
            equals.get(column, _EQUALS),
            identifier("k", f"k{number}"),
            _Raw(table.columns[table.position(column)].type),
        )
        for number, column in enumerate(key_columns)
    )


_OPERATORS = """
    WITH RECURSIVE base (attname, type) AS (
        SELECT attname, atttypid FROM pg_catalog.pg_attribute
        WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT attname, typbasetype FROM base JOIN pg_catalog.pg_type ON oid = type
        WHERE typtype = 'd'
    )
    SELECT b.attname, n.nspname, o.oprname FROM base b
    JOIN pg_catalog.pg_opclass c ON c.opcintype = b.type AND c.opcdefault
    JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
    JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amopstrategy = 3
        AND a.amoplefttype = b.type AND a.amoprighttype = b.type
    JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr
    JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
"""


def _equalities(session: Session, table: Table) -> dict[str, sql.Composable]:
    """Return the operators of columns whose own type is indexed in a way of its own."""
    try:
        with sheltered(session):
            found = session.execute(_OPERATORS, [table.oid]).fetchall()
    except psycopg.Error as error:
        raise refused(_reading(table), error) from error
    return {
        column: sql.SQL("OPERATOR({}.{})").format(identifier(schema), _Raw(operator))
        for column, schema, operator in map(plain, found)
    }
