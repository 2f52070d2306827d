"""The plan of a rescue: statements, table by table, in an order that can be kept.

Theory of operation. Each table, parents first: its sequences go past what is put in, so
that no number is given out twice; then what the losing side deleted and nothing refers
to, which may free a unique value; then what it changed; then what it inserted, rows
that others of the same table refer to first. A row whose target comes later still is
put in without the reference, where that may be NULL. When all tables are done, those
references are set, and what was still referred to is deleted, children first.
Every statement is a `Step`; what is left out is one too, with the reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from agent.divergence.model import Difference, DifferenceKind, ForeignKey, Table, Values
from agent.divergence.rescue_bag import Bag
from agent.divergence.rescue_kin import Kin, is_blank
from agent.divergence.rescue_order import nullable, target
from agent.divergence.rescue_quote import fingerprint, key_of, shown
from agent.divergence.rescue_renumber import BORN, Fate, Keys, Way
from agent.divergence.rescue_row import Need, Row
from agent.divergence.rescue_sql import Statements
from agent.divergence.rescue_step import Deed, Part, Step, left_out
from agent.divergence.rescue_survey import KINDS, Survey
from agent.divergence.rescue_wish import OnConflict

HELD_MAX = 20_000
"""Rows that wait in memory for the row that they refer to."""
ELSEWHERE = "the winner has it under another key"
KEYLESS = "it has no key, and what it refers to gets a new one or is put in too"
IN_A_CIRCLE = "it refers, in a circle, to a row that gets a new key after it"


class Plan:
    """All steps of a rescue, streamed. One run of it at a time."""

    def __init__(self, survey: Survey, origin: str) -> None:
        self.survey = survey
        self.origin = origin
        self.statements = Statements(origin)
        self.kin = Kin(survey, self.statements)
        self.kinds = KINDS[survey.wish.only]
        self._written = Keys()
        self._blanked: dict[int, Bag] = {}
        self._postponed: dict[int, Bag] = {}
        self._copies = Bag()

    def parts(self) -> Iterator[Part]:
        """Yield the parts in their order; each is to be read before the next."""
        self._written, self._blanked, self._postponed = Keys(), {}, {}
        wanted = [
            table
            for table in self.survey.order.tables
            if self.survey.wish.wants(table)
            and any(self._has(table, kind) for kind in DifferenceKind)
        ]
        for table in self.survey.order.tables:
            if table in wanted:
                yield Part(table, late=False, steps=partial(self._first, table))
            elif self._writable(table) and self.kin.is_awaited(table):
                yield Part(table, late=False, steps=partial(self.kin.known, table))
        for table in wanted:
            if self._writable(table) and self.survey.order.late_keys(table):
                yield Part(table, late=True, steps=partial(self._bindings, table))
        for table in reversed(wanted):
            held = self.survey.is_referred_to(table)
            if self._writable(table) and held and self._may_delete(table):
                yield Part(
                    table, late=True, steps=partial(self._deletions, table, again=True)
                )

    def rows(self) -> Iterator[tuple[Table, Iterator[Difference]]]:
        """Yield the tables with the rows that are wanted, as they were compared."""
        for table in self.survey.order.tables:
            if self.survey.wish.wants(table):
                yield table, self._rows(table)

    @property
    def deletes(self) -> bool:
        """Whether any row may be deleted."""
        tables = self.survey.order.tables
        return any(table.keys and self._may_delete(table) for table in tables)

    def _writable(self, table: Table) -> bool:
        return table.name not in self.survey.missing

    def _has(self, table: Table, *kinds: DifferenceKind) -> bool:
        counts = self.survey.found[table.name].counts
        return any(counts[kind] and kind in self.kinds for kind in kinds)

    def _may_delete(self, table: Table) -> bool:
        theirs = self.survey.wish.on_conflict is OnConflict.THEIRS
        more = (DifferenceKind.CONFLICT,) if theirs else ()
        return self._has(table, DifferenceKind.DELETED, *more)

    def _rows(self, table: Table) -> Iterator[Difference]:
        return (one for one in self.survey.rows(table) if one.kind in self.kinds)

    def _first(self, table: Table) -> Iterator[Step]:
        if not self._writable(table):
            reason = self.survey.missing[table.name]
            for one in self._rows(table):
                yield left_out(table, one, reason)
            return
        self._copies = Bag()
        if self._has(table, *BORN):
            yield from self._advances(table)
        if not self.kinds >= BORN and self.kin.is_awaited(table):
            yield from self.kin.known(table)
        yield from self._deletions(table)
        if self._has(table, DifferenceKind.CHANGED, DifferenceKind.CONFLICT):
            for one in self._rows(table):
                yield from self._update(table, one, late=False)
        if self._has(table, *BORN, DifferenceKind.CONFLICT):
            yield from self._insertions(table)

    def _advances(self, table: Table) -> Iterator[Step]:
        for sequence, (low, high) in self.survey.ranges(table).items():
            yield Step(Deed.PREPARED, self.statements.advance(sequence, low, high))

    def _deletions(self, table: Table, *, again: bool = False) -> Iterator[Step]:
        if not self._may_delete(table):
            return
        copies, held = Bag(), self.survey.is_referred_to(table)
        for one in self._rows(table):
            if one.loser is not None:
                continue
            before = one.winner or one.fork
            if self._skipped(one) or before is None:
                continue
            if table.keys:
                sql = self.statements.delete(table, before)
                done = partial(self.statements.gone, table, before)
            else:
                number = _count(copies, before)
                sql = self.statements.change_keyless(table, before, None, number)
                claim = partial(self.statements.claimed, table, "deleted")
                done = partial(claim, before, number)
            yield Step(
                Deed.DELETED,
                sql,
                one.kind,
                before,
                again=again,
                done=done,
                retried=held and not again,
            )

    def _skipped(self, one: Difference) -> bool:
        return (
            one.kind is DifferenceKind.CONFLICT
            and self.survey.wish.on_conflict is OnConflict.SKIP
        )

    def _update(self, table: Table, one: Difference, *, late: bool) -> Iterator[Step]:
        if one.kind not in {DifferenceKind.CHANGED, DifferenceKind.CONFLICT}:
            return
        if self._skipped(one):
            if not late:
                yield left_out(table, one, "both sides changed it", chosen=True)
            return
        conflict = one.kind is DifferenceKind.CONFLICT
        before = one.winner or (None if conflict else one.fork)
        if one.loser is None or before is None:
            return
        postponed = self._postponed.setdefault(table.oid, Bag())
        if not late and self._forward(table, one.loser):
            postponed.add(hash(one.loser))
        if late == (hash(one.loser) in postponed):
            yield from self._updating(table, one, one.loser, before)

    def _updating(
        self, table: Table, one: Difference, values: Values, before: Values
    ) -> Iterator[Step]:
        above = self.survey.fates.orphaned(table, values)
        if above is not None:
            yield left_out(
                table,
                one,
                f"it refers to a row of {above} that is left out",
                chosen=self.kin.collisions_stay,
            )
            return
        links = self.survey.fates.links(table, values)
        needs = self.kin.needs(table, values)
        if table.keys:
            row = Row(table, values, links, needs=needs)
            sql = self.statements.update(row, before)
            done = partial(self.statements.alike, row)
        elif links or needs:
            yield left_out(table, one, KEYLESS)
            return
        else:
            both = (*before, *values)
            number = _count(self._copies, both)
            sql = self.statements.change_keyless(table, before, values, number)
            done = partial(self.statements.claimed, table, "changed", both, number)
        if sql:
            yield Step(
                Deed.UPDATED,
                sql,
                one.kind,
                values,
                links=links,
                needs=needs,
                done=done,
            )

    def _forward(self, table: Table, values: Values) -> tuple[ForeignKey, ...]:
        """Return the references to rows that are put in later than this one."""
        found = []
        for key in self.survey.order.late_keys(table):
            was = key_of(table, values, key.columns)
            waits = self.survey.coming.has(key.table, key.referenced, was)
            if waits and not self._written.has(key.table, key.referenced, was):
                found.append(key)
        return tuple(found)

    def _insertions(self, table: Table) -> Iterator[Step]:
        held: dict[tuple[tuple[str, ...], int], list[Difference]] = {}
        waiting = 0
        for one in self._rows(table):
            if one.loser is None or not (one.kind in BORN or _restored(one)):
                continue
            if self._skipped(one):
                continue
            missing = self._own_target(table, one.loser)
            if missing is not None and waiting < HELD_MAX:
                held.setdefault(missing, []).append(one)
                waiting += 1
                continue
            for each in self._with_followers(table, one, held):
                yield from self._insert(table, each)
        for rest in held.values():
            for one in rest:
                yield from self._insert(table, one)

    def _own_target(
        self, table: Table, values: Values
    ) -> tuple[tuple[str, ...], int] | None:
        """Return the row of the same table that this one has to wait for."""
        for key in self._forward(table, values):
            was = key_of(table, values, key.columns)
            if key.table == target(table) and was != key_of(
                table, values, key.referenced
            ):
                return key.referenced, hash(was)
        return None

    def _with_followers(
        self,
        table: Table,
        first: Difference,
        held: dict[tuple[tuple[str, ...], int], list[Difference]],
    ) -> Iterator[Difference]:
        """Yield a row, and those that waited for it and now wait for nothing."""
        ready = [first]
        while ready:
            one = ready.pop()
            values = one.loser or ()
            yield one
            for names in self._own_names(table):
                key = key_of(table, values, names)
                self._written.add(target(table), names, key)
                for each in held.pop((names, hash(key)), ()):
                    missing = self._own_target(table, each.loser or ())
                    if missing is None:
                        ready.append(each)
                    else:
                        held.setdefault(missing, []).append(each)

    def _own_names(self, table: Table) -> set[tuple[str, ...]]:
        """Return the columns by which rows of a table refer to each other."""
        return {
            key.referenced for key in table.foreign_keys if key.table == target(table)
        }

    def _insert(self, table: Table, one: Difference) -> Iterator[Step]:
        values = one.loser or ()
        fate = self.survey.fates.fate(table, one)
        if fate.way is Way.OUT:
            yield left_out(table, one, fate.reason, chosen=self.kin.collisions_stay)
        elif fate.way is Way.SAME:
            yield from self.kin.twins(table, one, fate)
            detail = f": {shown(table, one.twin or ())}"
            yield left_out(table, one, ELSEWHERE, detail, chosen=True)
        elif table.keys:
            yield from self._insert_keyed(table, one, fate)
        else:
            number = _count(self._copies, values)
            row = Row(table, values, fate.links, needs=self.kin.needs(table, values))
            apart = bool(fate.links) and number == 1
            yield Step(
                Deed.INSERTED,
                self.statements.insert_keyless(row, number, apart=apart),
                one.kind,
                values,
                links=fate.links,
                needs=row.needs,
                done=partial(self.statements.claimed, table, "lost", values, number),
            )

    def _insert_keyed(
        self, table: Table, one: Difference, fate: Fate
    ) -> Iterator[Step]:
        values = one.loser or ()
        forward = self._forward(table, values)
        blank = self._blank(table, values, forward)
        later = [link for link in fate.links if link.key in forward]
        if any(blank.isdisjoint(link.key.columns) for link in later):
            yield left_out(table, one, IN_A_CIRCLE)
            return
        links = tuple(link for link in fate.links if link.key not in forward)
        needs = tuple(
            need
            for need in self.kin.needs(table, values, forward)
            if not (need.later and is_blank(need, forward, blank))
        )
        notes: tuple[Need, ...] = ()
        if one.kind in BORN:
            notes = self.survey.fates.notes(table, values, fate.aliases)
        row = Row(table, values, links, fate.drawn, blank, fate.aliases, needs, notes)
        whole = replace(row, links=fate.links)
        yield Step(
            Deed.RENUMBERED if fate.drawn else Deed.INSERTED,
            self.statements.insert(row),
            one.kind,
            values,
            links=links,
            row=row,
            needs=needs,
            done=partial(self.statements.alike, whole),
        )
        if one.kind in BORN:
            yield from self.kin.noted(table, values, fate)

    def _blank(
        self, table: Table, values: Values, forward: Sequence[ForeignKey]
    ) -> frozenset[str]:
        """Return the columns that have to wait for what they refer to."""
        columns = {nullable(table, key) for key in forward}
        found = frozenset(name for name in columns if name is not None)
        if found:
            self._blanked.setdefault(table.oid, Bag()).add(hash(values))
        return found

    def _bindings(self, table: Table) -> Iterator[Step]:
        """Set the references that had to wait, and make the changes that did."""
        blanked = self._blanked.get(table.oid, Bag())
        for one in self._rows(table):
            yield from self._update(table, one, late=True)
            values = one.loser or ()
            if one.kind in BORN and hash(values) in blanked:
                yield from self._bind(table, one, values)

    def _bind(self, table: Table, one: Difference, values: Values) -> Iterator[Step]:
        fate = self.survey.fates.fate(table, one)
        late = {
            nullable(table, key)
            for key in self.survey.order.late_keys(table)
            if self.survey.coming.has(
                key.table, key.referenced, key_of(table, values, key.columns)
            )
        }
        before = tuple(
            None if column.name in late else value
            for column, value in zip(table.columns, values, strict=True)
        )
        needs = self.kin.needs(table, values)
        row = Row(table, values, fate.links, aliases=fate.aliases, needs=needs)
        sql = self.statements.bind(row, before, self.kin.own(table, values, fate))
        if sql:
            yield Step(
                Deed.BOUND,
                sql,
                one.kind,
                values,
                links=fate.links,
                needs=row.needs,
                done=partial(self.statements.alike, row),
            )


def _restored(one: Difference) -> bool:
    """Whether the winner deleted what the losing side changed."""
    return one.kind is DifferenceKind.CONFLICT and one.winner is None


def _count(copies: Bag, values: Sequence[str | None]) -> int:
    """Return how many rows like this one there were until now, with it."""
    return copies.add(int(fingerprint(tuple(values))[:16], 16))
