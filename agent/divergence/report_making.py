"""From what was read and compared to the report that people get.

Theory of operation. `build` is given everything and asks no server: it counts, picks
examples out of the files of differences, hides what must not be shown, and words the
headline. What stands beside rows is gathered by `besides`, while the losing side and
the winner can still be asked. A report never fails for want of a part: what could not
be had is a gap with its reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from agent.divergence import headline_of_loss
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.extracted import Extraction, TableRows, Unread
from agent.divergence.model import Difference, DifferenceKind, Table, Values
from agent.divergence.redaction import Redaction, Show, printable, shown
from agent.divergence.report import (
    Cell,
    Contrast,
    Counts,
    Delivered,
    Gap,
    ManagersLoss,
    Named,
    Released,
    Report,
    Sample,
    Side,
    TableLoss,
    Waiting,
    Winner,
    Wrote,
)
from agent.divergence.rowfiles import read_differences
from agent.snapshot.manifest import Manifest

TOP = 5
"""Examples of each kind of difference that a table gets."""
TOP_MAX = 1000
LINES_MAX = 200_000
"""Differences of a table that are looked through for examples."""
KEYLESS_COLUMNS = 3
"""Columns by which a row is known that has no key."""
CONTRASTS_MAX = 4
CELLS_MAX = 4
"""Columns beside the key by which a person knows a row again."""
GAPS_MAX = 1000
OBJECTS_MAX = 1000
SAMPLED_TABLES_MAX = 500
"""Tables that get examples: those with the most differences go first."""
_TELLING = (
    DifferenceKind.CHANGED,
    DifferenceKind.CONFLICT,
    DifferenceKind.COLLISION,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What is known beside rows, and what people did."""

    objects: tuple[Named, ...] = ()
    managers: tuple[ManagersLoss, ...] = ()
    gaps: tuple[Unread, ...] = ()
    released: tuple[Released, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    delivered: tuple[Delivered, ...] = ()


@dataclass(frozen=True, slots=True)
class Style:
    """How a report is to be."""

    redaction: Redaction
    made_s: float
    """When it is made, seconds since 1970 in UTC."""
    top: int = TOP
    """Examples of each kind of difference that a table gets."""


def build(
    manifest: Manifest,
    extraction: Extraction,
    comparison: Comparison | None,
    folder: Path,
    style: Style,
    found: Found = Found(),
) -> Report:
    """Return the report of one snapshot.

    `folder` holds the files of differences; `comparison` is None as long as there is no
    winner to compare with. Raises SnapshotError where a file is not what was written.
    """
    differences = {
        (each.database, each.table.oid): each
        for each in (comparison.tables if comparison is not None else ())
    }
    sampled = sorted(differences, key=lambda place: -differences[place].differing)
    told = set(sampled[:SAMPLED_TABLES_MAX])
    tables = tuple(
        _table(
            database.name,
            rows,
            differences.get(place),
            folder,
            style if place in told else replace(style, top=0),
        )
        for database in extraction.databases
        for rows in database.tables
        for place in ((database.name, rows.table.oid),)
    )
    loser = _loser(extraction)
    compared = comparison is not None
    return Report(
        cluster=manifest.cluster,
        node=manifest.node,
        snapshot_id=manifest.id,
        incident_ids=manifest.incident_ids,
        made_s=style.made_s,
        fork_timeline=extraction.fork.timeline,
        fork_lsn=extraction.fork.lsn,
        end_lsn=extraction.end_lsn,
        loser=loser,
        winner=None if comparison is None else _winner(comparison),
        tables=tables,
        headline=headline_of_loss.headline(
            loser, tables, found.managers, compared=compared
        ),
        objects=found.objects[:OBJECTS_MAX],
        gaps=tuple(islice(_gaps(extraction, comparison, found), GAPS_MAX)),
        managers=found.managers,
        released=found.released,
        waiting=found.waiting,
        delivered=found.delivered,
    )


def _loser(extraction: Extraction) -> Side:
    done = extraction.transactions
    return Side(
        committed=done.committed,
        aborted=done.aborted,
        user=done.user,
        maintenance=done.maintenance,
        first_s=done.first_s,
        last_s=done.last_s,
    )


def _winner(comparison: Comparison) -> Winner:
    against = comparison.against
    side = Side(
        committed=comparison.winner_committed,
        aborted=comparison.winner_aborted,
        first_s=comparison.winner_first_s,
        last_s=comparison.winner_last_s,
    )
    return Winner(printable(against.name), against.lsn, against.at_s, side)


def _gaps(
    extraction: Extraction, comparison: Comparison | None, found: Found
) -> Iterator[Gap]:
    uncompared = comparison.uncompared if comparison is not None else ()
    left = len(found.objects) - OBJECTS_MAX
    if left > 0:
        yield Gap(f"{left} more objects", f"only the first {OBJECTS_MAX} are named")
    for each in dict.fromkeys((*extraction.unread, *uncompared, *found.gaps)):
        yield Gap(printable(each.what), printable(each.reason))


def _table(
    database: str,
    rows: TableRows,
    differences: TableDifferences | None,
    folder: Path,
    style: Style,
) -> TableLoss:
    table = rows.table
    counts = Counts() if differences is None else _counts(differences)
    note = rows.reason if differences is None else differences.note
    samples = () if differences is None else _samples(differences, folder, style)
    return TableLoss(
        database=printable(database),
        schema=printable(table.name.schema),
        table=printable(table.name.name),
        counts=counts,
        wrote=Wrote(rows.born, rows.changed, rows.gone),
        root=printable(str(table.root)) if table.root is not None else "",
        key=tuple(map(printable, table.keys[0])) if table.keys else (),
        whole=rows.whole,
        note=printable(note),
        redacted=tuple(map(printable, style.redaction.columns(table))),
        samples=tuple(samples),
    )


def _counts(differences: TableDifferences) -> Counts:
    of = differences.counts
    return Counts(
        lost=of.get(DifferenceKind.LOST, 0),
        changed=of.get(DifferenceKind.CHANGED, 0),
        deleted=of.get(DifferenceKind.DELETED, 0),
        conflicts=of.get(DifferenceKind.CONFLICT, 0),
        collisions=of.get(DifferenceKind.COLLISION, 0),
        equal=differences.equal,
        unknown=differences.unknown,
    )


def _samples(
    differences: TableDifferences, folder: Path, style: Style
) -> Sequence[Sample]:
    """Return the first few of each kind, the kinds in their own order."""
    missing = {
        kind: min(style.top, count) for kind, count in differences.counts.items()
    }
    if not differences.file or not any(missing.values()):
        return ()
    reader = _Sampler(differences, style.redaction)
    found: dict[DifferenceKind, list[Sample]] = {kind: [] for kind in DifferenceKind}
    lines = read_differences(folder / differences.file)
    for each in islice(lines, LINES_MAX):
        if missing.get(each.kind, 0) > 0:
            missing[each.kind] -= 1
            found[each.kind].append(reader.sample(each))
            if not any(missing.values()):
                break
    return [sample for samples in found.values() for sample in samples]


class _Sampler:
    """Shows rows of one table as examples."""

    def __init__(self, differences: TableDifferences, redaction: Redaction) -> None:
        self._table = differences.table
        self._show = redaction.shower(differences.table)
        there = differences.there
        names = {each.name for each in (there or differences.table).columns}
        self._shared = [
            (position, column.name)
            for position, column in enumerate(self._table.columns)
            if column.name in names
        ]
        self._key = _known_by(self._table)

    def sample(self, difference: Difference) -> Sample:
        """Return what is shown of one difference."""
        row = difference.loser or difference.winner or difference.fork
        contrasts = tuple(islice(self._contrasts(difference), CONTRASTS_MAX))
        return Sample(
            kind=difference.kind,
            key=tuple(self._cells(row)),
            contrasts=contrasts,
            note=shown(difference.note) or _note(difference),
            row=() if contrasts else tuple(islice(self._more(row), CELLS_MAX)),
        )

    def _cells(self, row: Values | None) -> Iterator[Cell]:
        for position, column in self._key:
            value = row[position] if row is not None else None
            yield Cell(printable(column), self._shown(column, value))

    def _more(self, row: Values | None) -> Iterator[Cell]:
        """Yield what the row holds beside what it is known by."""
        known = {position for position, _ in self._key}
        for position, value in enumerate(row or ()):
            if position not in known and value is not None:
                column = self._table.columns[position].name
                yield Cell(printable(column), self._shown(column, value))

    def _contrasts(self, difference: Difference) -> Iterator[Contrast]:
        ours, theirs = difference.loser, difference.winner or difference.twin
        if difference.kind not in _TELLING or ours is None or theirs is None:
            return
        for position, column in self._shared:
            if ours[position] != theirs[position]:
                yield Contrast(
                    printable(column),
                    self._shown(column, ours[position]),
                    self._shown(column, theirs[position]),
                )

    def _shown(self, column: str, value: str | None) -> str | None:
        show: Show = self._show[column]
        return show(value)


def _note(difference: Difference) -> str:
    """Return what the kind alone does not say of a row."""
    if difference.kind is DifferenceKind.CONFLICT:
        if difference.loser is None:
            return "the losing side deleted it, the winner changed it"
        return "" if difference.winner is not None else "the winner deleted it"
    if difference.twin is not None:
        return "the winner has it under another key"
    return ""


def _known_by(table: Table) -> list[tuple[int, str]]:
    """Return place and name of the columns by which a row of the table is known."""
    if table.keys:
        return [(table.position(column), column) for column in table.keys[0]]
    named = enumerate(column.name for column in table.columns)
    return list(islice(named, KEYLESS_COLUMNS))
