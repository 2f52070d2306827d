"""What a rescue starts from: the kept comparison, and the rows beside it.

Theory of operation. Tables are taken as the losing side has them, in the columns and
their order, but written as the winner has them: under the name that it gives them, with
its sequences, identities and generated columns. What the winner lacks is known from the
comparison, so that a rescue says it before it is run. Every file is read back once and
held against its hash, because what is written from it goes into somebody's database.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.divergence import compared, shelf
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.extracted import Extraction
from agent.divergence.model import Column, Difference, Name, Table, Values
from agent.divergence.rescue_order import target
from agent.divergence.rescue_quote import identifier, qualified
from agent.divergence.rowfiles import read_back, read_differences, read_rows
from agent.errors import DivergenceError, SnapshotError

NO_TABLE = "the winner has no such table: create it there first, then compare again"


@dataclass(frozen=True, slots=True)
class Files:
    """Reads one database's rows from the folder `loss`."""

    folder: Path
    by_oid: Mapping[int, tuple[str, str]]
    """Of each table the files of differences and of kept rows; empty: none."""

    def differences(self, table: Table) -> Iterator[Difference]:
        """Yield what sets a table apart from the winner's. Raises SnapshotError."""
        name, _ = self.by_oid[table.oid]
        if name:
            yield from read_differences(self.folder / name)

    def born(self, table: Table) -> Iterator[Values]:
        """Yield the rows that the losing side inserted. Raises SnapshotError."""
        _, name = self.by_oid[table.oid]
        if name:
            for row in read_rows(self.folder / name):
                if row.now is not None and row.was is None and row.values is not None:
                    yield row.values


@dataclass(frozen=True, slots=True)
class Lost:
    """What is to be rescued in one database."""

    database: str
    tables: tuple[Table, ...]
    missing: Mapping[Name, str]
    """Tables that the winner cannot take rows of, and why not."""
    source: Files


@dataclass(frozen=True, slots=True)
class Kept:
    """What a snapshot's folder holds for a rescue."""

    extraction: Extraction
    comparison: Comparison
    databases: tuple[Lost, ...]

    @property
    def system_id(self) -> str:
        """The cluster's, which the winner shares."""
        return self.comparison.against.system_id or self.extraction.system_id

    @property
    def origin(self) -> str:
        """What names the losing side: a later snapshot of it has the same."""
        found = self.extraction
        fork = f"fork at {found.fork.lsn} of timeline {found.fork.timeline}"
        return f"{found.node} of system {found.system_id}, {fork}"


def load(snapshot: Path) -> Kept:
    """Read what is kept beside a snapshot.

    Raises DivergenceError when nothing was compared yet, SnapshotError when a file is
    not what was written.
    """
    folder = shelf.folder_of(snapshot)
    extraction = shelf.read_extraction(folder)
    comparison = compared.load(folder) if extraction is not None else None
    if extraction is None or comparison is None:
        raise DivergenceError(
            f"{snapshot.name} was not compared with a winner yet, so nobody knows what"
            " is lost",
            f"first run `splitguard loss report {snapshot.name} --against DSN`",
        )
    rows = {
        (database.name, each.table.oid): each.file
        for database in extraction.databases
        for each in database.tables
    }
    databases = tuple(
        _lost(folder, database.name, comparison, rows)
        for database in extraction.databases
    )
    return Kept(extraction, comparison, databases)


def check_files(folder: Path, comparison: Comparison) -> None:
    """Raise SnapshotError where a file of differences is not what was written."""
    for each in comparison.tables:
        if each.file and read_back(folder / each.file) != each.written:
            raise SnapshotError(
                f"{folder / each.file} was changed since it was written",
                "compare again: `splitguard loss report SNAPSHOT`",
            )


def _lost(
    folder: Path,
    database: str,
    comparison: Comparison,
    rows: Mapping[tuple[str, int], str],
) -> Lost:
    here = [each for each in comparison.tables if each.database == database]
    renamed = {
        each.table.name: each.there.name
        for each in here
        if each.there is not None and each.there.name != each.table.name
    }
    tables, missing, files = [], {}, {}
    for each in here:
        table = written_as(each.table, each.there, renamed)
        tables.append(table)
        reason = _lacks(table, each)
        if reason:
            missing[table.name] = reason
        files[table.oid] = each.file, rows.get((database, table.oid), "")
    return Lost(database, tuple(tables), missing, Files(folder, files))


def written_as(
    table: Table, there: Table | None, renamed: Mapping[Name, Name]
) -> Table:
    """Return the losing side's table as the winner's is to be written."""
    keys = tuple(
        replace(key, table=renamed.get(key.table, key.table))
        for key in table.foreign_keys
    )
    if there is None:
        return replace(table, foreign_keys=keys)
    known = {column.name: column for column in there.columns}
    columns = tuple(_column(each, known.get(each.name)) for each in table.columns)
    return replace(
        table, name=there.name, root=there.root, columns=columns, foreign_keys=keys
    )


def _column(ours: Column, theirs: Column | None) -> Column:
    if theirs is None:
        return ours
    return replace(
        ours,
        not_null=ours.not_null or theirs.not_null,
        generated=ours.generated or theirs.generated,
        identity=theirs.identity,
        sequence=theirs.sequence,
    )


def _lacks(table: Table, each: TableDifferences) -> str:
    if each.there is None:
        return NO_TABLE
    known = {column.name for column in each.there.columns}
    adds = ", ".join(
        f"ADD COLUMN {identifier(column.name)} {column.type}"
        for column in table.columns
        if column.name not in known and not column.generated
    )
    if not adds:
        return ""
    name = qualified(target(table))
    return f"the winner lacks columns; add them first: ALTER TABLE {name} {adds}"
