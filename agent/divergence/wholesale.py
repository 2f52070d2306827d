"""Comparing a whole table, where places say nothing of what was at the fork.

Theory of operation. A table that the losing side rewrote or emptied has a new file. All
its rows are compared, by key, and what only the winner has and had at the fork was
deleted. Rows that came into the new file later are the losing side's own; for those
that the rewrite carried over, their `xmin` tells whether they were changed before it:
VACUUM FULL and CLUSTER keep it, ALTER TABLE stamps all rows. Then what the log says of
the file before decides: had nothing been changed there, all was but carried over. A
row whose key was changed counts as deleted and inserted. Without a key the rows are two
multisets.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from agent.divergence.counterpart import Counterpart, Fate, Theirs
from agent.divergence.model import Difference, DifferenceKind, Place, Values
from agent.divergence.outcome import Outcome, together
from agent.divergence.rowfiles import KeptRow

PERHAPS = (
    "or it was there at the fork and the winner deleted it: the table was rewritten"
)


class Touch(Enum):
    """What the losing side did to a row that reads as it does."""

    INSERTED = auto()
    CHANGED = auto()
    """It was there at the fork, and was changed."""
    WROTE = auto()
    """Inserted or changed, nobody can say which."""
    NOTHING = auto()
    """It was there at the fork, and was only carried over."""
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of the losing side's rows from before their file was replaced."""

    is_young: Callable[[int], bool]
    """Whether a transaction id was first given past the fork."""
    made_by: int | None
    """The transaction that made the present file."""
    untouched: bool
    """Whether the log shows that no row was written in the file before this one."""

    def touch(self, row: KeptRow) -> Touch:
        """Return what the losing side did to this row."""
        if row.was is None:
            return Touch.INSERTED
        if row.was != row.now:
            return Touch.CHANGED if self.untouched else Touch.WROTE
        if row.xid is None:
            return Touch.UNKNOWN
        if row.xid == self.made_by:
            return Touch.NOTHING if self.untouched else Touch.UNKNOWN
        return Touch.WROTE if self.is_young(row.xid) else Touch.NOTHING


class Wholesale:
    """Compares all rows of one table."""

    def __init__(self, theirs: Counterpart, before: Before, outcome: Outcome) -> None:
        self._theirs = theirs
        self._before = before
        self._outcome = outcome
        self._matched: set[Place] = set()

    def compare(self, rows: Iterable[KeptRow]) -> None:
        """Compare every row of the losing side, and then what only the winner has.

        Raises PostgresError.
        """
        if not self._theirs.keys:
            self._as_multisets(rows)
            return
        key = self._theirs.keys[0]
        for batch in together(rows):
            self._compare(batch, key)
        for theirs in self._theirs.everything():
            if theirs.place not in self._matched:
                self._judge_unmatched(theirs)

    def _compare(self, batch: Sequence[KeptRow], columns: Sequence[str]) -> None:
        same = self._theirs.sameness
        asked: list[tuple[KeptRow, Values]] = []
        for row in batch:
            key = same.key(row.values or (), columns)
            if key is None:
                self._judge_missing(row)
            else:
                asked.append((row, key))
        found = self._theirs.by_key(columns, [key for _, key in asked])
        for index, (row, _) in enumerate(asked):
            theirs = found.get(index)
            if theirs is None:
                self._judge_missing(row)
            else:
                self._judge_pair(row, theirs)

    def _judge_missing(self, row: KeptRow) -> None:
        touch = self._before.touch(row)
        if touch is Touch.NOTHING:
            return  # it was there at the fork, and only the winner touched it
        kind, note = DifferenceKind.LOST, ""
        if touch is Touch.CHANGED:
            kind = DifferenceKind.CONFLICT
        elif touch is not Touch.INSERTED:
            note = PERHAPS
        self._outcome.add(Difference(kind, row.values, None, xid=row.xid, note=note))

    def _judge_pair(self, row: KeptRow, theirs: Theirs) -> None:
        if theirs.place is not None:
            self._matched.add(theirs.place)
        ours, other = row.values, theirs.values
        if ours is None or other is None or self._theirs.sameness.same(ours, other):
            self._outcome.equal += 1
            return
        kind = _kind(self._before.touch(row), theirs.fate)
        if kind is not None:
            fork = other if kind is DifferenceKind.CHANGED else None
            self._outcome.add(Difference(kind, ours, other, fork, row.xid))

    def _judge_unmatched(self, theirs: Theirs) -> None:
        """Judge a row that only the winner has."""
        if theirs.fate is Fate.KEPT:
            deleted = DifferenceKind.DELETED
            self._outcome.add(Difference(deleted, None, theirs.values, theirs.values))
        elif theirs.fate is Fate.CHANGED:
            self._outcome.add(Difference(DifferenceKind.CONFLICT, None, theirs.values))

    def _as_multisets(self, rows: Iterable[KeptRow]) -> None:
        there: Counter[bytes] = Counter(
            _digest(theirs.values) for theirs in self._theirs.everything()
        )
        for row in rows:
            mark = _digest(row.values)
            if there[mark] > 0:
                there[mark] -= 1
                self._outcome.equal += 1
            else:
                self._judge_missing(row)
        for theirs in self._theirs.everything():
            mark = _digest(theirs.values)
            if there[mark] > 0 and theirs.fate is Fate.KEPT:
                there[mark] -= 1
                self._judge_unmatched(theirs)


def _kind(touch: Touch, fate: Fate) -> DifferenceKind | None:
    """Return what a pair of rows under one key is; None: only the winner wrote."""
    if fate is Fate.KEPT:
        return DifferenceKind.CHANGED
    if touch is Touch.NOTHING:
        return None
    if touch is Touch.INSERTED and fate in (Fate.BORN, Fate.YOUNG):
        return DifferenceKind.COLLISION
    if touch is Touch.WROTE and fate is Fate.BORN:
        return DifferenceKind.COLLISION
    return DifferenceKind.CONFLICT  # where nobody can say, too: nothing is doubled then


def _digest(row: Values | None) -> bytes:
    """Return what stands for a row that is not kept in memory itself."""
    text = json.dumps(row, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()
