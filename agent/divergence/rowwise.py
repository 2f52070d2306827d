"""Which touched rows the winner lacks or has otherwise, by place and by key.

Theory of operation. A row that was there at the fork is looked up where the winner has
that very row now. A row that the losing side inserted is looked up by its keys. Finding
there a row of the fork that the losing side had deleted, it is the same row, written
anew; so rows that were deleted come last. An update that moves a row to another
partition is in the log a deletion there and an insertion here, under another key, and
counts so.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.divergence.counterpart import Counterpart, Fate, Theirs
from agent.divergence.model import Difference, DifferenceKind, Place, Values
from agent.divergence.outcome import Outcome, together
from agent.divergence.rowfiles import KeptRow

REKEYED = "the winner has its key on another row, which the losing side changed as well"
TAKEN = "its new key is taken on the winner, by another row"
HELD = "another row of the winner has the same "
Held = tuple[Sequence[str], Theirs]
"""The columns of a unique key, and the winner's row that has the same."""
NO_KEY = "the table has no key by which the winner's row could be found"


class RowWise:
    """Compares the rows of one table that the losing side touched."""

    def __init__(self, theirs: Counterpart, gone: set[Place], outcome: Outcome) -> None:
        """`gone`: where the rows were at the fork that the losing side deleted."""
        self._theirs = theirs
        self._gone = gone
        self._moved: set[Place] = set()
        self._outcome = outcome
        self._key = theirs.keys[0] if theirs.keys else ()

    def changed(self, rows: Iterable[KeptRow]) -> None:
        """Compare rows that were there at the fork and were updated."""
        for batch in together(rows):
            self._changed([row for row in batch if row.was is not None])

    def _changed(self, batch: Sequence[KeptRow]) -> None:
        places = [row.was for row in batch if row.was is not None]
        self._moved.update(places)
        fates = self._theirs.at_fork(places)
        pairs = [(row, fates[row.was]) for row in batch if row.was is not None]
        under = self._under_key([row for row, fate in pairs if self._asks(row, fate)])
        for row, fate in pairs:
            self._judge_changed(row, fate, under.get(row.now))

    def _asks(self, row: KeptRow, fate: Theirs) -> bool:
        """Whether it must be known what the winner has under the row's present key."""
        if fate.values is None:
            return True
        ours, key = row.values or (), self._key
        if not key:
            return False
        same = self._theirs.sameness
        return same.key(ours, key) != same.key(fate.values, key)

    def _under_key(self, rows: Sequence[KeptRow]) -> dict[Place | None, Theirs]:
        found: dict[Place | None, Theirs] = {}
        for row, theirs in self._lookup(self._key, rows):
            found[row.now] = theirs
        return found

    def _judge_changed(self, row: KeptRow, fate: Theirs, under: Theirs | None) -> None:
        theirs = fate
        if fate.values is None and under is not None:
            theirs = replace(under, fate=_of_both(fate.fate, under.fate))
        if theirs.values is not None and self._same(row, theirs.values):
            self._outcome.equal += 1
        elif theirs.fate is Fate.KEPT:
            taken = under is not None and under.place != theirs.place
            self._add(row, DifferenceKind.CHANGED, theirs, TAKEN if taken else "")
        else:
            lost_sight = fate.fate is Fate.UNSEEN and not self._key
            self._add(row, DifferenceKind.CONFLICT, theirs, NO_KEY * lost_sight)

    def born(self, rows: Iterable[KeptRow]) -> None:
        """Compare rows that the losing side inserted."""
        if not self._key:
            self._born_without_key(rows)
            return
        for batch in together(rows):
            found = self._under_key(batch)
            held = self._held(batch)
            for row in batch:
                hit = found.get(row.now)
                if hit is not None:
                    self._judge_born(row, hit, held.get(row.now))
                else:
                    self._judge_missing(row, held.get(row.now))

    def _judge_born(self, row: KeptRow, hit: Theirs, held: Held | None) -> None:
        kind = DifferenceKind.COLLISION
        rekeyed = hit.was is not None and hit.was in self._moved
        if hit.fate in (Fate.KEPT, Fate.CHANGED) and not rekeyed:
            if hit.was is None or hit.was in self._gone:
                kept = hit.fate is Fate.KEPT
                kind = DifferenceKind.CHANGED if kept else DifferenceKind.CONFLICT
            if hit.was is not None:
                self._gone.discard(hit.was)
        if hit.values is not None and self._same(row, hit.values):
            self._outcome.equal += 1
            return
        twin = held[1] if held is not None and held[1].place != hit.place else None
        if kind is not DifferenceKind.COLLISION:
            twin = None
        self._add(row, kind, hit, REKEYED if rekeyed else "", twin)

    def _judge_missing(self, row: KeptRow, held: Held | None) -> None:
        if held is None:
            self._lost(row)
            return
        columns, theirs = held
        if theirs.fate in (Fate.BORN, Fate.YOUNG):
            nothing = Theirs(Fate.UNSEEN, None, None, None)
            self._add(row, DifferenceKind.COLLISION, nothing, twin=theirs)
        else:
            self._lost(row, HELD + ", ".join(columns))

    def _held(self, rows: Sequence[KeptRow]) -> dict[Place | None, Held]:
        """Return the winner's rows that have the same further unique key."""
        found: dict[Place | None, Held] = {}
        for columns in self._theirs.keys[1:]:
            left = [row for row in rows if row.now not in found]
            for row, theirs in self._lookup(columns, left):
                found[row.now] = (columns, theirs)
        return found

    def _lookup(
        self, columns: Sequence[str], rows: Sequence[KeptRow]
    ) -> Iterable[tuple[KeptRow, Theirs]]:
        same = self._theirs.sameness
        asked: list[tuple[KeptRow, Values]] = []
        for row in rows:
            key = same.key(row.values or (), columns) if columns else None
            if key is not None:
                asked.append((row, key))
        found = self._theirs.by_key(columns, [key for _, key in asked]) if asked else {}
        return [(asked[index][0], theirs) for index, theirs in found.items()]

    def _born_without_key(self, rows: Iterable[KeptRow]) -> None:
        """Compare as multisets: a row that both sides inserted counts once on each."""
        there: Counter[Values] = Counter(
            theirs.values for theirs in self._theirs.born() if theirs.values is not None
        )
        for row in rows:
            ours = row.values or ()
            if there[ours] > 0:
                there[ours] -= 1
                self._outcome.equal += 1
            else:
                self._lost(row)

    def gone(self) -> None:
        """Compare what was deleted and was not found written anew."""
        for batch in together(sorted(self._gone)):
            for theirs in self._theirs.at_fork(batch).values():
                self._judge_gone(theirs)

    def _judge_gone(self, theirs: Theirs) -> None:
        if theirs.fate is Fate.DELETED:
            self._outcome.equal += 1
        elif theirs.values is None:
            self._outcome.unknown += 1
        else:
            kept = theirs.fate is Fate.KEPT
            kind = DifferenceKind.DELETED if kept else DifferenceKind.CONFLICT
            fork = theirs.values if kept else None
            self._outcome.add(Difference(kind, None, theirs.values, fork))

    def _same(self, row: KeptRow, theirs: Values) -> bool:
        return row.values is not None and self._theirs.sameness.same(row.values, theirs)

    def _lost(self, row: KeptRow, note: str = "") -> None:
        lost = DifferenceKind.LOST
        self._outcome.add(Difference(lost, row.values, None, xid=row.xid, note=note))

    def _add(
        self,
        row: KeptRow,
        kind: DifferenceKind,
        theirs: Theirs,
        note: str = "",
        twin: Theirs | None = None,
    ) -> None:
        kept = kind is DifferenceKind.CHANGED
        self._outcome.add(
            Difference(
                kind,
                row.values,
                theirs.values,
                fork=theirs.values if kept else None,
                xid=row.xid,
                twin=twin.values if twin is not None else None,
                note=note,
            )
        )


def _of_both(by_place: Fate, by_key: Fate) -> Fate:
    """Return the fate of a row that only its key has found."""
    return by_key if by_place is Fate.UNSEEN else by_place
