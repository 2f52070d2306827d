"""Who refers to whom in a rescue: what has to be there before, and how it is known.

Theory of operation. A row that refers to one that is put in too is written only when
that very row is on the winner. So each row that others may refer to is noted when it is
put in, or when it is found there just as the losing side has it: also when it is itself
not wanted this time. A row that the winner has under another key, its twin, is noted
in the ledger, if it still is as it was compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from agent.divergence.model import Difference, ForeignKey, Name, Table, Values
from agent.divergence.rescue_order import nullable, target
from agent.divergence.rescue_quote import key_of
from agent.divergence.rescue_renumber import BORN, Fate, Way
from agent.divergence.rescue_row import Link, Need, Row
from agent.divergence.rescue_sql import Statements
from agent.divergence.rescue_step import Deed, Step
from agent.divergence.rescue_survey import Survey
from agent.divergence.rescue_wish import Collisions


class Kin:
    """What rows need of each other."""

    def __init__(self, survey: Survey, statements: Statements) -> None:
        self._survey = survey
        self._statements = statements

    def awaited(self) -> Iterator[ForeignKey]:
        """Yield the keys whose target comes after what refers to it."""
        for table, key in self._survey.order.deferrable():
            missing = {table.name, key.table} & self._survey.missing.keys()
            wanted = self._survey.wish.wants(table) and not missing
            some = any(self._survey.found[table.name].counts.values())
            if wanted and some and nullable(table, key) is None:
                yield key

    def deferred(self) -> tuple[Name, ...]:
        """Return the foreign keys whose check has to wait until all is written."""
        return tuple(
            Name(table.name.schema, key.name)
            for table, key in self._survey.order.deferrable()
            if self._survey.wish.wants(table) and nullable(table, key) is None
        )

    @property
    def any_noted(self) -> bool:
        """Whether rows refer to what has to be on the winner as it was here."""
        return len(self._survey.fates.fresh) > 0

    def own(self, table: Table, values: Values, fate: Fate) -> Link | None:
        """Return what leads to a row's own new key; None: it has none."""
        if not fate.aliases:
            return None
        names = fate.aliases[0]
        here = ForeignKey("", names, target(table), names)
        return Link(here, target(table), key_of(table, values, names) or ())

    def is_awaited(self, table: Table) -> bool:
        """Whether others may refer to rows here that are not wanted."""
        found = self._survey.found[table.name]
        return bool(found.twins) or (
            target(table) in self._survey.fates.fresh.relations()
            and any(found.counts[kind] for kind in BORN)
        )

    def known(self, table: Table) -> Iterator[Step]:
        """Note rows that are not wanted: others may refer to them."""
        for one in self._survey.rows(table):
            if one.loser is None or one.kind not in BORN:
                continue
            fate = self._survey.fates.fate(table, one)
            if fate.way is Way.SAME:
                yield from self.twins(table, one, fate)
            elif fate.way is not Way.OUT and table.keys:
                yield from self.noted(table, one.loser, fate)

    def noted(self, table: Table, values: Values, fate: Fate) -> Iterator[Step]:
        """Note a row where the winner has it as the losing side does."""
        notes = self._survey.fates.notes(table, values, fate.aliases)
        if notes:
            row = Row(table, values, fate.links, aliases=fate.aliases, notes=notes)
            yield Step(Deed.PREPARED, self._statements.note(row))

    @property
    def collisions_stay(self) -> bool:
        """Whether a person chose to leave collisions, and what hangs on them."""
        return self._survey.wish.collisions is Collisions.SKIP

    def needs(
        self, table: Table, values: Values, forward: Sequence[ForeignKey] = ()
    ) -> tuple[Need, ...]:
        """Return what a row needs; what is put in after it may be missing still."""
        later = {(key.table, key.referenced) for key in forward}
        return tuple(
            replace(need, later=(need.relation, need.names) in later)
            for need in self._survey.fates.needs(table, values)
        )

    def twins(self, table: Table, one: Difference, fate: Fate) -> Iterator[Step]:
        """Note a twin under the keys that it has not."""
        values, twin = one.loser or (), one.twin or ()
        for names in fate.aliases:
            was, now = key_of(table, values, names), key_of(table, twin, names)
            if was is not None and now is not None:
                sql = self._statements.twin(table, names, (was, now), twin)
                yield Step(Deed.PREPARED, sql, one.kind, values)


def is_blank(need: Need, forward: Sequence[ForeignKey], blank: frozenset[str]) -> bool:
    """Whether a reference stays NULL for now, and is set later."""
    return all(
        not blank.isdisjoint(key.columns)
        for key in forward
        if (key.table, key.referenced) == (need.relation, need.names)
    )
