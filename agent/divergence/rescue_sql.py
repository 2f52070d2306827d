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

from collections.abc import Mapping, Sequence

from agent.divergence.model import Name, Table, Values
from agent.divergence.rescue_conditions import (
    as_it_was,
    at,
    entry,
    keyed,
    linked,
    names_in,
    needed,
    part,
    plain,
    written,
)
from agent.divergence.rescue_ground import FREE, LEDGER, THERE
from agent.divergence.rescue_order import target
from agent.divergence.rescue_quote import (
    array,
    column_of,
    fingerprint,
    identifier,
    literal,
    qualified,
)
from agent.divergence.rescue_row import Link, Need, Row

STEPS_MAX = 10_000
"""A sequence this far behind is advanced number by number, which no other session can
come between; further, it is set."""


class Statements:
    """Makes the statements of one rescue; `origin` names the losing side's fork."""

    def __init__(self, origin: str) -> None:
        self._origin = literal(origin)

    def insert(self, row: Row) -> str:
        """Put a row in unless its key is taken."""
        body = f"{self._insertion(row, ())} ON CONFLICT DO NOTHING"
        if not row.aliases and not row.notes:
            return f"{body};"
        kept = [*row.aliases, *(need.names for need in row.notes)]
        back = ", ".join(identifier(name) for name in names_in(kept))
        born = f"WITH born AS ({body} RETURNING {back})"
        # A trigger of the winner may have given it another key.
        notes = f"INSERT INTO {THERE} " + " UNION ALL ".join(
            f"SELECT CASE WHEN {at('born', need.names, need.was)}"
            f" THEN {literal(need.note)} ELSE {literal('not ' + need.note)} END"
            " FROM born"
            for need in row.notes
        )
        if not row.aliases:
            return f"{born} {notes} ON CONFLICT DO NOTHING;"
        also = f", noted AS ({notes} ON CONFLICT DO NOTHING)" if row.notes else ""
        return (
            f"{born}{also}"
            f" INSERT INTO {LEDGER} (origin, relation, columns, was, now, how)"
            f" {' UNION ALL '.join(self._alias(row, names) for names in row.aliases)};"
        )

    def insert_keyless(self, row: Row, number: int, *, apart: bool = False) -> str:
        """Put in the nth of rows that are all alike and have no key, once.

        `apart`: not where the winner has such a row.
        """
        ready = f" WHERE {self.met(row.links, row.needs)}"
        claim = self._claim(row.table, "lost", row.values, number, ready)
        body = self._insertion(row, ("claimed",), apart=apart)
        return f"WITH claimed AS ({claim} RETURNING 1) {body};"

    def twin(
        self,
        table: Table,
        names: Sequence[str],
        keys: tuple[Values, Values],
        found: Values,
    ) -> str:
        """Note that a row is on the winner, as `found`, under the second key."""
        was, now = keys
        still = " AND ".join(as_it_was(table, found, table.columns))
        return (
            f"INSERT INTO {LEDGER} (origin, relation, columns, was, now, how) SELECT"
            f" {self._origin}, {literal(str(target(table)))}, {array(names)},"
            f" {array(was)}, {array(now)}, 'same' FROM {written(table)} AS t"
            f" WHERE {still} FOR KEY SHARE OF t ON CONFLICT DO NOTHING;"
        )

    def note(self, row: Row) -> str:
        """Note a row that is on the winner as the losing side has it."""
        notes = ", ".join(f"({literal(need.note)})" for need in row.notes)
        return (
            f"INSERT INTO {THERE} SELECT n.note FROM (VALUES {notes}) AS n (note)"
            f" CROSS JOIN (SELECT {self._alike(row)} FOR KEY SHARE OF t) AS r"
            " ON CONFLICT DO NOTHING;"
        )

    def alike(self, row: Row) -> str:
        """Return the query whether a row is there with all that it is to have."""
        return f"SELECT EXISTS (SELECT {self._alike(row)})"

    def gone(self, table: Table, before: Values) -> str:
        """Return the query whether no row has this key."""
        key = " AND ".join(keyed(table, before))
        return f"SELECT NOT EXISTS (SELECT FROM {written(table)} AS t WHERE {key})"

    def claimed(self, table: Table, kind: str, values: Values, number: int) -> str:
        """Return the query whether a row without a key was written before."""
        was = kind, fingerprint(values), str(number)
        same = entry("", target(table), (), was)
        return (
            f"SELECT EXISTS (SELECT FROM {LEDGER} WHERE origin = {self._origin}"
            f" AND {same})"
        )

    def met(self, links: Sequence[Link], needs: Sequence[Need]) -> str:
        """Return the condition that all that a row refers to is there."""
        found = [f"EXISTS ({self._found(links)})"] if links else []
        return " AND ".join([*found, *map(needed, needs)]) or "true"

    def update(self, row: Row, before: Values) -> str:
        """Change a row that is still as it was; an empty text if nothing is to do."""
        changes = self._changes(row, before)
        where = [
            *self._known(row.links),
            *map(needed, row.needs),
            *as_it_was(row.table, before, row.table.columns),
        ]
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
        still = as_it_was(row.table, before, rest, by_key=own is None)
        changes = self._changes(row, before, only_new=True)
        where = [*self._known(links), *map(needed, row.needs), *key, *still]
        return self._updating(row.table, changes, len(links), where)

    def _updating(
        self, table: Table, changes: Sequence[str], links: int, where: Sequence[str]
    ) -> str:
        if not changes:
            return ""
        ledgers = ", ".join(f"{LEDGER} AS m{number}" for number in range(links))
        return (
            f"UPDATE {written(table)} AS t SET {', '.join(changes)}"
            f"{f' FROM {ledgers}' if ledgers else ''} WHERE {' AND '.join(where)};"
        )

    def delete(self, table: Table, before: Values) -> str:
        """Take out a row that is still as it was and that no row refers to."""
        free = f"{FREE}(t.tableoid, t.ctid)"
        where = [*as_it_was(table, before, table.columns), free]
        return f"DELETE FROM {written(table)} AS t WHERE {' AND '.join(where)};"

    def change_keyless(
        self, table: Table, before: Values, after: Values | None, number: int
    ) -> str:
        """Change, or take out, one of the rows without a key that are all alike."""
        kind = "deleted" if after is None else "changed"
        both = (*before, *(after or ()))
        claim = self._claim(table, kind, both, number, " FROM found")
        found = (
            f"found AS (SELECT tableoid, ctid FROM {written(table)} AS t WHERE"
            f" {' AND '.join(as_it_was(table, before, table.columns))}"
            f" LIMIT 1 FOR UPDATE), claimed AS ({claim} RETURNING 1)"
        )
        at = "t.tableoid = found.tableoid AND t.ctid = found.ctid"
        if after is None:
            doing = f"DELETE FROM {written(table)} AS t USING found, claimed WHERE {at}"
        else:
            changes = ", ".join(self._changes(Row(table, after), before))
            doing = (
                f"UPDATE {written(table)} AS t SET {changes}"
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

    def there(self, row: Row) -> str:
        """Return the query whether a row has been put in, or its key is taken."""
        if row.aliases:
            return f"SELECT NOT {self._not_yet(row)}"
        key = " AND ".join(keyed(row.table, row.values))
        return f"SELECT EXISTS (SELECT FROM {written(row.table)} AS t WHERE {key})"

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
        head = f"INSERT INTO {plain(row.table)} ({named}){overriding}"
        given = self._given(row)
        values = ", ".join(given[column.name] for column in columns)
        where = [*self._known(row.links), *map(needed, row.needs)]
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
        found |= linked(row)
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
            found.append(entry(m, link.relation, link.key.referenced, link.was))
        return found

    def _not_yet(self, row: Row) -> str:
        names = row.aliases[0]
        was = part(row.table, row.values, names)
        return (
            f"NOT EXISTS (SELECT FROM {LEDGER} WHERE origin = {self._origin}"
            f" AND {entry('', target(row.table), names, was)})"
        )

    def _alike(self, row: Row) -> str:
        """Return what follows SELECT to find the row `t` as it is to be."""
        new = {
            name: f"m{number}.now[{place}]"
            for number, link in reversed(tuple(enumerate(row.links)))
            for place, name in enumerate(link.key.columns, start=1)
        }
        tables = [f"{LEDGER} AS m{number}" for number in range(len(row.links))]
        where = self._known(row.links)
        if row.aliases:
            names = row.aliases[0]
            was = part(row.table, row.values, names)
            tables.append(f"{LEDGER} AS own")
            where.append(f"own.origin = {self._origin}")
            where.append(entry("own.", target(row.table), names, was))
            new |= {name: f"own.now[{n}]" for n, name in enumerate(names, start=1)}
        kept = [each for each in row.table.columns if each.name not in new]
        where += [f"concat(t.{identifier(name)}) = {now}" for name, now in new.items()]
        where += as_it_was(row.table, row.values, kept, by_key=not row.aliases)
        origin = ", ".join([f"{written(row.table)} AS t", *tables])
        return f"1 FROM {origin} WHERE {' AND '.join(where)}"

    def _no_such(self, row: Row, given: Mapping[str, str]) -> str:
        alike = " AND ".join(
            f"concat(t.{identifier(name)}) IS NOT DISTINCT FROM concat({value})"
            f" AND num_nulls(t.{identifier(name)}) = num_nulls({value})"
            for name, value in given.items()
            if not row.table.columns[row.table.position(name)].generated
        )
        return f"NOT EXISTS (SELECT FROM {written(row.table)} AS t WHERE {alike})"

    def _alias(self, row: Row, names: Sequence[str]) -> str:
        how = "'renumbered'" if row.drawn else "'followed'"
        now = ", ".join(f"concat(born.{identifier(name)})" for name in names)
        return (
            f"SELECT {self._origin}, {literal(str(target(row.table)))}, {array(names)},"
            f" {array(part(row.table, row.values, names))}, ARRAY[{now}], {how}"
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
        moved = {} if only_new else linked(row)
        return [
            f"{identifier(column.name)} = {given[column.name]}"
            for column, old, new in zip(
                row.table.columns, before, row.values, strict=True
            )
            if not column.generated and (old != new or column.name in moved)
        ]
