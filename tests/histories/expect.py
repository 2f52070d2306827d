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
3. A row born on the loser whose first key a row of the winner has, born or moved there:
   the same values are nothing, others a COLLISION with that row as `winner`. Whether
   it has one or not, a row born on the winner under another of the keys makes it a
   COLLISION too, with that row as `twin`. Under no key: LOST.
4. A table without a key: born rows of equal values cancel each other one by one.

A table whose file was made anew past the fork (VACUUM FULL, CLUSTER, a type changed)
keeps no trace of which of its rows are old, and without the winner's log no table does.
There the rows must be right all the same, `Blurred` says how, while the kind may be any
that is left open.
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
        self.kinds = {each.name: each.kind for each in spec.columns}
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
        return all(
            self._meaning(each, one[each]) == self._meaning(each, other[each])
            for each in self.shared
        )

    def _meaning(self, column: str, text: str | None) -> str | None:
        kind = self.kinds.get(column)
        return text if text is None or kind is None else kind.meaning(text)

    def differences(self) -> Iterator[Finding]:
        """Yield them."""
        self._fold(self.loser, self.winner)
        self._fold(self.winner, self.loser)
        yield from self._old()
        yield from self._loose() if self.keyless else self._born()

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
            first = met[0]
            born = [each for each in met[1:] if each and each not in self.fork]
            other = born[0] if born and born[0] != first else None
            if first is None and other is None:
                yield Finding(LOST, row, None)
            elif first is None or not self.same(row, self.winner[first]):
                theirs = None if first is None else self.winner[first]
                twin = None if other is None else self.winner[other]
                yield Finding(COLLISION, row, theirs, twin)

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


@dataclass
class Blurred:
    """What can be asked of a table whose rows' past is not known."""

    spec: TableSpec
    fork: dict[int, Row]
    loser: Side
    winner: Side
    by_log: bool

    def problems(self, found: list[Expected], unknown: int) -> Iterator[str]:
        """Yield what is wrong in what was reported of it.

        `unknown`: so many deleted rows were said to be past telling.
        """
        case = TableCase(self.spec, self.fork, self.loser, self.winner)
        wanted = expected(self.spec, self.fork, self.loser, self.winner)
        found = [each for each in found if self._is_here(each)]
        named = Counter(each.loser for each in found if each.loser is not None)
        for one in wanted:
            if one.loser is not None and not named[one.loser]:
                yield f"missed: {one}"
        told = {each.winner for each in found if each.loser is None}
        gone = [one for one in wanted if one.loser is None and one.winner not in told]
        sure = [one for one in gone if not self._is_dark(one)]
        if len(sure) > unknown:
            yield f"{len(sure)} deleted, {unknown} said to be unknown: {sure[0]}"
        twice = [texts for texts, times in named.items() if times > 1]
        if twice:
            yield f"told twice: {twice[:3]}"
        yield from self._baseless(case, found)

    def _is_here(self, one: Expected) -> bool:
        same = (self.spec.database, self.spec.schema)
        leaves = self.spec.leaves or (self.spec.name,)
        return (one.database, one.schema) == same and one.table in leaves

    def _is_dark(self, deleted: Expected) -> bool:
        """Whether nobody can say that the loser ever had this row of the winner.

        Its own file is a new one. What the winner wrote past the fork may then be new,
        unless a log tells; where the winner's file is new too, no log does.
        """
        table = table_id(self.spec)
        if table not in self.loser.rewritten | self.loser.emptied:
            return False
        wrote = deleted.kind is CONFLICT and not self.by_log
        return wrote or table in self.winner.rewritten

    def _baseless(self, case: TableCase, found: list[Expected]) -> Iterator[str]:
        """Yield what was reported and is not so."""
        mine = {case.texts(row): row for row in case.loser.values()}
        theirs = {case.texts(row): row for row in case.winner.values()}
        theirs_alone = {
            case.texts(row)
            for who, row in case.winner.items()
            if who in case.theirs or who not in case.fork
        }
        key = self.spec.keys[0]
        ours = {self.spec.key_of(key, row) for row in mine.values()}
        there = {self.spec.key_of(key, row) for row in theirs.values()}
        for one in found:
            row = None if one.loser is None else mine.get(one.loser)
            other = None if one.winner is None else theirs.get(one.winner)
            wrong = (one.loser is not None and row is None) or (
                one.winner is not None and other is None
            )
            if row is not None and other is not None:
                wrong |= case.same(row, other)
            elif row is not None:
                wrong |= self.spec.key_of(key, row) in there and one.kind is LOST
            elif other is not None:
                wrong |= self.spec.key_of(key, other) in ours
            if wrong:
                yield f"not so: {one}"
            if one.kind in (CHANGED, DELETED) and one.winner in theirs_alone:
                yield f"the winner wrote that row, and a rescue would undo it: {one}"
