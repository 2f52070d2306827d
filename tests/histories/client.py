"""What the client knows: every row by an identity of its own, on each side of the fork.

Theory of operation. A client that logs what it said and what was acknowledged can tell
without any server which rows exist. `Side` is that knowledge of one server: committed
rows by table and identity. `Work` is one transaction on it: its changes are seen by
itself, thrown away by a rollback (to a savepoint as well) and put into the side by an
acknowledged COMMIT. An identity begins with an INSERT and ends with a DELETE; an UPDATE
keeps it, of the key too, unless the row moves to another partition. At the fork the
loser's committed rows are copied: identities are the same on both sides from then on.
`expect` derives what has been lost from two sides and the rows at the fork.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.histories.schema import Row, TableSpec

TableId = tuple[str, str]
"""Database and name; the name of a partitioned table's root."""
Key = tuple[str, ...]


def table_id(spec: TableSpec) -> TableId:
    """Return what a table is known by."""
    return (spec.database, spec.name)


class Identities:
    """Numbers rows; one for the whole history."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        """Return a new one."""
        self.last += 1
        return self.last


@dataclass
class Side:
    """What one server has committed, as far as its client was told."""

    name: str
    identities: Identities
    rows: dict[TableId, dict[int, Row]] = field(default_factory=dict)
    locked: set[tuple[TableId, int]] = field(default_factory=set)
    """Rows that an unfinished transaction holds: nobody else may touch them."""
    busy: dict[TableId, int] = field(default_factory=dict)
    """Unfinished transactions that hold a lock on a table."""
    added: dict[TableId, dict[str, str]] = field(default_factory=dict)
    """Columns added since the fork, and what rows of before have there."""
    rewritten: set[TableId] = field(default_factory=set)
    """Tables whose rows lie in another file, in another order, since the fork."""
    written: set[tuple[TableId, int]] = field(default_factory=set)
    """Rows that a committed statement wrote since the fork, if only as they were."""
    emptied: set[TableId] = field(default_factory=set)
    """Tables that were truncated since the fork."""
    missing: set[TableId] = field(default_factory=set)
    """Tables that do not exist (not yet, or no more)."""

    def copy(self, name: str) -> "Side":
        """Return the same knowledge of another server."""
        rows = {
            table: {who: dict(row) for who, row in held.items()}
            for table, held in self.rows.items()
        }
        return Side(name, self.identities, rows, missing=set(self.missing))

    def of(self, spec: TableSpec) -> dict[int, Row]:
        """Return the committed rows of a table."""
        return self.rows.setdefault(table_id(spec), {})

    def leaves(self, spec: TableSpec) -> dict[str, list[Row]]:
        """Return the committed rows by the table that holds them."""
        found: dict[str, list[Row]] = {}
        for row in self.of(spec).values():
            found.setdefault(spec.leaf_of(row), []).append(row)
        return found

    def add_column(self, spec: TableSpec, column: str, value: str) -> None:
        """Give every row one more column."""
        self.added.setdefault(table_id(spec), {})[column] = value
        for row in self.of(spec).values():
            row[column] = value


Changes = dict[tuple[TableId, int], Row | None]


@dataclass
class Work:
    """One transaction's view of a side."""

    side: Side
    changes: Changes = field(default_factory=dict)
    saved: list[Changes] = field(default_factory=list)
    locks: set[tuple[TableId, int]] = field(default_factory=set)
    """Kept until the end, whatever is rolled back."""
    tables: set[TableId] = field(default_factory=set)
    prepared: bool = False
    """Whether it had been prepared before the fork."""

    def rows(self, spec: TableSpec) -> Iterator[tuple[int, Row]]:
        """Yield what this transaction sees of a table and may touch."""
        table = table_id(spec)
        for who, row in self.side.of(spec).items():
            if (table, who) not in self.changes and self._free(table, who):
                yield who, row
        for (where, who), changed in self.changes.items():
            if where == table and changed is not None:
                yield who, changed

    def _free(self, table: TableId, who: int) -> bool:
        return (table, who) in self.locks or (table, who) not in self.side.locked

    def all_rows(self, spec: TableSpec) -> Iterator[Row]:
        """Yield every row that this transaction sees, held by others or not."""
        table = table_id(spec)
        for who, row in self.side.of(spec).items():
            changed = self.changes.get((table, who), row)
            if changed is not None:
                yield changed
        for (where, who), changed in self.changes.items():
            if where == table and changed and who not in self.side.of(spec):
                yield changed

    def put(self, spec: TableSpec, who: int, row: Row | None) -> None:
        """Note that a row is so now; None: deleted."""
        held = (table_id(spec), who)
        self.changes[held] = row
        self.hold(spec, who)

    def hold(self, spec: TableSpec, who: int) -> None:
        """Note that a row is locked until the end."""
        held = (table_id(spec), who)
        self.locks.add(held)
        self.side.locked.add(held)
        self.tables.add(held[0])

    def insert(self, spec: TableSpec, row: Row) -> int:
        """Note a new row; return its identity."""
        who = self.side.identities()
        extra = self.side.added.get(table_id(spec), {})
        self.put(spec, who, {**row, **extra, **row})
        return who

    def update(self, spec: TableSpec, who: int, row: Row, new: Row) -> None:
        """Note a row's new values. A move to another partition begins a new row."""
        merged = {**row, **new}
        if spec.leaf_of(merged) == spec.leaf_of(row):
            self.put(spec, who, merged)
        else:
            self.put(spec, who, None)
            self.insert(spec, merged)

    def savepoint(self) -> None:
        """Begin a subtransaction."""
        self.saved.append(dict(self.changes))

    def roll_back_to(self) -> None:
        """Undo the last subtransaction."""
        self.changes = self.saved.pop()

    def release(self) -> None:
        """End the last subtransaction; its changes are this one's."""
        self.saved.pop()

    def commit(self) -> None:
        """The server said that it is committed."""
        for (table, who), row in self.changes.items():
            held = self.side.rows.setdefault(table, {})
            self.side.written.add((table, who))
            if row is None:
                held.pop(who, None)
            else:
                held[who] = row
        self.end()

    def end(self) -> None:
        """Nothing is held any more."""
        self.side.locked -= self.locks

    def for_other(self, side: Side) -> "Work":
        """Return the same work, prepared before the fork, on the other side."""
        twin = Work(
            side, dict(self.changes), [], set(self.locks), set(self.tables),
            prepared=True,
        )  # fmt: skip
        side.locked |= self.locks
        return twin
