"""Whether two rows say the same, one of each side.

Theory of operation. Both sides print values under the same settings, so equal texts
are equal values. Where equal values may have two texts, they are compared as what they
are: `json` keeps spaces and the order of keys, which say nothing. Columns are matched
by name; one that only one side has cannot differ. Generated columns follow from others.
"""

import json
from collections.abc import Sequence

from agent.divergence.model import Table, Values


class Sameness:
    """Compares rows of the losing side's table with rows of the winner's."""

    def __init__(self, ours: Table, theirs: Table) -> None:
        there = {column.name: at for at, column in enumerate(theirs.columns)}
        self._ours = ours
        self._order = tuple(there.get(column.name) for column in ours.columns)
        self._compared = tuple(
            (at, column.type == "json")
            for at, column in enumerate(ours.columns)
            if column.name in there and not column.generated
        )
        self._identical = self._order == tuple(range(len(theirs.columns)))
        self._plain = not any(as_json for _, as_json in self._compared)
        self._positions = {column.name: at for at, column in enumerate(ours.columns)}
        self.only_ours = tuple(c.name for c in ours.columns if c.name not in there)
        mine = set(self._positions)
        self.only_theirs = tuple(c.name for c in theirs.columns if c.name not in mine)

    def aligned(self, winner: Values) -> Values:
        """Return the winner's row in the order of our columns."""
        if self._identical:
            return winner
        return tuple(None if at is None else winner[at] for at in self._order)

    def same(self, ours: Values, aligned: Values) -> bool:
        """Whether all columns that both sides have are equal."""
        if ours == aligned:
            return True
        if self._plain and self._identical and not self.only_ours:
            return all(ours[at] == aligned[at] for at, _ in self._compared)
        return all(
            ours[at] == aligned[at] or (as_json and _same_json(ours[at], aligned[at]))
            for at, as_json in self._compared
        )

    def key(self, ours: Values, columns: Sequence[str]) -> Values | None:
        """Return the row's key; None when part of it is NULL, which names no row."""
        found = tuple(ours[self._positions[column]] for column in columns)
        return None if None in found else found


def _same_json(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    return _parsed(one) == _parsed(other)


def _parsed(text: str) -> object:
    """Return what a JSON text says, numbers as they are written."""
    try:
        return json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return text
