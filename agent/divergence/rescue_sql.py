"""Statements of a rescue: each says what has to be so before it writes anything.

Theory of operation. A statement stands on one line and may be run twice. A row counts
as unchanged when each of its columns still prints as it did when it was compared;
`concat` prints with the type's own output function, as COPY did when it was read.

What cannot be told from the winner's rows is noted in a table there,
`splitguard_rescue.ledger`: under which new key a row was put in, and which rows
without a key were put in, changed or taken out already. By it a second run knows what
the first one did, whatever became of the rows since. It is made only where it is
needed, and may be dropped when no rescue of that fork will be run again.
"""
# ruff: noqa: S608 - names are quoted, values are constants, nothing else varies

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.divergence.model import Column, ForeignKey, Name, Table, Values
from agent.divergence.rescue_order import target
from agent.divergence.rescue_quote import (
    array,
    column_of,
    fingerprint,
    identifier,
    key_of,
    literal,
    qualified,
)

LEDGER = "splitguard_rescue.ledger"
LEDGER_SQL = (
    "CREATE SCHEMA IF NOT EXISTS splitguard_rescue;",
    (
        f"CREATE TABLE IF NOT EXISTS {LEDGER} (origin text NOT NULL,"
        " relation text NOT NULL, columns text[] NOT NULL, was text[] NOT NULL,"
        " now text[], how text NOT NULL, at timestamptz NOT NULL DEFAULT now(),"
        " PRIMARY KEY (origin, relation, columns, was));"
    ),
)
FREE = "pg_temp.splitguard_free"
FREE_SQL = (
    f"CREATE OR REPLACE FUNCTION {FREE}(part oid, place tid) RETURNS boolean"
    " LANGUAGE plpgsql AS $free$ DECLARE k record; held boolean; BEGIN"
    " FOR k IN WITH RECURSIVE up (oid) AS (SELECT part UNION SELECT i.inhparent"
    " FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid)"
    " SELECT c.conrelid, string_agg(format('c.%I = t.%I', a.attname, b.attname),"
    " ' AND ') AS pairs FROM pg_catalog.pg_constraint c"
    " CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS u (own, other)"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = u.own"
    " JOIN pg_catalog.pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = u.other"
    " WHERE c.contype = 'f' AND c.confrelid IN (SELECT up.oid FROM up)"
    " GROUP BY c.oid, c.conrelid LOOP EXECUTE format('SELECT EXISTS (SELECT FROM %s c,"
    " %s t WHERE t.tableoid = $1 AND t.ctid = $2 AND %s AND (c.tableoid, c.ctid)"
    " IS DISTINCT FROM ($1, $2))', k.conrelid::regclass, part::regclass, k.pairs)"
    " INTO held USING part, place; IF held THEN RETURN false; END IF; END LOOP;"
    " RETURN true; END $free$;"
)
"""Whether no other row refers to this one: a foreign key that cascades would take rows
along that the winner has made since."""
STEPS_MAX = 10_000
"""A sequence this far behind is advanced number by number, which no other session can
come between; further, it is set."""


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to a row that lies on the winner under another key."""

    key: ForeignKey
    relation: Name
    """What the row is in: the topmost table, of a partition."""
    was: tuple[str, ...]
    """The columns referred to, as the losing side has them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row to write, and what of it is not as on the losing side."""

    table: Table
    values: Values
    links: tuple[Link, ...] = ()
    drawn: Column | None = None
    """Takes its value from the winner's sequence."""
    blank: frozenset[str] = frozenset()
    """Columns that stay NULL for now."""
    aliases: tuple[tuple[str, ...], ...] = ()
    """Keys to note in the ledger, as the row's key will be another one."""


