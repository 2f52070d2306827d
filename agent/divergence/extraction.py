"""Reading out what the losing side wrote, while it is there to be read.

Theory of operation. The story of the log says which places of which files hold rows
that were touched past the fork; here an opened copy says which table a file belongs to
and what lies at those places. What is read is held against the log: a row must have
been left by a transaction that committed past the fork, and each place that the log
names must hold one. Where the log cannot say which rows were touched, the whole table
is kept. One table that cannot be read stops no other; what was not read is named, with
the reason. A file counts when it was read back and is what was written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple
from pathlib import Path

from agent.divergence import catalog, shelf, values
from agent.divergence.catalog import Entries
from agent.divergence.extracted import (
    DatabaseRows,
    Extraction,
    Source,
    TableRows,
    Transactions,
    Unread,
)
from agent.divergence.maintenance import is_maintenance
from agent.divergence.model import Place, Relation, Table
from agent.divergence.rowfiles import KeptRow, RowWriter, read_back
from agent.divergence.story import Rows, Story
from agent.divergence.tally import Tally, Whole
from agent.errors import PostgresError, SnapshotError
from agent.postgres.connect import Session, session

Progress = Callable[[int, int], None]
"""Called with the rows read so far, and the rows in all as far as they are known."""
Reading = Callable[[str], AbstractContextManager[Session]]
"""From a database's name to a session in it, settled, for the length of a `with`."""
TOLD_EVERY = 5000
NAMED_MAX = 10
READ_S = 3600.0
"""One statement on the losing side may take so long."""
_CREATED = "it was created past the fork"
_MADE_ANEW = "its file was made anew past the fork: it was truncated or rewritten"
_DATABASE_MADE = "its database was made past the fork"


def extract(
    story: Story,
    dsn_for: Callable[[str], str],
    to: Path,
    *,
    source: Source,
    progress: Progress = lambda _done, _total: None,
    reading: Reading | None = None,
) -> Extraction:
    """Read every touched row into the folder `to` (see `shelf.renewed`).

    `dsn_for` gives the connection string to a database of the losing side, by name.
    `reading` gives a settled session for one instead, such as one that sees it at one
    moment. The record is written last. Raises PostgresError when no database can be
    listed, SnapshotError when what was written does not read back, OSError.
    """
    work = _Work(story, dsn_for, to, progress, reading)
    databases = tuple(work.databases())
    work.finish()
    extraction = Extraction(
        snapshot=source.snapshot,
        node=source.node,
        system_id=source.system_id,
        version_num=source.version_num,
        fork=source.fork,
        end_lsn=story.end_lsn,
        made_wall_s=source.made_wall_s,
        databases=databases,
        transactions=_transactions(story, work.statistics),
        unread=tuple(work.unread),
        fork_next_xid=story.fork_next_xid,
        fork_open=tuple(sorted(story.fork_open)),
        statistics=tuple(sorted(work.statistics, key=astuple)),
    )
    shelf.write_extraction(to, extraction)
    return extraction


def _transactions(story: Story, statistics: set[Relation]) -> Transactions:
    committed = [one for one in story.ended if one.committed]
    own = sum(is_maintenance(one.touched, one.kinds, statistics) for one in committed)
    kinds = dict(story.outside)
    for one in committed:
        for kind in one.kinds:
            kinds[kind] = kinds.get(kind, 0) + 1
    times = [one.at_s for one in committed]
    return Transactions(
        committed=len(committed),
        aborted=len(story.ended) - len(committed),
        user=len(committed) - own,
        maintenance=own,
        first_s=min(times, default=None),
        last_s=max(times, default=None),
        kinds=tuple(sorted(kinds.items())),
    )


