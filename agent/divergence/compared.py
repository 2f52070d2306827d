"""What setting the losing side's rows against the winner gave: the shape of its record.

Theory of operation. `compare` makes it; it is kept beside the files of differences, as
`loss/comparison.json`, so that reports and rescues start from it. What could not be
compared is named with the reason, never left out. Instants are seconds since 1970 in
UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import codec
from agent.core.lsn import Lsn
from agent.divergence import kept
from agent.divergence.extracted import Unread
from agent.divergence.model import DifferenceKind, Table
from agent.divergence.rowfiles import Written
from agent.snapshot.files import write_atomically

FORMAT = 1
NAME = "comparison.json"


@dataclass(frozen=True, slots=True)
class Against:
    """The winner, as it was read."""

    name: str
    system_id: str
    """Empty where the role may not read it."""
    version_num: int
    timeline: int | None
    lsn: Lsn
    """Where it stood."""
    at_s: float
    """When it was read, by its own clock."""
    by_log: bool
    """Whether its own log told what it did past the fork; else its rows' `xmin` did."""


@dataclass(frozen=True, slots=True)
class TableDifferences:
    """One table that the losing side touched, set against the winner's."""

    database: str
    table: Table
    """The losing side's."""
    counts: Mapping[DifferenceKind, int]
    equal: int
    """Rows that read alike on both sides, though the losing side wrote them."""
    unknown: int
    """Deleted rows of which nobody can say any more what they were."""
    file: str
    """Of the differences, below the folder; empty where it could not be compared."""
    size: int = 0
    sha256: str = ""
    whole: bool = False
    """All rows were compared, because the table's file was replaced past the fork."""
    note: str = ""
    """What else must be known: columns that only one side has, why it was not
    compared."""
    there: Table | None = None
    """The winner's table; None: it has none of this name."""

    @property
    def differing(self) -> int:
        """How many rows the two sides are not agreed on."""
        return sum(self.counts.values())

    @property
    def written(self) -> Written:
        """What the file of differences holds."""
        return Written(self.size, self.sha256, self.differing)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tables that the losing side touched, set against the winner's."""

    against: Against
    tables: tuple[TableDifferences, ...]
    uncompared: tuple[Unread, ...]
    winner_committed: int | None = None
    """Transactions that committed there past the fork; None where its log did not
    tell."""
    winner_aborted: int | None = None
    winner_first_s: float | None = None
    winner_last_s: float | None = None
    format: int = FORMAT


def save(comparison: Comparison, folder: Path) -> None:
    """Keep it in a snapshot's folder of losses, durably. Raises OSError."""
    write_atomically(folder / NAME, codec.to_json(comparison).encode("ascii"))


def load(folder: Path) -> Comparison | None:
    """Return what is kept there; None where nothing was compared yet.

    Raises SnapshotError when it is not what we wrote.
    """
    again = "compare again: `splitguard loss report SNAPSHOT`"
    return kept.read(folder / NAME, Comparison, FORMAT, again)