class Statements:
    """Makes the statements of one rescue; `origin` names the losing side's fork."""

    def __init__(self, origin: str) -> None:
        self._origin = literal(origin)

    def insert(self, row: Row) -> str:
        """Put a row in unless its key is taken."""
        body = self._insertion(row, ())
        if not row.aliases:
            return f"{body} ON CONFLICT DO NOTHING;"
        back = ", ".join(identifier(name) for name in _names(row.aliases))
        return (
            f"WITH born AS ({body} ON CONFLICT DO NOTHING RETURNING {back})"
            f" INSERT INTO {LEDGER} (origin, relation, columns, was, now, how)"
            f" {' UNION ALL '.join(self._alias(row, names) for names in row.aliases)};"
        )

    def insert_keyless(self, row: Row, number: int, *, apart: bool = False) -> str:
        """Put in the nth of rows that are all alike and have no key, once.

        `apart`: not where the winner has such a row.
        """
        links = row.links
        ready = f" WHERE EXISTS ({self._found(links)})" if links else ""
        claim = self._claim(row.table, "lost", row.values, number, ready)
        body = self._insertion(row, ("claimed",), apart=apart)
        return f"WITH claimed AS ({claim} RETURNING 1) {body};"

    def twin(self, table: Table, names: Sequence[str], was: Values, now: Values) -> str:
        """Note that a row is on the winner already, under another key."""
        return (
            f"INSERT INTO {LEDGER} (origin, relation, columns, was, now, how) VALUES"
            f" ({self._origin}, {literal(str(target(table)))}, {array(names)},"
            f" {array(was)}, {array(now)}, 'same') ON CONFLICT DO NOTHING;"
        )

    def update(self, row: Row, before: Values) -> str:
        """Change a row that is still as it was; an empty text if nothing is to do."""
        changes = self._changes(row, before)
        where = [
            *self._known(row.links), *_as_it_was(row.table, before, row.table.columns)
        ]  # fmt: skip
        return self._updating(row.table, changes, len(row.links), where)

    def bind(self, row: Row, before: Values, own: Link | None = None) -> str:
        """Let a row that was put in refer to what has been put in since.

        `before` is how it was put in, but for what `row.links` made of it; `own` leads
        to its new key.
        """
        made = {name for link in row.links for name in link.key.columns}
        links = row.links if own is None else (*row.links, own)
        key: list[str] = []
        if own is not None:
            made |= set(own.key.referenced)
            key = [
                f"t.{identifier(name)} = (m{len(row.links)}.now[{place}])"
                f"::{column_of(row.table, name).type}"
                for place, name in enumerate(own.key.referenced, start=1)
            ]
        rest = [
            column
            for column, value in zip(row.table.columns, before, strict=True)
            if column.name not in made or value is None
        ]
        still = _as_it_was(row.table, before, rest, keyed=own is None)
        changes = self._changes(row, before, only_new=True)
        where = [*self._known(links), *key, *still]
        return self._updating(row.table, changes, len(links), where)

    def _updating(
        self, table: Table, changes: Sequence[str], links: int, where: Sequence[str]
    ) -> str:
        if not changes:
            return ""
        ledgers = ", ".join(f"{LEDGER} AS m{number}" for number in range(links))
        return (
            f"UPDATE {_written(table)} AS t SET {', '.join(changes)}"
            f"{f' FROM {ledgers}' if ledgers else ''} WHERE {' AND '.join(where)};"
        )

    def delete(self, table: Table, before: Values) -> str:
        """Take out a row that is still as it was and that no row refers to."""
        free = f"{FREE}(t.tableoid, t.ctid)"
        where = [*_as_it_was(table, before, table.columns), free]
        return f"DELETE FROM {_written(table)} AS t WHERE {' AND '.join(where)};"

    def change_keyless(
        self, table: Table, before: Values, after: Values | None, number: int
    ) -> str:
        """Change, or take out, one of the rows without a key that are all alike."""
        kind = "deleted" if after is None else "changed"
        both = (*before, *(after or ()))
        claim = self._claim(table, kind, both, number, " FROM found")
        found = (
            f"found AS (SELECT tableoid, ctid FROM {_written(table)} AS t WHERE"
            f" {' AND '.join(_as_it_was(table, before, table.columns))}"
            f" LIMIT 1 FOR UPDATE), claimed AS ({claim} RETURNING 1)"
        )
        at = "t.tableoid = found.tableoid AND t.ctid = found.ctid"
        if after is None:
            doing = (
                f"DELETE FROM {_written(table)} AS t USING found, claimed WHERE {at}"
            )
        else:
            changes = ", ".join(self._changes(Row(table, after), before))
            doing = (
                f"UPDATE {_written(table)} AS t SET {changes}"
                f" FROM found, claimed WHERE {at}"
            )
        return f"WITH {found} {doing};"

    def advance(self, sequence: Name, low: int, high: int) -> str:
        """Let a sequence go past what is put in; it never goes back."""
        name = qualified(sequence)
        quoted = literal(name)
        goal = f"CASE WHEN p.seqincrement > 0 THEN {high} ELSE {low} END"
        return (
            f"SELECT CASE WHEN w.n > {STEPS_MAX} THEN setval({quoted}, w.goal) ELSE"
            f" (SELECT max(nextval({quoted})) FROM generate_series(1, w.n)) END"
            f" FROM (SELECT {goal} AS goal, ceil((({goal})::numeric - s.last_value)"
            " / p.seqincrement)::bigint + (NOT s.is_called)::int AS n"
            f" FROM {name} AS s, pg_catalog.pg_sequence AS p"
            f" WHERE p.seqrelid = {quoted}::pg_catalog.regclass"
            f" AND {goal} > p.seqmin AND {goal} < p.seqmax) AS w WHERE w.n > 0;"
        )

    def known(self, links: Sequence[Link]) -> str:
        """Return the query whether all these rows are there under a new key."""
        return f"SELECT EXISTS ({self._found(links)})"

    def there(self, row: Row) -> str:
        """Return the query whether a row has been put in, or its key is taken."""
        if row.aliases:
            return f"SELECT NOT {self._not_yet(row)}"
        key = " AND ".join(_keyed(row.table, row.values))
        return f"SELECT EXISTS (SELECT FROM {_written(row.table)} AS t WHERE {key})"

    def mapping(self) -> str:
        """Return the query for `renumbered.csv`; without a semicolon."""
        return (
            'SELECT l.relation AS "table", u."column", u.old, u.new, l.how'
            f" FROM {LEDGER} AS l, unnest(l.columns, l.was, l.now)"
            ' AS u ("column", old, new) WHERE l.now IS NOT NULL'
            f" AND l.origin = {self._origin} AND u.old IS DISTINCT FROM u.new"
            " ORDER BY l.at, l.relation, l.columns, l.was"
        )

    def _insertion(
        self, row: Row, sources: Sequence[str], *, apart: bool = False
    ) -> str:
        columns = [column for column in row.table.columns if not column.generated]
        named = ", ".join(identifier(column.name) for column in columns)
        identity = any(column.identity == "a" for column in columns)
        overriding = " OVERRIDING SYSTEM VALUE" if identity else ""
        head = f"INSERT INTO {_plain(row.table)} ({named}){overriding}"
        given = self._given(row)
        values = ", ".join(given[column.name] for column in columns)
        where = self._known(row.links)
        if row.drawn is not None:
            where.append(self._not_yet(row))
        if apart:
            where.append(self._no_such(row, given))
        if not where and not sources:
            return f"{head} VALUES ({values})"
        tables = [
            *sources, *(f"{LEDGER} AS m{number}" for number in range(len(row.links)))
        ]  # fmt: skip
        origin = f" FROM {', '.join(tables)}" if tables else ""
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return f"{head} SELECT {values}{origin}{condition}"

    def _given(self, row: Row) -> dict[str, str]:
        """Return an expression for each column."""
        found = {
            column.name: literal(None if column.name in row.blank else value)
            for column, value in zip(row.table.columns, row.values, strict=True)
        }
        found |= _linked(row)
        if row.drawn is not None and row.drawn.sequence is not None:
            drawn = f"nextval({literal(qualified(row.drawn.sequence))})"
            found[row.drawn.name] = drawn
        return found

    def _found(self, links: Sequence[Link]) -> str:
        tables = ", ".join(f"{LEDGER} AS m{number}" for number in range(len(links)))
        return f"SELECT FROM {tables} WHERE {' AND '.join(self._known(links))}"

    def _known(self, links: Sequence[Link]) -> list[str]:
        found = []
        for number, link in enumerate(links):
            m = f"m{number}."
            found.append(f"{m}origin = {self._origin} AND {m}now IS NOT NULL")
            found.append(_entry(m, link.relation, link.key.referenced, link.was))
        return found

    def _not_yet(self, row: Row) -> str:
        names = row.aliases[0]
        was = _part(row.table, row.values, names)
        return (
            f"NOT EXISTS (SELECT FROM {LEDGER} WHERE origin = {self._origin}"
            f" AND {_entry('', target(row.table), names, was)})"
        )

    def _no_such(self, row: Row, given: Mapping[str, str]) -> str:
        alike = " AND ".join(
            f"concat(t.{identifier(name)}) IS NOT DISTINCT FROM concat({value})"
            f" AND num_nulls(t.{identifier(name)}) = num_nulls({value})"
            for name, value in given.items()
            if not row.table.columns[row.table.position(name)].generated
        )
        return f"NOT EXISTS (SELECT FROM {_written(row.table)} AS t WHERE {alike})"

    def _alias(self, row: Row, names: Sequence[str]) -> str:
        how = "'renumbered'" if row.drawn else "'followed'"
        now = ", ".join(f"concat(born.{identifier(name)})" for name in names)
        return (
            f"SELECT {self._origin}, {literal(str(target(row.table)))}, {array(names)},"
            f" {array(_part(row.table, row.values, names))}, ARRAY[{now}], {how}"
            " FROM born"
        )

    def _claim(
        self, table: Table, kind: str, values: Values, number: int, condition: str
    ) -> str:
        return (
            f"INSERT INTO {LEDGER} (origin, relation, columns, was, how)"
            f" SELECT {self._origin}, {literal(str(target(table)))}, '{{}}'::text[],"
            f" {array((kind, fingerprint(values), str(number)))}, {literal(kind)}"
            f"{condition} ON CONFLICT DO NOTHING"
        )

    def _changes(
        self, row: Row, before: Values, *, only_new: bool = False
    ) -> list[str]:
        given = self._given(row)
        linked = {} if only_new else _linked(row)
        return [
            f"{identifier(column.name)} = {given[column.name]}"
            for column, old, new in zip(
                row.table.columns, before, row.values, strict=True
            )
            if not column.generated and (old != new or column.name in linked)
        ]


