"""What tables a database has, and what names their rows.

Theory of operation. The system catalogues are asked in a few statements, each for all
tables at once, by a session that `values.settle` has set up, so that types are printed
alike everywhere. A table is what has rows of its own: a partition is one and says
whose it is, its parent is none. A unique index counts as a key when every row is in
it and plain columns alone make it up; a deferrable one does, because when a
transaction has ended it holds. Up to version 16 a partition does not know that its
parent's column is an identity: it is told here what the topmost parent's is.
Source: the catalogues' descriptions of PostgreSQL 10 to 18.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg

from agent.divergence.model import Column, ForeignKey, Name, Place, Relation, Table
from agent.divergence.values import place_at, plain, refused, sheltered
from agent.postgres.connect import Session

V11, V12 = 110_000, 120_000

_OURS: LiteralString = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema')"
    " AND n.nspname !~ '^pg_(toast|temp|toast_temp)'"
)
_TABLES: LiteralString = (
    "SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,"
    " c.relfilenode, coalesce(nullif(c.reltablespace, 0), d.dattablespace),"
    " t.relfilenode, coalesce(nullif(t.reltablespace, 0), d.dattablespace),"
    " (SELECT e.extname FROM pg_catalog.pg_depend p"
    "  JOIN pg_catalog.pg_extension e ON e.oid = p.refobjid"
    "  WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = c.oid"
    "  AND p.refclassid = 'pg_catalog.pg_extension'::regclass AND p.deptype = 'e'"
    "  LIMIT 1)"
    " FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()"
    " LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid"
    " WHERE {ours} AND c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'"
    " ORDER BY n.nspname, c.relname"
)
_COLUMNS: LiteralString = (
    "SELECT a.attrelid, a.attnum, a.attname,"
    " pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,"
    " a.attidentity::text, {generated}"
    " FROM pg_catalog.pg_attribute a"
    " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE {ours} AND c.relkind IN ('r', 'm', 'p')"
    " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"
)
# Of an identity column; what a default takes its values from; what a column owns.
_SEQUENCES: LiteralString = (
    "SELECT relation, number, n.nspname, s.relname FROM ("
    " SELECT d.refobjid AS relation, d.refobjsubid AS number, d.objid AS sequence,"
    "  CASE d.deptype WHEN 'i' THEN 0 ELSE 2 END AS rank FROM pg_catalog.pg_depend d"
    "  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0"
    "  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')"
    " UNION ALL"
    " SELECT f.adrelid, f.adnum, d.refobjid, 1 FROM pg_catalog.pg_depend d"
    "  JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid"
    "  WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass"
    "  AND d.refclassid = 'pg_catalog.pg_class'::regclass) found"
    " JOIN pg_catalog.pg_class s ON s.oid = sequence AND s.relkind = 'S'"
    " JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace"
    " ORDER BY rank DESC, n.nspname DESC, s.relname DESC"
)
_PARTITIONS: LiteralString = (
    "SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i"
    " JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid"
    " WHERE c.relispartition AND c.relkind IN ('r', 'p')"
)
_UNIQUES: LiteralString = (
    "SELECT i.indrelid, i.indisprimary, i.indisreplident, ARRAY("
    "  SELECT a.attname::text"
    "  FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)"
    "  JOIN pg_catalog.pg_attribute a"
    "  ON a.attrelid = i.indrelid AND a.attnum = k.number"
    "  WHERE k.place <= i.{keys} ORDER BY k.place)"
    " FROM pg_catalog.pg_index i"
    " JOIN pg_catalog.pg_class c ON c.oid = i.indrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE {ours} AND i.indisunique AND i.indisvalid AND i.indisready"
    " AND i.indislive AND i.indpred IS NULL AND i.indexprs IS NULL"
)
_FOREIGN_KEYS: LiteralString = (
    "SELECT k.conrelid, k.conname, k.condeferrable, n.nspname, c.relname,"
    " ARRAY(SELECT a.attname::text"
    "  FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u (number, place)"
    "  JOIN pg_catalog.pg_attribute a"
    "  ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),"
    " ARRAY(SELECT a.attname::text"
    "  FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY u (number, place)"
    "  JOIN pg_catalog.pg_attribute a"
    "  ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)"
    " FROM pg_catalog.pg_constraint k"
    " JOIN pg_catalog.pg_class c ON c.oid = k.confrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE k.contype = 'f' AND {whole} ORDER BY k.conname"
)
# What stands for one partition of the referenced table is no reference of its own.
_WHOLE: LiteralString = (
    "NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p"
    " WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)"
)
_FOREIGN_TABLES: LiteralString = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'f' ORDER BY n.nspname, c.relname"
)
_SEQUENCE_FILES: LiteralString = (
    "SELECT n.nspname, c.relname, c.relfilenode,"
    " coalesce(nullif(c.reltablespace, 0), d.dattablespace)"
    " FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()"
    " WHERE c.relkind = 'S' ORDER BY n.nspname, c.relname"
)
# With their TOAST, which the planner's statistics of wide columns need.
_STATISTICS_FILES: LiteralString = (
    "SELECT pg_catalog.pg_relation_filenode(f.oid), d.dattablespace"
    " FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()"
    " JOIN pg_catalog.pg_class f ON f.oid IN (c.oid, c.reltoastrelid)"
    " WHERE c.relnamespace = 'pg_catalog'::regnamespace"
    " AND c.relname IN ('pg_statistic', 'pg_statistic_ext_data')"
)
_CATALOGUE_FILES: LiteralString = (
    "SELECT pg_catalog.pg_relation_filenode('pg_catalog.pg_class'),"
    " dattablespace"
    " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
)
_ENTRIES: LiteralString = (
    "SELECT c.oid, c.ctid::text FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE {ours} AND c.relkind IN ('r', 'm')"
)


@dataclass(frozen=True, slots=True)
class Entries:
    """Where the catalogue itself keeps what it says of tables."""

    classes: Relation
    """The file of pg_class."""
    places: dict[int, Place]
    """A table's object id to the place of its row in pg_class."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """What names a row of one table."""

    primary: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    """Of the replica identity index."""
    uniques: frozenset[tuple[str, ...]] = frozenset()


