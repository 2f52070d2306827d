"""Rows whose key is taken: which of them can come under another key, and who follows.

Theory of operation. Both sides gave out one key for two different rows. Such a row
comes under a new key where a column of its key takes its numbers from a sequence; where
the winner has the same row under another key (its *twin*) it is not put in at all.
Either way, what the losing side wrote that refers to the old key has to refer to the
new one, or it would hang on a stranger's row; where that reference is part of the row's
own key, the row has another key too, and so on down. What can have no new key is left
out, and with it whatever refers to it. `Keys` remembers this; it keeps a hash of each
key, because there may be a million. Tables are surveyed parents first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from agent.divergence.model import (
    Column,
    Difference,
    DifferenceKind,
    Name,
    Table,
    Values,
)
from agent.divergence.rescue_bag import Bag
from agent.divergence.rescue_order import Order, target
from agent.divergence.rescue_quote import column_of, key_of
from agent.divergence.rescue_row import Link, Need
from agent.divergence.rescue_wish import Collisions

NUMBERS = frozenset({"smallint", "integer", "bigint"})
"""Types whose values a sequence gives out as they are."""
BORN = frozenset({DifferenceKind.LOST, DifferenceKind.COLLISION})
"""Rows that the losing side inserted."""


class Way(StrEnum):
    """How a row that the losing side inserted comes back."""

    AS_IT_IS = "as-it-is"
    DRAWN = "drawn"
    """Under a new key from the winner's sequence."""
    FOLLOWS = "follows"
    """Under a new key, because what it refers to has one."""
    SAME = "same"
    """Not at all: the winner has it under another key."""
    OUT = "out"
    """Not at all."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one row."""

    way: Way
    links: tuple[Link, ...] = ()
    """What it refers to and what lies under another key."""
    drawn: Column | None = None
    aliases: tuple[tuple[str, ...], ...] = ()
    """Keys of it that others refer to and that will not be as they were."""
    reason: str = ""
    """Why it is left out."""


class Keys:
    """A set of keys."""

    def __init__(self) -> None:
        self._found: dict[tuple[Name, tuple[str, ...]], Bag] = {}

    def add(
        self, relation: Name, names: tuple[str, ...], key: tuple[str, ...] | None
    ) -> None:
        """Remember a key; one with a NULL names nothing."""
        if key is not None and not self.has(relation, names, key):
            self._found.setdefault((relation, names), Bag()).add(hash(key))

    def has(
        self, relation: Name, names: tuple[str, ...], key: tuple[str, ...] | None
    ) -> bool:
        """Whether it is known."""
        known = self._found.get((relation, names))
        return known is not None and key is not None and hash(key) in known

    def relations(self) -> frozenset[Name]:
        """Return what the keys belong to."""
        return frozenset(relation for relation, _ in self._found)

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))


