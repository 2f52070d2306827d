"""What there is to rescue, read through once before a word is written.

Theory of operation. The differences of each table are read twice or more, never held:
first to count, to find which keys collided, how high the keys of lost rows go and
which rows of one table refer to rows of the same table or of one that comes later; then
to write. Rows that both sides inserted alike are no difference, but where they refer
to a row that gets another key they are two rows after all: those are found here, among
what the losing side inserted, and handed on as lost.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.divergence.model import (
    Difference,
    DifferenceKind,
    Name,
    Table,
    Values,
)
from agent.divergence.rescue_bag import Bag
from agent.divergence.rescue_order import Order, in_order, target
from agent.divergence.rescue_quote import key_of
from agent.divergence.rescue_renumber import (
    BORN,
    Keys,
    Renumbering,
    Way,
    numbers,
)
from agent.divergence.rescue_wish import Collisions, Only, Wish
from agent.errors import DivergenceError

ROUNDS_MAX = 50
"""Times that a table is read to follow references into itself."""
ALIKE = "the winner has a row alike, which refers to another row than this one did"


KINDS = {
    None: frozenset(DifferenceKind),
    Only.LOST: frozenset({DifferenceKind.LOST}),
    Only.CONFLICTS: frozenset({DifferenceKind.CONFLICT}),
    Only.COLLISIONS: frozenset({DifferenceKind.COLLISION}),
}


class Source(Protocol):
    """Where the rows come from. Each call reads them again."""

    def differences(self, table: Table) -> Iterator[Difference]:
        """Yield what sets a table apart from the winner's."""
        ...

    def born(self, table: Table) -> Iterator[Values]:
        """Yield the rows that the losing side inserted, differing or not."""
        ...


@dataclass(slots=True)
class Found:
    """What one table holds."""

    counts: Counter[DifferenceKind] = field(default_factory=Counter)
    ranges: dict[Name, tuple[int, int]] = field(default_factory=dict)
    """Of each sequence the lowest and highest number among the rows to put in."""
    collided: int = 0
    """Collisions without a twin."""
    twins: int = 0
    """Rows that the winner has under another key."""


class Survey:
    """Everything that has to be known before the first row is written."""

    def __init__(
        self,
        tables: Collection[Table],
        source: Source,
        wish: Wish,
        missing: Mapping[Name, str],
    ) -> None:
        """Read all tables. Raises DivergenceError where collisions are to fail."""
        self.wish = wish
        self.missing = missing
        """Tables that cannot be written, and why."""
        self.order: Order = in_order(each for each in tables if each.kind == "r")
        self.views = tuple(each for each in tables if each.kind == "m")
        self.fates = Renumbering(self.order, wish.collisions)
        self.coming = Keys()
        """Keys of rows that others refer to and that may be written after those."""
        self.found: dict[Name, Found] = {}
        self._source = source
        self._awaited = self._late_targets()
        for table in self.order.tables:
            self._read(table)
        if wish.collisions is Collisions.FAIL:
            self._refuse_collisions()

    def rows(self, table: Table) -> Iterator[Difference]:
        """Yield the differences, with rows that only seem to be alike as lost."""
        if not self.fates.concerns(table):
            yield from self._source.differences(table)
            return
        apart = Bag()
        for one in self._source.differences(table):
            if one.loser is not None and self._elsewhere(table, one.loser):
                apart.add(hash(one.loser))
            yield one
        for values in self._source.born(table):
            if self._elsewhere(table, values) and not apart.take(hash(values)):
                yield Difference(DifferenceKind.LOST, values, None, note=ALIKE)

    def ranges(self, table: Table) -> dict[Name, tuple[int, int]]:
        """Return the lowest and highest number that will be taken of each sequence.

        Of all tables that share it, because partitions do.
        """
        own = self.found[table.name].ranges
        found: dict[Name, tuple[int, int]] = {}
        for each in self.found.values():
            for sequence, (low, high) in each.ranges.items():
                if sequence in own:
                    lowest, highest = found.get(sequence, (low, high))
                    found[sequence] = min(low, lowest), max(high, highest)
        return found

    def is_referred_to(self, table: Table) -> bool:
        """Whether rows here may be held by rows that are written too."""
        return any(
            key.table in {table.name, table.root}
            for child in self.order.tables
            for key in child.foreign_keys
        )

    @property
    def needs_ledger(self) -> bool:
        """Whether anything has to be remembered on the winner."""
        keyless = any(
            not table.keys and sum(self.found[table.name].counts.values())
            for table in self.order.tables
        )
        drawn = any(found.collided for found in self.found.values())
        return keyless or drawn or len(self.fates.moved) > 0

    def _elsewhere(self, table: Table, values: Values) -> bool:
        return bool(
            self.fates.links(table, values) or self.fates.orphaned(table, values)
        )

    def _late_targets(self) -> dict[Name, set[tuple[str, ...]]]:
        found: dict[Name, set[tuple[str, ...]]] = {}
        for table in self.order.tables:
            for key in self.order.late_keys(table):
                found.setdefault(key.table, set()).add(key.referenced)
        return found

    def _read(self, table: Table) -> None:
        found = self.found.setdefault(table.name, Found())
        sequences = tuple(numbers(table))
        for one in self.rows(table):
            found.counts[one.kind] += 1
            if one.kind in BORN and one.loser is not None:
                self._remember(table, one, found)
                _widen(found.ranges, sequences, one.loser)
        self._follow(table)

    def _remember(self, table: Table, one: Difference, found: Found) -> None:
        fate = self.fates.fate(table, one)
        if one.kind is DifferenceKind.COLLISION and fate.way in {Way.OUT, Way.DRAWN}:
            found.collided += 1
        found.twins += fate.way is Way.SAME
        self.fates.remember(table, one)
        for names in self._awaited.get(target(table), ()):
            self.coming.add(target(table), names, key_of(table, one.loser or (), names))

    def _follow(self, table: Table) -> None:
        """Read on while rows are found that refer to what was found before."""
        if not any(key.table == target(table) for key in table.foreign_keys):
            return
        for _ in range(ROUNDS_MAX):
            before = len(self.fates.moved) + len(self.fates.absent)
            if not before or not self.fates.concerns(table):
                return
            for one in self.rows(table):
                if one.kind in BORN and one.loser is not None:
                    self.fates.remember(table, one)
            if len(self.fates.moved) + len(self.fates.absent) == before:
                return

    def _refuse_collisions(self) -> None:
        bad = [
            f"{name}: {found.collided}"
            for name, found in self.found.items()
            if found.collided
        ]
        if bad:
            raise DivergenceError(
                "both sides gave one key to two different rows: " + "; ".join(bad),
                "--collisions renumber gives them new keys, skip leaves them out",
            )


def _widen(
    ranges: dict[Name, tuple[int, int]],
    sequences: tuple[tuple[int, Name], ...],
    values: Values,
) -> None:
    for place, sequence in sequences:
        value = values[place]
        if value is not None:
            low, high = ranges.get(sequence, (int(value), int(value)))
            ranges[sequence] = min(low, int(value)), max(high, int(value))
