"""The losing side's rows against the winner, table by table.

Theory of operation. Tables are matched by name, or, where the winner renamed one, by
object id. As long as both sides still have the file that a table had at the fork, its
touched rows are compared one by one (`rowwise`); else all of them by key (`wholesale`).
Each table's differences go into a file of their own. A table that cannot
be read stops no other.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from agent.divergence import shelf
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.counterpart import Counterpart, Footing
from agent.divergence.extracted import DatabaseRows, Extraction, TableRows, Unread
from agent.divergence.model import Difference, DifferenceKind, Table
from agent.divergence.outcome import Outcome
from agent.divergence.rowfiles import DifferenceWriter, KeptRow, read_rows
from agent.divergence.rowwise import RowWise
from agent.divergence.story import Rows
from agent.divergence.wholesale import Before, Wholesale
from agent.divergence.winner import Winner, WinnerDatabase
from agent.errors import PostgresError

Progress = Callable[[int, int, str], None]
"""Rows done, rows in all, the table that is compared."""
TOLD_EVERY = 1000
NO_TABLE = "the winner has no such table"
VIEW = "m"
FOLLOWS = (
    "a materialised view: its rows follow from others and are not compared; REFRESH it"
)


def compare(
    extraction: Extraction,
    folder: Path,
    winner: Winner,
    progress: Progress = lambda _done, _total, _table: None,
) -> Comparison:
    """Compare every kept row, and write the differences below `folder`.

    `folder` holds the extraction's files. Raises SnapshotError when those are not what
    was written, OSError. What the winner does not give stands in the result.
    """
    shelf.make_folder(folder / shelf.DIFFERENCES)
    work = _Work(extraction, folder, winner, progress)
    tables = tuple(work.tables())
    story = winner.story
    ended = [] if story is None else story.ended
    times = [one.at_s for one in ended if one.committed]
    return Comparison(
        against=winner.against,
        tables=tables,
        uncompared=tuple(work.uncompared),
        winner_committed=None if story is None else len(times),
        winner_aborted=None if story is None else len(ended) - len(times),
        winner_first_s=min(times, default=None),
        winner_last_s=max(times, default=None),
    )


class _Work:
    """One comparison under way."""

    def __init__(
        self, extraction: Extraction, folder: Path, winner: Winner, progress: Progress
    ) -> None:
        self._extraction = extraction
        self._folder = folder
        self._winner = winner
        self._progress = progress
        self._total = extraction.rows
        self._done = 0
        self.uncompared: list[Unread] = []

    def tables(self) -> Iterator[TableDifferences]:
        """Compare one group of tables after the other."""
        for database in self._extraction.databases:
            there = self._winner.databases.get(database.name)
            if there is None and database.tables:
                self._note_database(database)
            for rows in database.tables:
                yield self._table(database, there, rows)

    def _note_database(self, database: DatabaseRows) -> None:
        why = self._winner.unopened.get(database.name, "the winner has none so called")
        self.uncompared.append(Unread(f"database {database.name}", why))

    def _table(
        self, database: DatabaseRows, there: WinnerDatabase | None, rows: TableRows
    ) -> TableDifferences:
        theirs = self._counterpart(there, rows) if there is not None else None
        name = shelf.differences_name(database.oid, rows.table.oid)
        problem = ""
        with DifferenceWriter(self._folder / name) as out:
            outcome = Outcome(out.write)
            try:
                self._compare(rows, theirs, outcome)
            except PostgresError as error:
                problem = str(error)
                what = f"table {rows.table.name} in database {database.name}"
                self.uncompared.append(Unread(what, problem))
            written = out.close()
        return TableDifferences(
            database=database.name,
            table=rows.table,
            counts=dict(outcome.counts),
            equal=outcome.equal,
            unknown=outcome.unknown,
            file=name,
            size=written.size,
            sha256=written.sha256,
            whole=rows.whole,
            note="; ".join(note for note in (problem, *_notes(rows, theirs)) if note),
            there=theirs.table if theirs is not None else None,
        )

    def _compare(
        self, rows: TableRows, theirs: Counterpart | None, outcome: Outcome
    ) -> None:
        if rows.table.kind == VIEW:
            return
        if theirs is None:
            self._all_lost(rows, outcome)
        elif rows.whole:
            before = Before(
                self._winner.is_young, rows.made_by, untouched=rows.untouched
            )
            every = self._read(rows, rows.written.lines, _is_there)
            Wholesale(theirs, before, outcome).compare(every)
        else:
            gone = {row.was for row in self._read(rows, rows.gone, _is_gone)}
            work = RowWise(theirs, {was for was in gone if was is not None}, outcome)
            work.changed(self._read(rows, rows.changed, _is_changed))
            work.born(self._read(rows, rows.born, _is_born))
            work.gone()

    def _read(
        self, rows: TableRows, count: int, wanted: Callable[[KeptRow], bool]
    ) -> Iterator[KeptRow]:
        """Yield the kept rows of one sort; the file is not read when there is none."""
        if count == 0:
            return
        for row in read_rows(self._folder / rows.file):
            if wanted(row):
                self._done += 1
                if self._done % TOLD_EVERY == 0:
                    done = min(self._done, self._total)
                    self._progress(done, self._total, str(rows.table.name))
                yield row

    def _all_lost(self, rows: TableRows, outcome: Outcome) -> None:
        for row in self._read(rows, rows.written.lines, _is_there):
            kind = DifferenceKind.LOST
            if row.was is not None and not rows.whole:
                kind = DifferenceKind.CONFLICT
            outcome.add(Difference(kind, row.values, None, xid=row.xid, note=NO_TABLE))

    def _counterpart(
        self, there: WinnerDatabase, rows: TableRows
    ) -> Counterpart | None:
        ours = rows.table
        theirs = there.by_name.get(ours.name)
        if theirs is None and not rows.whole:
            theirs = there.by_oid.get(ours.oid)
        if theirs is None:
            return None
        return self._against(there, ours, theirs, whole=rows.whole)

    def _against(
        self, there: WinnerDatabase, ours: Table, theirs: Table, *, whole: bool
    ) -> Counterpart:
        story = self._winner.story
        made = None if story is None else story.created.get(theirs.relation)
        told = None if story is None else story.rows.get(theirs.relation, Rows())
        one_file = ours.relation.filenode == theirs.relation.filenode
        footing = Footing(
            same_file=one_file and not whole and made is None,
            told=told,
            is_young=self._winner.is_young,
            carried_by=made,
        )
        return Counterpart(there.session, ours, theirs, footing)


def _notes(rows: TableRows, theirs: Counterpart | None) -> Iterator[str]:
    if rows.table.kind == VIEW:
        yield FOLLOWS
        return
    yield rows.reason
    if theirs is None:
        yield NO_TABLE
        return
    same = theirs.sameness
    if same.only_ours:
        yield "only the losing side has the columns " + ", ".join(same.only_ours)
    if same.only_theirs:
        yield "only the winner has the columns " + ", ".join(same.only_theirs)


def _is_gone(row: KeptRow) -> bool:
    return row.now is None


def _is_there(row: KeptRow) -> bool:
    return row.now is not None


def _is_changed(row: KeptRow) -> bool:
    return row.now is not None and row.was is not None


def _is_born(row: KeptRow) -> bool:
    return row.now is not None and row.was is None
