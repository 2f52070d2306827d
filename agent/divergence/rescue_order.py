"""In which order tables are written, so that what is referred to is there before.

Theory of operation. A table comes after the tables that its foreign keys lead to. Where
they lead in a circle, the table goes first whose keys into what is still to come can
best wait: because they are deferrable, or because they may be NULL for a while. Such a
key, and every key of a table into itself, is *late*: a row whose target has not been
written yet is written without it, or with the check deferred, and bound afterwards.
A key into a partitioned table leads to all of its partitions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agent.divergence.model import ForeignKey, Name, Table


@dataclass(frozen=True, slots=True)
class Order:
    """Tables in the order in which rows are inserted."""

    tables: tuple[Table, ...]
    late: frozenset[tuple[Name, str]]
    """Foreign keys (table, name) into the table itself or into one that comes later."""

    def late_keys(self, table: Table) -> tuple[ForeignKey, ...]:
        """Return a table's foreign keys whose target may come later."""
        return tuple(
            key for key in table.foreign_keys if (table.name, key.name) in self.late
        )

    def deferrable(self) -> Iterator[tuple[Table, ForeignKey]]:
        """Yield the late keys whose check can wait for the end."""
        for table in self.tables:
            for key in self.late_keys(table):
                if key.deferrable:
                    yield table, key


def target(table: Table) -> Name:
    """Return the name under which rows of a table are written and referred to."""
    return table.root or table.name


def waits(table: Table, key: ForeignKey) -> bool:
    """Whether a row can be written before what this key leads to."""
    return key.deferrable or nullable(table, key) is not None


def nullable(table: Table, key: ForeignKey) -> str | None:
    """Return a column that switches the key off while it is NULL; None: there is none.

    A key with a NULL in any of its columns is not checked (MATCH SIMPLE, the default).
    """
    names = frozenset(key.columns)
    primary = frozenset(table.keys[0]) if table.keys else frozenset()
    for column in table.columns:
        free = not (column.not_null or column.generated or column.name in primary)
        if column.name in names and free:
            return column.name
    return None


def in_order(tables: Iterable[Table]) -> Order:
    """Return the tables so that foreign keys are met, and which keys cannot be."""
    waiting = sorted(tables, key=lambda table: table.name)
    leads = _leads(waiting)
    done: list[Table] = []
    late = {
        (table.name, key.name)
        for table in waiting
        for key in table.foreign_keys
        if table.name in leads[table.name, key.name]
    }
    while waiting:
        left = frozenset(table.name for table in waiting)
        chosen = _next(waiting, leads, left)
        late |= {
            (table.name, key.name)
            for table in chosen
            for key in table.foreign_keys
            if leads[table.name, key.name] & left
        }
        done += chosen
        gone = frozenset(table.name for table in chosen)
        waiting = [table for table in waiting if table.name not in gone]
    return Order(tuple(done), frozenset(late))


Leads = dict[tuple[Name, str], frozenset[Name]]
"""Which tables each foreign key leads to."""


def _leads(tables: Sequence[Table]) -> Leads:
    names: dict[Name, set[Name]] = {}
    for table in tables:
        names.setdefault(table.name, set()).add(table.name)
        if table.root is not None:
            names.setdefault(table.root, set()).add(table.name)
    known = {name: frozenset(found) for name, found in names.items()}
    return {
        (table.name, key.name): known.get(key.table, frozenset())
        for table in tables
        for key in table.foreign_keys
    }


def _next(waiting: Sequence[Table], leads: Leads, left: frozenset[Name]) -> list[Table]:
    """Return the tables that nothing holds up, else the best one of a circle.

    Of tables that wait, those with the fewest above them are in a circle themselves and
    do not merely wait for one.
    """
    up = {table.name: _unmet(table, leads, left) for table in waiting}
    free = [table for table in waiting if not up[table.name]]
    if free:
        return free
    above = {name: len(_reached(name, up)) for name in up}
    best = min(waiting, key=lambda table: (above[table.name], *_cost(table, leads, up)))
    return [best]


def _unmet(table: Table, leads: Leads, left: frozenset[Name]) -> frozenset[Name]:
    """Return the other tables that this one refers to and that are not written yet."""
    found: set[Name] = set()
    for key in table.foreign_keys:
        found |= leads[table.name, key.name] & left
    return frozenset(found - {table.name})


def _reached(name: Name, up: dict[Name, frozenset[Name]]) -> set[Name]:
    """Return a table with every one that is above it."""
    found = {name}
    fresh = {name}
    while fresh:
        fresh = {above for each in fresh for above in up[each]} - found
        found |= fresh
    return found


def _cost(
    table: Table, leads: Leads, up: dict[Name, frozenset[Name]]
) -> tuple[int, int, Name]:
    """Return what it costs to write this one next: keys that cannot wait, and can."""
    unmet = [
        key
        for key in table.foreign_keys
        if leads[table.name, key.name] & up[table.name]
    ]
    hard = sum(not waits(table, key) for key in unmet)
    return hard, len(unmet), table.name