def read_tables(session: Session, database_oid: int) -> tuple[Table, ...]:
    """Return every table with rows of its own, ordered by name.

    `database_oid` is that of the session's database, as its files are named. The
    session is settled. Raises PostgresError.
    """
    version = session.info.server_version
    found = _ask(session, _TABLES.format(ours=_OURS))
    names = {row[0]: Name(row[1], row[2]) for row in found}
    parents = dict(_ask(session, _PARTITIONS))
    columns = _columns(session, version, parents)
    keys = _keys(session, version)
    foreign = _foreign_keys(session, version)
    tables = []
    for oid, _, _, kind, persistence, filenode, space, *more in found:
        if kind == "p":
            continue
        toast_filenode, toast_space, extension = more
        own = columns.get(oid, ())
        key = keys.get(oid, _Keys())
        primary = key.primary or key.identity
        top = _top(oid, parents)
        tables.append(
            Table(
                oid=oid,
                name=names[oid],
                relation=Relation(space, database_oid, filenode),
                columns=own,
                primary=primary,
                uniques=_ordered(key.uniques - {primary}, own),
                root=names.get(top) if top != oid else None,
                persistence=persistence,
                kind=kind,
                toast=Relation(toast_space, database_oid, toast_filenode)
                if toast_filenode
                else None,
                foreign_keys=foreign.get(oid, ()),
                extension=extension or "",
            )
        )
    return tuple(tables)


def read_foreign_tables(session: Session) -> tuple[Name, ...]:
    """Return the tables whose rows are elsewhere. Raises PostgresError."""
    return tuple(Name(*row) for row in _ask(session, _FOREIGN_TABLES))


