"""What must be reported of two sides: the law of classification, by identity and key.

Theory of operation. `side` holds rows by identity; an identity that was committed at
the fork is an *old* row, any other was *born* on its side. In this order:

1. A born row and an old row are one where a person would say so: the old row is alive
   on the one side, gone on the other, and there a row was born under the key that it
   has now (deleted and inserted again). The born row is then the old row's present.
2. An old row that the loser did not write is nothing. Both sides alike (both gone, too)
   is nothing. Else: the winner did not write it: CHANGED, or DELETED when it is gone;
   the winner wrote it too, or deleted it: CONFLICT. To write a row as it was is to
   write it: no log tells what it was.
3. A row born on the loser meets whatever row the winner has under the same key, born or
   moved there: the same values are nothing, others a COLLISION. `winner` is the row
   under the first key, `twin` the one under another of the keys. Under no key: LOST.
4. A table without a key: born rows of equal values cancel each other one by one; then
   one born on the loser cancels one of the same values that the loser deleted.

A table whose file was made anew past the fork (VACUUM FULL, CLUSTER, a type changed)
keeps no trace of which of its rows are old: `Expected.kinds` then lists every kind that
is true or cannot be told from it, and what the winner alone changed may be named.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent.divergence.model import DifferenceKind
from tests.histories.client import Key, Side, table_id
from tests.histories.schema import Row, TableSpec

Values = tuple[str | None, ...]
LOST, CHANGED, DELETED = (
    DifferenceKind.LOST, DifferenceKind.CHANGED, DifferenceKind.DELETED,
)  # fmt: skip
CONFLICT, COLLISION = DifferenceKind.CONFLICT, DifferenceKind.COLLISION


@dataclass(frozen=True)
class Expected:
    """One difference; hashable, so that two bags of them can be compared."""

    database: str
    schema: str
    table: str
    kind: DifferenceKind
    loser: Values | None
    """In the order of the columns that the loser has."""
    winner: Values | None
    """In the same order, None where the winner has no such column."""
    twin: Values | None = None
    """Of a collision: the winner's other row, under another of the keys."""

    def __str__(self) -> str:
        where = f"{self.database}: {self.schema}.{self.table}"
        return (
            f"{where} {self.kind.value}\n    loser  {self.loser}"
            f"\n    winner {self.winner}\n    twin   {self.twin}"
        )


class Finding(NamedTuple):
    """One difference between rows."""

    kind: DifferenceKind
    loser: Row | None
    winner: Row | None
    twin: Row | None = None


