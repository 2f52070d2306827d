"""One transaction of a history: statements drawn by the seed, and what they do.

Theory of operation. Each method says one thing to a server and notes the effect in the
client's `Work`; how many rows the server then says it has touched must be what the
client expected. A statement that fits no row at hand is left out. Rows are named by
their key as the client knows it, those of a table without a key by all their values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg

from tests.histories.client import Side, TableId, Work, table_id
from tests.histories.schema import MAIN, ColumnSpec, Row, Schema, TableSpec, names
from tests.histories.texts import Cell, name, plain, quote

NULLS = 0.12
SHARED = 0.3
MATCHING_MAX = 6
"""So many rows of a table without a key at most are touched by one statement."""
FIRST_KEY = 100_000
"""Drawn keys lie above all that a sequence hands out."""
Cells = dict[str, Cell]


KINDS = {
    kind: re.compile(pattern, re.DOTALL)
    for kind, pattern in {
        "INSERT": r"^INSERT.* VALUES ", "RETURNING": r" RETURNING \w+::text$",
        "INSERT SELECT": r"^INSERT.* SELECT ", "COPY": r"^COPY",
        "ON CONFLICT DO NOTHING": r" DO NOTHING$",
        "ON CONFLICT DO UPDATE": r" DO UPDATE SET ", "MERGE": r"^MERGE",
        "UPDATE": r"^UPDATE", "DELETE": r"^DELETE",
        "FOR UPDATE": r" FOR UPDATE$", "FOR KEY SHARE": r" FOR KEY SHARE$",
        "SAVEPOINT": r"^SAVEPOINT", "RELEASE": r"^RELEASE",
        "ROLLBACK TO": r"^ROLLBACK TO", "COMMIT": r"^COMMIT$",
        "ROLLBACK": r"^ROLLBACK$", "PREPARE": r"^PREPARE",
        "COMMIT PREPARED": r"^COMMIT PREPARED",
        "ROLLBACK PREPARED": r"^ROLLBACK PREPARED", "nextval": r"nextval",
        "a large object": r"lo_from_bytea", "a message": r"pg_logical_emit_message",
        "VACUUM": r"^VACUUM \W", "VACUUM FREEZE": r"^VACUUM \(FREEZE",
        "VACUUM FULL": r"^VACUUM FULL", "ANALYZE": r"^ANALYZE", "CLUSTER": r"^CLUSTER",
        "REINDEX": r"^REINDEX", "TRUNCATE": r"^TRUNCATE", "REFRESH": r"^REFRESH",
        "ADD COLUMN": r"^ALTER TABLE.* ADD COLUMN", "a rewrite": r" ALTER n TYPE ",
        "CREATE TABLE": r"^CREATE TABLE", "DROP TABLE": r"^DROP TABLE",
        "CHECKPOINT": r"^CHECKPOINT", "a temporary table": r"^CREATE TEMP",
        "a new segment": r"pg_switch_wal",
    }.items()
}  # fmt: skip
"""Every kind of statement that a history may have, and how it is known."""


class Supply:
    """Keys that no row had, and the keys that both sides will take."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.last = rng, FIRST_KEY
        self.shared: dict[str, dict[TableId, list[Cells]]] = {}

    def number(self) -> int:
        """Return a number that was not drawn before."""
        self.last += 1
        return self.last

    def key(self, spec: TableSpec) -> Cells:
        """Draw the columns of all keys of a row."""
        return {
            column.name: self.cell(column)
            for column in spec.columns
            if any(column.name in key for key in spec.keys)
        }

    def cell(self, column: ColumnSpec) -> Cell:
        """Draw one value; of a key, a new one."""
        return column.key(self.number()) if column.key else column.kind.draw(self.rng)

    def share(
        self, specs: Iterable[TableSpec], sides: Iterable[str], each: int
    ) -> None:
        """Draw keys that all sides will give to a row of theirs."""
        drawn = {
            table_id(spec): [self._partly(spec) for _ in range(each)]
            for spec in specs
            if spec.keys
        }
        for side in sides:
            self.shared[side] = {table: list(keys) for table, keys in drawn.items()}

    def _partly(self, spec: TableSpec) -> Cells:
        drawn = self.key(spec)
        chosen = self.rng.choice([*spec.keys, ()]) if len(spec.keys) > 1 else ()
        return {k: v for k, v in drawn.items() if not chosen or k in chosen}

    def take(self, side: str, spec: TableSpec) -> Cells:
        """Return the key of a new row: its own, or one that both sides take."""
        drawn = self.key(spec)
        shared = self.shared.get(side, {}).get(table_id(spec))
        if shared and self.rng.random() < SHARED:
            drawn |= shared.pop(self.rng.randrange(len(shared)))
        return drawn