def read_sequences(session: Session, database_oid: int) -> dict[Relation, Name]:
    """Return the sequences by their files. Raises PostgresError."""
    return {
        Relation(space, database_oid, filenode): Name(schema, name)
        for schema, name, filenode, space in _ask(session, _SEQUENCE_FILES)
    }


def read_statistics(session: Session, database_oid: int) -> frozenset[Relation]:
    """Return the files in which ANALYZE keeps what it found. Raises PostgresError."""
    return frozenset(
        Relation(space, database_oid, filenode)
        for filenode, space in _ask(session, _STATISTICS_FILES)
    )


def read_entries(session: Session, database_oid: int) -> Entries:
    """Return where the catalogue keeps what it says. Raises PostgresError."""
    ((classes, space),) = _ask(session, _CATALOGUE_FILES)
    return Entries(
        Relation(space, database_oid, classes),
        {
            oid: place_at(place)
            for oid, place in _ask(session, _ENTRIES.format(ours=_OURS))
        },
    )


def _ask(session: Session, query: LiteralString) -> list[tuple[Any, ...]]:
    try:
        with sheltered(session):
            return [plain(row) for row in session.execute(query).fetchall()]
    except psycopg.Error as error:
        raise refused("the catalogue cannot be read", error) from error


def _top(oid: int, parents: dict[int, int]) -> int:
    while oid in parents:
        oid = parents[oid]
    return oid


def _columns(
    session: Session, version: int, parents: dict[int, int]
) -> dict[int, tuple[Column, ...]]:
    sequences = {
        (relation, number): Name(schema, name)
        for relation, number, schema, name in _ask(session, _SEQUENCES)
    }
    generated: LiteralString = "a.attgenerated <> ''" if version >= V12 else "false"
    found: dict[int, list[Column]] = {}
    for row in _ask(session, _COLUMNS.format(ours=_OURS, generated=generated)):
        relation, number, name, kind, not_null, identity, computed = row
        sequence = sequences.get((relation, number))
        column = Column(name, kind, not_null, computed, identity, sequence)
        found.setdefault(relation, []).append(column)
    return {
        relation: tuple(_as_above(own, found.get(_top(relation, parents), ())))
        for relation, own in found.items()
    }


def _as_above(own: Iterable[Column], above: Iterable[Column]) -> Iterable[Column]:
    """Yield a partition's columns, numbered as those of the topmost parent are."""
    known = {column.name: column for column in above}
    for column in own:
        parent = known.get(column.name, column)
        yield replace(
            column,
            identity=column.identity or parent.identity,
            sequence=column.sequence or parent.sequence,
        )


def _keys(session: Session, version: int) -> dict[int, _Keys]:
    keys: LiteralString = "indnkeyatts" if version >= V11 else "indnatts"
    found: dict[int, _Keys] = {}
    for relation, primary, identity, names in _ask(
        session, _UNIQUES.format(ours=_OURS, keys=keys)
    ):
        columns = tuple(names)
        known = found.get(relation, _Keys())
        found[relation] = _Keys(
            columns if primary else known.primary,
            columns if identity else known.identity,
            known.uniques | {columns},
        )
    return found


def _ordered(
    uniques: Iterable[tuple[str, ...]], columns: tuple[Column, ...]
) -> tuple[tuple[str, ...], ...]:
    """Return keys without NULLs first, then the shortest, alike on every server."""
    filled = {column.name for column in columns if column.not_null}
    return tuple(
        sorted(uniques, key=lambda key: (not filled.issuperset(key), len(key), key))
    )


def _foreign_keys(session: Session, version: int) -> dict[int, tuple[ForeignKey, ...]]:
    whole: LiteralString = _WHOLE if version >= V11 else "true"
    found: dict[int, tuple[ForeignKey, ...]] = {}
    for row in _ask(session, _FOREIGN_KEYS.format(whole=whole)):
        relation, name, deferrable, schema, table, columns, referenced = row
        key = ForeignKey(
            name, tuple(columns), Name(schema, table), tuple(referenced), deferrable
        )
        found[relation] = (*found.get(relation, ()), key)
    return found
