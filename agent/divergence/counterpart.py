"""The winner's table that stands against one of the losing side's.

Theory of operation. A row of the fork is known by its place, as long as both sides
still have the file that they had there. What the winner did to it tells the winner's
own story, read from its log. Without that story its rows speak for themselves: a row
whose `xmin` is older than the fork is as it was; one that is younger was inserted or
changed, nobody can say which; one that is not where it was, was changed or deleted.
Where the winner rewrote the table, places say nothing, and rows are found by key alone.
A young row of which the story does not know was written while it was read.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from agent.divergence import values
from agent.divergence.model import Place, Table, Values
from agent.divergence.sameness import Sameness
from agent.divergence.story import Rows
from agent.postgres.connect import Session


class Fate(Enum):
    """What became of a row on the winner since the fork."""

    KEPT = auto()
    """It is as it was."""
    CHANGED = auto()
    """It was there at the fork and is not as it was."""
    DELETED = auto()
    """It was there at the fork and is no more."""
    BORN = auto()
    """It was not there at the fork."""
    YOUNG = auto()
    """Inserted or changed past the fork, nobody can say which."""
    UNSEEN = auto()
    """Changed or deleted past the fork, nobody can say which."""


@dataclass(frozen=True, slots=True)
class Theirs:
    """One row as the winner has it."""

    fate: Fate
    place: Place | None
    """Where it is now."""
    was: Place | None
    """Where it was at the fork, where that is known."""
    values: Values | None
    """In the order of the losing side's columns."""


@dataclass(frozen=True, slots=True)
class Footing:
    """What is known of a table's rows on the winner beside the rows themselves."""

    same_file: bool
    """Whether both sides still have the file that they had at the fork."""
    told: Rows | None
    """What the winner's story says of its present file; None without a story."""
    is_young: Callable[[int], bool]
    """Whether a transaction id was first given past the fork."""
    carried_by: int | None = None
    """The transaction that rewrote the table there, if one did: it may have stamped
    rows that it only carried over."""


class Counterpart:
    """One table of the winner, asked in the terms of the losing side's."""

    def __init__(
        self, session: Session, ours: Table, theirs: Table, footing: Footing
    ) -> None:
        told = footing.told
        self.sameness = Sameness(ours, theirs)
        self.table = theirs
        self.same_file = footing.same_file
        self._session = session
        self._told = told
        self._is_young = footing.is_young
        self._carried_by = footing.carried_by
        self._now = {was: now for now, was in told.moved.items()} if told else {}
        self.keys = tuple(
            key
            for key in ours.keys
            if all(name not in self.sameness.only_ours for name in key)
        )

    def at_fork(self, places: Sequence[Place]) -> dict[Place, Theirs]:
        """Return what became of the rows that were at these places at the fork.

        Raises PostgresError.
        """
        if not self.same_file:
            return {was: Theirs(Fate.UNSEEN, None, was, None) for was in places}
        if self._told is None:
            return self._by_xmin(places)
        gone = self._told.gone
        asked = {self._now.get(was, was): was for was in places if was not in gone}
        found = {was: Theirs(Fate.DELETED, None, was, None) for was in places}
        for place, xmin, row in values.fetch(self._session, self.table, list(asked)):
            was = asked[place]
            aligned = self.sameness.aligned(row)
            if was in self._now:
                found[was] = Theirs(Fate.CHANGED, place, was, aligned)
            elif self._is_young(xmin):
                found[was] = Theirs(Fate.UNSEEN, None, was, None)
            else:
                found[was] = Theirs(Fate.KEPT, place, was, aligned)
        return found

    def by_key(
        self, columns: Sequence[str], keys: Sequence[Values]
    ) -> dict[int, Theirs]:
        """Return the rows with these keys, by index into `keys`.

        Raises PostgresError.
        """
        return {
            index: self._seen(place, xmin, row)
            for index, place, xmin, row in values.fetch_by_key(
                self._session, self.table, columns, keys
            )
        }

    def born(self) -> Iterable[Theirs]:
        """Yield the rows that the winner inserted, or may have.

        Raises PostgresError.
        """
        if self._told is not None and self.same_file:
            places = sorted(self._told.born)
            for place, xmin, row in values.fetch(self._session, self.table, places):
                yield self._seen(place, xmin, row)
            return
        for theirs in self.everything():
            if theirs.fate in (Fate.BORN, Fate.YOUNG):
                yield theirs

    def everything(self) -> Iterable[Theirs]:
        """Yield every row. Raises PostgresError."""
        for place, xmin, row in values.fetch_all(self._session, self.table):
            yield self._seen(place, xmin, row)

    def _by_xmin(self, places: Sequence[Place]) -> dict[Place, Theirs]:
        found = {was: Theirs(Fate.UNSEEN, None, was, None) for was in places}
        for place, xmin, row in values.fetch(self._session, self.table, list(places)):
            if not self._is_young(xmin):
                aligned = self.sameness.aligned(row)
                found[place] = Theirs(Fate.KEPT, place, place, aligned)
        return found

    def _seen(self, place: Place, xmin: int, row: Values) -> Theirs:
        aligned = self.sameness.aligned(row)
        if self._told is not None:
            if place in self._told.born:
                return Theirs(Fate.BORN, place, None, aligned)
            was = self._told.moved.get(place)
            if was is not None:
                known = was if self.same_file else None
                return Theirs(Fate.CHANGED, place, known, aligned)
            if self.same_file and not self._is_young(xmin):
                return Theirs(Fate.KEPT, place, place, aligned)
        young = self._is_young(xmin) and xmin != self._carried_by
        if young:
            return Theirs(Fate.YOUNG, place, None, aligned)
        return Theirs(Fate.KEPT, place, place if self.same_file else None, aligned)