@dataclass
class Teller:
    """Whoever speaks to one server."""

    rng: Random
    side: Side
    schema: Schema
    supply: Supply
    session: psycopg.Connection[Any]
    database: str = MAIN
    kinds: Counter[str] = field(default_factory=Counter)
    """What was said so far, by `KINDS`."""
    work: Work = field(init=False)

    def __post_init__(self) -> None:
        self.work = Work(self.side)

    def begin(self) -> None:
        """Begin anew."""
        self.work = Work(self.side)

    def say(self, statement: str, touched: int | None = None) -> Any:
        """Run a statement; it must touch as many rows as the client expects."""
        cursor = self.session.execute(statement.encode())
        self._note(statement)
        assert touched is None or cursor.rowcount == touched, (
            f"{self.side.name}: {cursor.rowcount} rows, not {touched}: {statement}"
        )
        return cursor

    def _note(self, statement: str) -> None:
        self.kinds.update(
            kind for kind, sort in KINDS.items() if sort.search(statement)
        )

    # What there is.

    def tables(self, suits: Callable[[TableSpec], bool] = bool) -> list[TableSpec]:
        """Return the tables of this database that exist on this side."""
        return [
            spec
            for spec in self.schema.tables
            if spec.database == self.database
            and table_id(spec) not in self.side.missing
            and suits(spec)
        ]

    def some(self, spec: TableSpec, most: int = 1) -> list[tuple[int, Row]]:
        """Draw rows that may be touched."""
        rows = list(self.work.rows(spec))
        return self.rng.sample(rows, min(len(rows), self.rng.randint(1, most)))

    def where(self, spec: TableSpec, row: Row) -> str:
        """Name a row as the client does."""
        chosen = spec.primary or tuple(each.name for each in spec.columns)
        return " AND ".join(
            f"{name(each)} IS NULL"
            if row[each] is None
            else f"{name(each)} = {quote(row[each])}"
            for each in chosen
        )

    def among(self, spec: TableSpec, rows: list[tuple[int, Row]]) -> str:
        """Name several rows."""
        return " OR ".join(f"({self.where(spec, row)})" for _, row in rows)

    def matching(self, spec: TableSpec) -> list[tuple[int, Row]]:
        """Draw rows; of a table without a key, all that look like one of them."""
        drawn = self.some(spec, 3)
        if spec.primary or not drawn:
            return drawn
        alike = self._folded(spec, drawn[0][1])
        rows = list(self.work.rows(spec))
        found = [each for each in rows if self._folded(spec, each[1]) == alike]
        everybodys = list(self.work.all_rows(spec))
        every = [each for each in everybodys if self._folded(spec, each) == alike]
        return found if len(found) == len(every) <= MATCHING_MAX else []

    @staticmethod
    def _folded(spec: TableSpec, row: Row) -> tuple[str | None, ...]:
        values = [(each.kind, row[each.name]) for each in spec.columns]
        return tuple(None if v is None else kind.fold(v) for kind, v in values)

    # New rows.

    def fresh(self, spec: TableSpec, cells: Cells | None = None) -> Cells:
        """Draw a row; `cells` are given."""
        row = self.supply.take(self.side.name, spec) | (cells or {})
        for column in spec.columns:
            if column.name not in row and not column.computed:
                row[column.name] = self.value(spec, column)
        return row

    def value(self, spec: TableSpec, column: ColumnSpec) -> Cell:
        """Draw a value that the column takes."""
        for reference in spec.references:
            if reference.column == column.name:
                parents = self.some(self.schema.table(reference.table))
                return plain(parents[0][1]["id"] if parents else None)
        if not column.required and self.rng.random() < NULLS:
            return plain(None)
        return column.kind.draw(self.rng)

    def printed(self, spec: TableSpec, cells: Cells, base: Row | None = None) -> Row:
        """Return what the server will hold."""
        row: Row = (base or {}) | {key: cell.printed for key, cell in cells.items()}
        for column in spec.columns:
            if column.computed:
                row[column.name] = column.computed(row)
        return row

    def literals(self, cells: Cells) -> str:
        return "(" + ", ".join(quote(each.written) for each in cells.values()) + ")"

    def insert(self, spec: TableSpec, cells: Cells | None = None) -> None:
        """Insert one row, the server choosing its key where it can."""
        drawn = self.fresh(spec, cells)
        serial = [each.name for each in spec.columns if each.serial]
        if serial and not cells and self.rng.random() < 0.5:
            del drawn[serial[0]]
            found = self.say(
                f"INSERT INTO {spec.sql} ({names([*drawn])})"
                f" VALUES {self.literals(drawn)} RETURNING {serial[0]}::text"
            )
            drawn[serial[0]] = plain(found.fetchone()[0])
        else:
            self.say(
                f"INSERT INTO {spec.sql} ({names([*drawn])})"
                f" VALUES {self.literals(drawn)}", 1
            )  # fmt: skip
        self.work.insert(spec, self.printed(spec, drawn))

    def insert_many(self, spec: TableSpec, count: int = 0) -> None:
        """Insert several rows with one statement: a MULTI_INSERT it is not."""
        drawn = [self.fresh(spec) for _ in range(count or self.rng.randint(2, 5))]
        columns = [*drawn[0]]
        rows = [{each: row[each] for each in columns} for row in drawn]
        self.say(
            f"INSERT INTO {spec.sql} ({names(columns)}) VALUES "
            + ", ".join(self.literals(row) for row in rows),
            len(rows),
        )
        for row in rows:
            self.work.insert(spec, self.printed(spec, row))

    def copy_in(self, spec: TableSpec, count: int = 0) -> None:
        """Insert several rows by COPY: a MULTI_INSERT."""
        drawn = [self.fresh(spec) for _ in range(count or self.rng.randint(2, 8))]
        columns = [*drawn[0]]
        order = f"COPY {spec.sql} ({names(columns)}) FROM STDIN"
        cursor = self.session.cursor()
        self._note(order)
        with cursor.copy(order.encode()) as copy:
            for row in drawn:
                copy.write_row([row[each].written for each in columns])
        for row in drawn:
            self.work.insert(spec, self.printed(spec, row))

    def insert_select(self, spec: TableSpec) -> None:
        """Copy rows of the table within the server."""
        if not spec.primary:
            rows = self.matching(spec)
            if not rows:
                return
            self.say(
                f"INSERT INTO {spec.sql} SELECT * FROM {spec.sql}"
                f" WHERE {self.where(spec, rows[0][1])}", len(rows)
            )  # fmt: skip
            for _, row in rows:
                self.work.insert(spec, dict(row))
            return
        for _, row in self.some(spec):
            key = self.supply.key(spec)
            others = [
                each.name
                for each in spec.columns
                if each.name not in key and not each.computed
            ]
            chosen = ", ".join(quote(cell.written) for cell in key.values())
            self.say(
                f"INSERT INTO {spec.sql} ({names([*key, *others])})"
                f" SELECT {', '.join(filter(None, (chosen, names(others))))}"
                f" FROM {spec.sql} WHERE {self.where(spec, row)}", 1
            )  # fmt: skip
            self.work.insert(
                spec, self.printed(spec, key, {each: row[each] for each in others})
            )

    def insert_or(self, spec: TableSpec, *, update: bool) -> None:
        """Insert two rows, one under a key that is taken."""
        existing = self.some(spec)
        if not spec.primary or not existing:
            return
        who, held = existing[0]
        taken = self.fresh(spec, {each: plain(held[each]) for each in spec.primary})
        columns = [*taken]
        other = self.fresh(spec)
        rest = [c for c in columns if not any(c in key for key in spec.keys)]
        update = update and bool(rest)
        settings = ", ".join(f"{name(each)} = EXCLUDED.{name(each)}" for each in rest)
        action = f"DO UPDATE SET {settings}" if update else "DO NOTHING"
        other = {each: other[each] for each in columns}
        self.say(
            f"INSERT INTO {spec.sql} ({names(columns)}) VALUES {self.literals(taken)},"
            f" {self.literals(other)} ON CONFLICT ({names(spec.primary)}) {action}",
            1 + update,
        )
        if update:
            new = self.printed(spec, {each: taken[each] for each in rest}, dict(held))
            self.work.update(spec, who, held, new)
        self.work.insert(spec, self.printed(spec, other))

    def merge(self, spec: TableSpec) -> None:
        """MERGE: update what matches, insert what does not."""
        existing = self.some(spec)
        rest = self.changeable(spec)
        if len(spec.primary) != 1 or not existing or not rest or spec.leaf:
            return
        who, held = existing[0]
        key, other = spec.primary[0], self.fresh(spec)
        column = self.rng.choice(rest)
        value = self.value(spec, column)
        kind = spec.column(key).kind.sql.partition(" COLLATE")[0]
        matched = f"UPDATE SET {name(column.name)} = {quote(value.written)}"
        self.say(
            f"MERGE INTO {spec.sql} t USING (VALUES ({quote(held[key])}::{kind}),"
            f" ({quote(other[key].written)}::{kind})) s (k) ON t.{name(key)} = s.k"
            f" WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN"
            f" INSERT ({names([*other])}) VALUES {self.literals(other)}", 2
        )  # fmt: skip
        new = self.printed(spec, {column.name: value}, dict(held))
        self.work.update(spec, who, held, new)
        self.work.insert(spec, self.printed(spec, other))

    # Rows that there are.

    def changeable(self, spec: TableSpec) -> list[ColumnSpec]:
        """Return the columns that an UPDATE of no key may set."""
        return [
            each
            for each in spec.columns
            if not each.computed and not any(each.name in key for key in spec.keys)
        ]

    def update(
        self, spec: TableSpec, rows: list[tuple[int, Row]] | None = None
    ) -> None:
        """Set one to three columns of some rows."""
        rows = self.matching(spec) if rows is None else rows
        columns = self.changeable(spec)
        if not rows or not columns:
            return
        chosen = self.rng.sample(columns, min(len(columns), self.rng.randint(1, 3)))
        self.set_cells(
            spec, rows, {each.name: self.value(spec, each) for each in chosen}
        )

    def set_cells(
        self, spec: TableSpec, rows: list[tuple[int, Row]], cells: Cells
    ) -> None:
        """Give columns of these rows these values."""
        settings = ", ".join(
            f"{name(each)} = {quote(cell.written)}" for each, cell in cells.items()
        )
        where = self.among(spec, rows if spec.primary else rows[:1])
        self.say(f"UPDATE {spec.sql} SET {settings} WHERE {where}", len(rows))
        for who, row in rows:
            new = self.printed(spec, cells, dict(row))
            self.work.update(spec, who, row, new)

    def update_nothing(self, spec: TableSpec) -> None:
        """Write a row anew without a change."""
        rows, columns = self.matching(spec), self.changeable(spec)
        if rows and columns:
            column = name(self.rng.choice(columns).name)
            where = self.among(spec, rows if spec.primary else rows[:1])
            statement = f"UPDATE {spec.sql} SET {column} = {column} WHERE {where}"
            self.say(statement, len(rows))
            for who, row in rows:
                self.work.put(spec, who, row)

    def there_and_back(self, spec: TableSpec) -> None:
        """Change a row and change it back."""
        rows, columns = self.some(spec), self.changeable(spec)
        if spec.primary and rows and columns:
            column = self.rng.choice(columns)
            was = plain(rows[0][1][column.name])
            self.set_cells(spec, rows, {column.name: self.value(spec, column)})
            self.set_cells(
                spec,
                [each for each in self.work.rows(spec) if each[0] == rows[0][0]],
                {column.name: was},
            )

    def rekey(self, spec: TableSpec) -> None:
        """Give a row another key."""
        rows = self.some(spec)
        if spec.keys and spec.rekeyed and rows:
            key = self.rng.choice(spec.keys)
            drawn = self.supply.take(self.side.name, spec)
            self.set_cells(spec, rows, {each: drawn[each] for each in key})

    def move(self, spec: TableSpec) -> None:
        """Give a row another day, which may be another partition's."""
        rows = self.some(spec)
        if spec.leaf and rows:
            self.set_cells(spec, rows, {"day": spec.column("day").kind.draw(self.rng)})

    def delete(
        self, spec: TableSpec, rows: list[tuple[int, Row]] | None = None
    ) -> bool:
        """Delete some rows and what hangs on them; say whether that could be."""
        rows = self.matching(spec) if rows is None else rows
        rows = [each for each in rows if self._removable(spec, each[1])]
        if not rows or (not spec.primary and len(rows) > MATCHING_MAX):
            return False
        where = self.among(spec, rows if spec.primary else rows[:1])
        self.say(f"DELETE FROM {spec.sql} WHERE {where}", len(rows))
        for who, row in rows:
            self._remove(spec, who, row)
        return True

    def _hanging(
        self, spec: TableSpec, row: Row
    ) -> Iterable[tuple[Any, Any, Any, Any]]:
        for other in self.tables(lambda each: bool(each.references)):
            for reference in other.references:
                if reference.table == spec.name:
                    for who, held in list(self.work.rows(other)):
                        if held[reference.column] == row["id"]:
                            yield reference, other, who, held

    def _removable(self, spec: TableSpec, row: Row) -> bool:
        return not any(
            reference.on_delete == "RESTRICT"
            for reference, _, _, _ in self._hanging(spec, row)
        )

    def _remove(self, spec: TableSpec, who: int, row: Row) -> None:
        self.work.put(spec, who, None)
        for reference, other, whose, held in self._hanging(spec, row):
            if reference.on_delete == "CASCADE":
                self._remove(other, whose, held)
            else:
                self.work.update(other, whose, held, {reference.column: None})

    def reinsert(self, spec: TableSpec) -> None:
        """Delete a row and insert another under its key."""
        rows = self.some(spec)
        if not spec.primary or not rows:
            return
        was = rows[0][1]
        kept = [each for key in spec.keys for each in key]
        if self.rng.random() < 0.2:
            kept = [each.name for each in spec.columns if not each.computed]
        cells = {each: plain(was[each]) for each in kept}
        for reference in spec.references:
            cells.pop(reference.column, None)
        if self.delete(spec, rows):
            self.insert(spec, cells)

    def lock_rows(self, spec: TableSpec) -> None:
        """Lock rows without a change."""
        rows = self.some(spec, 3)
        if spec.primary and rows:
            strength = self.rng.choice(
                ("UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE")
            )
            where = self.among(spec, rows)
            self.say(f"SELECT 1 FROM {spec.sql} WHERE {where} FOR {strength}")
            for who, _ in rows:
                self.work.hold(spec, who)

    def anything(self, suits: Callable[[TableSpec], bool] = bool) -> None:
        """Say one thing, drawn by the seed."""
        tables = self.tables(suits)
        spec = self.rng.choice(tables)
        acts: list[tuple[int, Callable[[TableSpec], object]]] = [
            (10, self.insert), (5, self.insert_many), (4, self.copy_in),
            (3, self.insert_select), (3, lambda s: self.insert_or(s, update=False)),
            (3, lambda s: self.insert_or(s, update=True)), (2, self.merge),
            (12, self.update), (2, self.update_nothing), (2, self.there_and_back),
            (3, self.rekey), (3, self.move), (8, self.delete), (4, self.reinsert),
            (2, self.lock_rows),
        ]  # fmt: skip
        weights = [weight for weight, _ in acts]
        self.rng.choices([act for _, act in acts], weights)[0](spec)