class Renumbering:
    """Decides the fate of rows, and remembers the keys that are not as they were."""

    def __init__(self, order: Order, collisions: Collisions) -> None:
        self._collisions = collisions
        self.moved = Keys()
        """Keys of rows that the winner has, or will have, under another key."""
        self.absent = Keys()
        """Keys of rows that are left out."""
        self.fresh = Keys()
        """Keys that others may refer to, of rows that are put in under them."""
        self._referred: dict[Name, set[tuple[str, ...]]] = {}
        for table in order.tables:
            for key in table.foreign_keys:
                self._referred.setdefault(key.table, set()).add(key.referenced)

    def links(self, table: Table, values: Values) -> tuple[Link, ...]:
        """Return a row's references to rows that have another key."""
        return tuple(
            Link(key, key.table, was)
            for key in table.foreign_keys
            if (was := key_of(table, values, key.columns)) is not None
            and self.moved.has(key.table, key.referenced, was)
        )

    def needs(self, table: Table, values: Values) -> tuple[Need, ...]:
        """Return a row's references to rows that are put in under the same key."""
        found = []
        for key in table.foreign_keys:
            was = key_of(table, values, key.columns)
            own = key.table == target(table) and was == key_of(
                table, values, key.referenced
            )
            if was is None or own or self.moved.has(key.table, key.referenced, was):
                continue
            if self.fresh.has(key.table, key.referenced, was):
                found.append(Need(key.table, key.referenced, was))
        return tuple(found)

    def notes(
        self, table: Table, values: Values, aliases: tuple[tuple[str, ...], ...]
    ) -> tuple[Need, ...]:
        """Return what others may need of a row that is put in."""
        relation = target(table)
        return tuple(
            Need(relation, names, was)
            for names in sorted(self._referred.get(relation, ()))
            if names not in aliases
            and (was := key_of(table, values, names)) is not None
        )

    def orphaned(self, table: Table, values: Values) -> Name | None:
        """Return what a row refers to and what is left out; None: nothing."""
        for key in table.foreign_keys:
            was = key_of(table, values, key.columns)
            if self.absent.has(key.table, key.referenced, was):
                return key.table
        return None

    def concerns(self, table: Table) -> bool:
        """Whether rows of this table can refer to what is not under its old key."""
        changed = self.moved.relations() | self.absent.relations()
        return any(key.table in changed for key in table.foreign_keys)

    def fate(self, table: Table, one: Difference) -> Fate:
        """Decide what becomes of a row that the losing side inserted."""
        values = one.loser or ()
        if one.twin is not None:
            return Fate(Way.SAME, aliases=self._changed(table, values, one.twin))
        above = self.orphaned(table, values)
        if above is not None:
            reason = f"it refers to a row of {above} that is left out"
            return Fate(Way.OUT, reason=reason)
        links = self.links(table, values)
        rewritten = {name for link in links for name in link.key.columns}
        key = frozenset(table.keys[0]) if table.keys else frozenset()
        if rewritten & key:
            return Fate(Way.FOLLOWS, links, None, self._aliases(table, rewritten))
        if one.kind is not DifferenceKind.COLLISION:
            return Fate(Way.AS_IT_IS, links)
        return self._collided(table, links, rewritten)

    def _collided(
        self, table: Table, links: tuple[Link, ...], rewritten: set[str]
    ) -> Fate:
        if self._collisions is not Collisions.RENUMBER:
            return Fate(Way.OUT, reason="the winner gave its key to another row")
        drawn = numbered(table)
        if drawn is None:
            reason = "the winner gave its key to another row, and no column of the key"
            return Fate(Way.OUT, reason=f"{reason} takes its values from a sequence")
        aliases = self._aliases(table, {*rewritten, drawn.name})
        return Fate(Way.DRAWN, links, drawn, aliases)

    def remember(self, table: Table, one: Difference) -> None:
        """Note the keys under which a row will not be found on the winner."""
        fate, values = self.fate(table, one), one.loser or ()
        if fate.way is Way.OUT:
            for names in self._referred.get(target(table), ()):
                key = key_of(table, values, names)
                self.absent.add(target(table), names, key)
        for names in fate.aliases:
            self.moved.add(target(table), names, key_of(table, values, names))
        if fate.way not in {Way.OUT, Way.SAME}:
            for need in self.notes(table, values, fate.aliases):
                self.fresh.add(need.relation, need.names, need.was)

    def _aliases(
        self, table: Table, changed: Iterable[str]
    ) -> tuple[tuple[str, ...], ...]:
        """Return the keys with a changed column: the first, and those referred to."""
        names = [table.keys[0], *sorted(self._referred.get(target(table), ()))]
        found = dict.fromkeys(each for each in names if set(each) & set(changed))
        return tuple(found)

    def _changed(
        self, table: Table, was: Values, now: Values
    ) -> tuple[tuple[str, ...], ...]:
        pairs = zip(table.columns, was, now, strict=True)
        changed = [column.name for column, old, new in pairs if old != new]
        return self._aliases(table, changed) if table.keys else ()


def numbered(table: Table) -> Column | None:
    """Return the key's column that takes its numbers from a sequence."""
    for name in table.keys[0] if table.keys else ():
        column = column_of(table, name)
        if column.sequence is not None and column.type in NUMBERS:
            return column
    return None


def numbers(table: Table) -> Iterator[tuple[int, Name]]:
    """Yield the columns, by their place, whose numbers a sequence gives out."""
    for place, column in enumerate(table.columns):
        if column.sequence is not None and column.type in NUMBERS:
            yield place, column.sequence
