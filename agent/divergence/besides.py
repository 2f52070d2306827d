"""What a report tells beside rows: gathered while both sides can still be asked.

Theory of operation. The losing side's objects are read out of the opened copy and kept
beside its rows (`keep_objects_of`), so that the copy need not be opened again for each
comparison; only of databases in which its log changed a catalogue, or a sequence went
on: where the losing side did nothing, nothing of its own can be missing. When there is
a winner, `besides` sets them against its objects, database by database, in the very
transactions that its rows are read in, and asks a manager's tables there by name. What
came out is kept as `loss/besides.json`. What cannot be had is a gap, and stops nothing
else.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent import codec
from agent.divergence import kept, managers_words, shelf, values
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.extracted import DatabaseRows, Extraction, Unread
from agent.divergence.managers_winner import Holdings, tenants
from agent.divergence.managers_words import Changed
from agent.divergence.model import Difference, Name
from agent.divergence.objects import (
    Object,
    Wrote,
    compare_objects,
    keep_objects,
    kept_objects,
    read_objects,
    read_shared,
    wrote_since,
)
from agent.divergence.report import ManagersLoss, Named
from agent.divergence.rowfiles import read_differences
from agent.divergence.story import Story
from agent.divergence.winner import Winner, WinnerDatabase
from agent.errors import CodecError, PostgresError, SnapshotError
from agent.postgres.connect import session
from agent.snapshot.files import write_atomically

FORMAT = 1
FOLDER = "objects"
NAME = "besides.json"
WANTED = "wanted.json"
"""Which databases have objects to compare."""
SHARED_OID = 0
"""As in the log: what all databases share."""
TIMEOUT_S = 300.0
"""One statement on the losing side's catalogue."""


@dataclass(frozen=True, slots=True)
class Besides:
    """What was gathered."""

    objects: tuple[Named, ...] = ()
    managers: tuple[ManagersLoss, ...] = ()
    gaps: tuple[Unread, ...] = ()
    format: int = FORMAT


def save(besides: Besides, folder: Path) -> None:
    """Keep it in a snapshot's folder of losses, durably. Raises OSError."""
    write_atomically(folder / NAME, codec.to_json(besides).encode("ascii"))
    shelf.own(folder / NAME)


def load(folder: Path) -> Besides:
    """Return what is kept there; nothing where nothing was gathered yet.

    Raises SnapshotError when it is not what we wrote.
    """
    again = "compare again: `splitguard loss report SNAPSHOT`"
    return kept.read(folder / NAME, Besides, FORMAT, again) or Besides()


def keep_objects_of(
    extraction: Extraction, story: Story, dsn_for: Callable[[str], str], folder: Path
) -> None:
    """Read the losing side's objects, and keep them below the folder of its rows.

    `dsn_for` gives the connection string to a database of the opened copy, by name.
    Of a database that cannot be read nothing is kept. Raises OSError.
    """
    place = folder / FOLDER
    shelf.make_folder(place)
    wanted = _with_changes(extraction, story)
    write_atomically(place / WANTED, codec.to_json(sorted(wanted)).encode("ascii"))
    shelf.own(place / WANTED)
    for database in extraction.databases:
        path, shared = place / f"{database.oid}.json", place / f"{SHARED_OID}.json"
        asked = database.oid in wanted
        if not asked and (SHARED_OID not in wanted or shared.exists()):
            continue
        with (
            suppress(PostgresError),
            session(dsn_for(database.name), statement_timeout_s=TIMEOUT_S) as reading,
        ):
            values.settle(reading)
            if asked:
                _keep(read_objects(reading), path)
            if SHARED_OID in wanted and not shared.exists():
                _keep(read_shared(reading), shared)


def _with_changes(extraction: Extraction, story: Story) -> set[int]:
    """Return the databases whose catalogues changed; 0 for what all share.

    Every file whose rows changed is a catalogue's unless it is known as a table's. What
    began before the kept log may have written anywhere.
    """
    tables = [each.table for one in extraction.databases for each in one.tables]
    files = {table.relation for table in tables} | {table.toast for table in tables}
    found = {relation.database for relation in story.rows if relation not in files}
    found.update(one.oid for one in extraction.databases if one.sequences)
    if story.early:
        found.update(one.oid for one in extraction.databases)
    if story.early or story.databases:
        found.add(SHARED_OID)
    return found