class _Work:
    """One extraction under way."""

    def __init__(
        self,
        story: Story,
        dsn_for: Callable[[str], str],
        to: Path,
        progress: Progress,
        reading: Reading | None,
    ) -> None:
        self._reading = reading or self._connected
        self._story = story
        self._dsn_for = dsn_for
        self._to = to
        self._progress = progress
        self._done = 0
        self._total = 0
        self.unread: list[Unread] = []
        self.statistics: set[Relation] = set()
        """Files of the planner's statistics."""

    def databases(self) -> Iterator[DatabaseRows]:
        """Read one database after the other."""
        with session(self._dsn_for("template1")) as listing:
            found = listing.execute(
                "SELECT oid, datname, pg_catalog.pg_encoding_to_char(encoding),"
                " datallowconn FROM pg_catalog.pg_database ORDER BY datname"
            ).fetchall()
            self._name_prepared(listing)
        if self._story.early:
            first = sorted(self._story.early)[:NAMED_MAX]
            more = ", ..." if len(self._story.early) > len(first) else ""
            self._missing(
                "rows deleted by transactions that had begun before the kept log",
                f"transactions {', '.join(map(str, first))}{more}: what they wrote is"
                " not all in the log; rows that they left were looked for everywhere",
            )
        for oid, name, encoding, open_to_all in map(values.plain, found):
            if open_to_all:
                rows = self._database(oid, name, encoding)
                if rows is not None:
                    yield rows
            elif any(each.database == oid for each in self._story.rows):
                self._missing(f"database {name}", "it takes no connections")

    def finish(self) -> None:
        """Tell that all is read."""
        self._progress(self._done, self._done)

    def _missing(self, what: str, reason: str, *, outside: bool = False) -> None:
        self.unread.append(Unread(what, reason, outside))

    @contextmanager
    def _connected(self, name: str) -> Iterator[Session]:
        with session(self._dsn_for(name), statement_timeout_s=READ_S) as made:
            values.settle(made)
            yield made

    def _name_prepared(self, listing: Session) -> None:
        found = listing.execute(
            "SELECT gid, database FROM pg_catalog.pg_prepared_xacts ORDER BY gid"
        ).fetchall()
        for gid, database in map(values.plain, found):
            self._missing(
                f"prepared transaction {gid!r:.200} in database {database}",
                "it was neither committed nor rolled back: its rows are not there yet",
            )

    def _database(self, oid: int, name: str, encoding: str) -> DatabaseRows | None:
        try:
            with self._reading(name) as reading:
                return self._read(reading, oid, name, encoding)
        except (PostgresError, UnicodeError) as error:
            reason = error.message if isinstance(error, PostgresError) else str(error)
            self._missing(f"database {name!r:.200}", reason)
            return None

    def _read(
        self, reading: Session, oid: int, name: str, encoding: str
    ) -> DatabaseRows:
        tables = catalog.read_tables(reading, oid)
        self.statistics |= catalog.read_statistics(reading, oid)
        sequences = catalog.read_sequences(reading, oid)
        entries = catalog.read_entries(reading, oid)
        for foreign in catalog.read_foreign_tables(reading):
            self._missing(
                f"table {foreign} in database {name}",
                "it is a foreign table: its rows are on another server",
                outside=True,
            )
        self._total += sum(
            len(self._story.rows.get(table.relation, ())) for table in tables
        )
        kept = []
        for table in tables:
            whole = self._whole(table, entries)
            rows = self._table(reading, name, table, whole)
            if rows is not None:
                kept.append(rows)
        went_on = self._story.sequences
        return DatabaseRows(
            oid=oid,
            name=name,
            encoding=encoding,
            tables=tuple(kept),
            sequences=tuple(
                each for file, each in sequences.items() if file in went_on
            ),
        )

    def _table(
        self, reading: Session, database: str, table: Table, whole: Whole | None
    ) -> TableRows | None:
        """Keep the touched rows of one table; None when there are none to keep."""
        what = f"table {table.name} in database {database}"
        if table.persistence == "u":
            self._missing(
                what,
                "it is unlogged: the log does not tell what became of its rows",
                outside=True,
            )
            return None
        rows = self._story.rows.get(table.relation, Rows())
        if not whole and not rows and not self._story.early:
            return None
        path = self._to / shelf.rows_name(table.relation.database, table.oid)
        tally = Tally(table, whole)
        try:
            with RowWriter(path) as writer:
                if whole:
                    self._all(reading, rows, whole, writer, tally)
                else:
                    self._touched(reading, rows, writer, tally)
        except PostgresError as error:
            self._missing(what, error.message)
            return None
        for problem in tally.problems():
            self._missing(what, problem)
        written = writer.close()
        if read_back(path) != written:
            raise SnapshotError(
                f"{path} does not read back as it was written",
                "the volume is not to be trusted: extract to another one",
            )
        if not whole and not written.lines:
            path.unlink()
            return None
        return tally.kept(path.relative_to(self._to), written)

    def _whole(self, table: Table, entries: Entries) -> Whole | None:
        """Return why the log alone does not tell which rows were touched."""
        story = self._story
        made_by = story.created.get(table.relation)
        if made_by is None:
            made = table.relation.database in story.databases
            return Whole(_DATABASE_MADE) if made else None
        classes = story.rows.get(entries.classes, Rows())
        if entries.places.get(table.oid) in classes.born:
            return Whole(_CREATED, made_by, created=True, untouched=True)
        return Whole(
            _MADE_ANEW,
            made_by,
            carried=story.carried.get(table.relation, 0),
            untouched=self._untouched(made_by) and entries.classes not in story.created,
        )

    def _untouched(self, made_by: int) -> bool:
        """Whether no row was written in any file that this transaction replaced."""
        story = self._story
        replaced = [file for file, xid in story.dropped.items() if xid == made_by]
        return not story.early and not any(
            story.rows.get(file) or story.created.get(file, made_by) != made_by
            for file in replaced
        )

    def _all(
        self,
        reading: Session,
        rows: Rows,
        whole: Whole,
        writer: RowWriter,
        tally: Tally,
    ) -> None:
        for place, xid, row in values.fetch_all(reading, tally.table):
            stamped = self._is_by(xid, whole.made_by)
            was = whole.was(place, rows, stamped=stamped)
            by = whole.made_by if stamped else xid
            self._keep(writer, tally, KeptRow(place, was, by, row))

    def _is_by(self, xid: int, top: int | None) -> bool:
        """Whether a row was left by a transaction or a part of it.

        Parts share the time of their commit with the whole, to the microsecond.
        """
        if top is None or xid == top:
            return xid == top
        at_s = self._story.committed.get(xid)
        return at_s is not None and at_s == self._story.committed.get(top)

    def _touched(
        self, reading: Session, rows: Rows, writer: RowWriter, tally: Tally
    ) -> None:
        for place in sorted(rows.gone):
            writer.gone(place)
            tally.gone += 1
        for places in (sorted(rows.moved), sorted(rows.born)):
            for start in range(0, len(places), values.PLACES_AT_ONCE):
                batch = places[start : start + values.PLACES_AT_ONCE]
                self._at(reading, batch, rows, writer, tally)
        if self._story.early:
            self._early(reading, rows, writer, tally)

    def _at(
        self,
        reading: Session,
        places: Sequence[Place],
        rows: Rows,
        writer: RowWriter,
        tally: Tally,
    ) -> None:
        """Keep what lies at these places."""
        waiting = set(places)
        for place, xid, row in values.fetch(reading, tally.table, places):
            waiting.discard(place)
            if xid not in self._story.committed:
                tally.strange.add(place, f" by {xid}")
            self._keep(writer, tally, KeptRow(place, rows.moved.get(place), xid, row))
        for place in sorted(waiting):
            tally.missing.add(place)

    def _early(
        self, reading: Session, rows: Rows, writer: RowWriter, tally: Tally
    ) -> None:
        """Look for what those left who had begun before the kept log."""
        early = sorted(self._story.early)
        for place, xid, row in values.fetch_by_xid(reading, tally.table, early):
            if place not in rows.moved and place not in rows.born:
                self._keep(writer, tally, KeptRow(place, None, xid, row))
                tally.early += 1

    def _keep(self, writer: RowWriter, tally: Tally, row: KeptRow) -> None:
        writer.write(row)
        tally.take(row, self._story.committed)
        self._done += 1
        if self._done % TOLD_EVERY == 0:
            self._progress(self._done, max(self._done, self._total))