def _plain(table: Table) -> str:
    """Return what rows are put into: the topmost table finds the partition itself."""
    return qualified(target(table))


def _written(table: Table) -> str:
    """Return what rows are changed in: not in tables that inherit from this one."""
    return f"{'' if table.root else 'ONLY '}{qualified(target(table))}"


def _names(aliases: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in aliases for name in names))


def _part(table: Table, values: Values, names: Sequence[str]) -> tuple[str, ...]:
    """Return a key that is noted; only keys without a NULL are."""
    return key_of(table, values, names) or ()


def _entry(prefix: str, relation: Name, names: Sequence[str], was: Values) -> str:
    return (
        f"{prefix}relation = {literal(str(relation))} AND {prefix}columns ="
        f" {array(names)} AND {prefix}was = {array(was)}"
    )


def _linked(row: Row) -> dict[str, str]:
    """Return the new values of columns that refer to a row with another key."""
    found: dict[str, str] = {}
    for number, link in enumerate(row.links):
        for place, name in enumerate(link.key.columns, start=1):
            kind = column_of(row.table, name).type
            if name not in row.blank:
                found.setdefault(name, f"(m{number}.now[{place}])::{kind}")
    return found


def _keyed(table: Table, values: Values) -> list[str]:
    """Return the conditions under which row `t` has this key; none without one."""
    found = []
    for name in table.keys[0] if table.keys else ():
        value = values[table.position(name)]
        told = "IS NULL" if value is None else f"= {literal(value)}"
        found.append(f"t.{identifier(name)} {told}")
    return found


def _as_it_was(
    table: Table, before: Values, columns: Iterable[Column], *, keyed: bool = True
) -> list[str]:
    """Return the conditions under which row `t` has these values."""
    found = _keyed(table, before) if keyed else []
    for column in columns:
        if column.generated:
            continue
        name, value = identifier(column.name), before[table.position(column.name)]
        if value is None:
            found.append(f"num_nulls(t.{name}) = 1")
        else:
            found.append(f'concat(t.{name}) COLLATE "C" = {literal(value)}')
        if value == "":
            found.append(f"num_nulls(t.{name}) = 0")
    return found or ["true"]