def _wanted(folder: Path) -> set[int]:
    """Return what `_with_changes` had found. Raises SnapshotError."""
    path = folder / FOLDER / WANTED
    try:
        return set(codec.from_json(path.read_bytes(), list[int]))
    except (OSError, CodecError) as error:
        raise SnapshotError("the losing side's catalogue was not read") from error


def _keep(objects: tuple[Object, ...], path: Path) -> None:
    keep_objects(objects, path)
    shelf.own(path)


def besides(
    extraction: Extraction, comparison: Comparison, folder: Path, winner: Winner
) -> Besides:
    """Return what differs beside rows, and what a manager lost."""
    work = _Work(extraction, comparison, folder, winner)
    objects = tuple(work.objects())
    managers = tuple(work.managers())
    return Besides(objects, managers, tuple(work.gaps))


class _Work:
    """Both sides, database by database."""

    def __init__(
        self,
        extraction: Extraction,
        comparison: Comparison,
        folder: Path,
        winner: Winner,
    ) -> None:
        self._extraction = extraction
        self._comparison = comparison
        self._folder = folder
        self._winner = winner
        self.gaps: list[Unread] = []
        next_xid = extraction.fork_next_xid
        known = next_xid is not None
        self._loser_wrote: Wrote | None = None
        if next_xid is not None:
            self._loser_wrote = wrote_since(next_xid)
        self._winner_wrote: Wrote | None = winner.is_young if known else None

    def objects(self) -> Iterator[Named]:
        """Yield what differs beside rows."""
        try:
            wanted = _wanted(self._folder)
        except SnapshotError as error:
            self.gaps.append(Unread("what differs beside rows", str(error)))
            return
        opened = self._winner.databases
        for database in self._extraction.databases:
            there = opened.get(database.name)
            if there is None or database.oid not in wanted:
                continue  # that it is missing is told by the comparison
            what = f"objects of database {database.name}"
            yield from self._attempt(what, partial(self._of_database, database, there))
        if SHARED_OID in wanted and opened:
            what = "roles, databases and tablespaces"
            any_of_them = next(iter(opened.values()))
            yield from self._attempt(what, partial(self._shared, any_of_them))

    def _attempt(
        self, what: str, compared: Callable[[], tuple[Named, ...]]
    ) -> tuple[Named, ...]:
        try:
            return compared()
        except (PostgresError, SnapshotError) as error:
            self.gaps.append(Unread(what, str(error)))
            return ()

    def _of_database(
        self, database: DatabaseRows, there: WinnerDatabase
    ) -> tuple[Named, ...]:
        went_on = {str(name) for name in database.sequences}
        return compare_objects(
            kept_objects(self._folder / FOLDER / f"{database.oid}.json"),
            read_objects(there.session),
            database=database.name,
            loser_wrote=self._loser_wrote,
            winner_wrote=self._winner_wrote,
            moved=lambda each: each.identity in went_on,
        )

    def _shared(self, there: WinnerDatabase) -> tuple[Named, ...]:
        return compare_objects(
            kept_objects(self._folder / FOLDER / f"{SHARED_OID}.json"),
            read_shared(there.session),
            loser_wrote=self._loser_wrote,
            winner_wrote=self._winner_wrote,
        )

    def managers(self) -> Iterator[ManagersLoss]:
        """Yield what was lost of each manager that keeps its things here."""
        by_database: dict[str, list[TableDifferences]] = {}
        for each in self._comparison.tables:
            if each.file:
                by_database.setdefault(each.database, []).append(each)
        for name, tables in by_database.items():
            there = self._winner.databases.get(name)
            managed = managers_words.is_managers(each.table for each in tables)
            if there is None or not managed:
                continue
            try:
                told = self._manager(name, tables, there)
            except (PostgresError, SnapshotError) as error:
                what = f"the manager's things in database {name}"
                self.gaps.append(Unread(what, str(error)))
            else:
                if told.counts:
                    yield told

    def _manager(
        self, name: str, tables: list[TableDifferences], there: WinnerDatabase
    ) -> ManagersLoss:
        changed: Mapping[Name, Changed] = {
            each.table.name: Changed(each.table, partial(self._read, each.file))
            for each in tables
        }
        return managers_words.tell(
            name, changed, tenants(there.session), Holdings(there.session)
        )

    def _read(self, file: str) -> Iterator[Difference]:
        return read_differences(self._folder / file)