class TableCase:
    """One table (of a partitioned one: one leaf) on both sides."""

    def __init__(
        self, spec: TableSpec, fork: dict[int, Row], loser: Side, winner: Side
    ) -> None:
        self.spec, self.fork = spec, fork
        self.loser, self.winner = dict(loser.of(spec)), dict(winner.of(spec))
        table = table_id(spec)
        order = [each.name for each in spec.columns]
        self.columns = [*order, *loser.added.get(table, ())]
        self.shared = {*order} | (
            set(loser.added.get(table, ())) & set(winner.added.get(table, ()))
        )
        self.keyless = not spec.keys
        self.mine = {who for where, who in loser.written if where == table}
        self.theirs = {who for where, who in winner.written if where == table}

    def texts(self, row: Row | None) -> Values | None:
        """Return a row in the loser's order."""
        return None if row is None else tuple(row.get(each) for each in self.columns)

    def same(self, one: Row | None, other: Row | None) -> bool:
        """Whether two rows agree in what both sides have."""
        if one is None or other is None:
            return one is other
        return all(one[each] == other[each] for each in self.shared)

    def differences(self) -> Iterator[Finding]:
        """Yield them."""
        self._fold(self.loser, self.winner)
        self._fold(self.winner, self.loser)
        found = [*self._old()]
        born = [*self._born()] if not self.keyless else [*self._loose()]
        if self.keyless:
            self._cancel(found, born)
        yield from found
        yield from born

    def _fold(self, here: dict[int, Row], there: dict[int, Row]) -> None:
        """Let rows born here be the present of rows deleted here and alive there."""
        born = self._by_key(here, self.spec.keys[0]) if self.spec.keys else {}
        for who in self.fork.keys() & there.keys() - here.keys():
            key = self.spec.key_of(self.spec.keys[0], there[who]) if born else None
            again = born.get(key) if key else None
            if again is not None and again not in self.fork:
                here[who] = here.pop(again)

    def _by_key(self, rows: dict[int, Row], key: Key) -> dict[Key, int]:
        found = {}
        for who, row in rows.items():
            if (held := self.spec.key_of(key, row)) is not None:
                found[held] = who
        return found

    def _old(self) -> Iterator[Finding]:
        for who in self.fork:
            mine, theirs = self.loser.get(who), self.winner.get(who)
            if who not in self.mine or self.same(mine, theirs):
                continue
            if who in self.theirs:
                yield Finding(CONFLICT, mine, theirs)
            else:
                kind = DELETED if mine is None else CHANGED
                yield Finding(kind, mine, theirs)

    def _born(self) -> Iterator[Finding]:
        maps = [(key, self._by_key(self.winner, key)) for key in self.spec.keys]
        for who, row in self.loser.items():
            if who in self.fork:
                continue
            met = [
                held.get(mine)
                if (mine := self.spec.key_of(key, row)) is not None
                else None
                for key, held in maps
            ]
            first, others = met[0], [each for each in met[1:] if each is not None]
            if first is None and not others:
                yield Finding(LOST, row, None)
            elif first is None or not self.same(row, self.winner[first]):
                other = others[0] if others and others[0] != first else None
                theirs_now = None if first is None else self.winner[first]
                twin = None if other is None else self.winner[other]
                yield Finding(COLLISION, row, theirs_now, twin)

    def _loose(self) -> Iterator[Finding]:
        theirs = Counter(
            self.texts(row) for who, row in self.winner.items() if who not in self.fork
        )
        for who, row in self.loser.items():
            if who in self.fork:
                continue
            if theirs[self.texts(row)] > 0:
                theirs[self.texts(row)] -= 1
            else:
                yield Finding(LOST, row, None)

    def _cancel(
        self,
        old: list[Finding],
        born: list[Finding],
    ) -> None:
        for lost in list(born):
            for gone in old:
                if gone.kind is DELETED and self.same(gone.winner, lost.loser):
                    old.remove(gone)
                    born.remove(lost)
                    break


def _leaf_cases(
    spec: TableSpec, fork: dict[int, Row], loser: Side, winner: Side
) -> Iterator[tuple[str, TableCase]]:
    """Yield one case per table that holds rows; a move began a new identity."""
    if spec.leaf is None:
        yield spec.name, TableCase(spec, fork, loser, winner)
        return
    case = TableCase(spec, fork, loser, winner)
    every = [*case.fork.values(), *case.loser.values(), *case.winner.values()]
    for leaf in sorted({spec.leaf_of(row) for row in every}):
        part = TableCase(spec, fork, loser, winner)
        for held in ("fork", "loser", "winner"):
            rows = getattr(part, held)
            kept = {w: r for w, r in rows.items() if spec.leaf_of(r) == leaf}
            setattr(part, held, kept)
        yield leaf, part


def expected(
    spec: TableSpec, fork: dict[int, Row], loser: Side, winner: Side
) -> list[Expected]:
    """Return what must be reported of a table, a line for each row."""
    table = table_id(spec)
    if spec.unlogged or table in loser.missing:
        return []
    return [
        Expected(
            spec.database,
            spec.schema,
            leaf,
            one.kind,
            case.texts(one.loser),
            case.texts(one.winner),
            case.texts(one.twin),
        )
        for leaf, case in _leaf_cases(spec, fork, loser, winner)
        for one in case.differences()
    ]
