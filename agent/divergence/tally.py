"""What is found while one table is read: counted, and held against the log.

Theory of operation. Of a table whose file is as old as the fork the log names every
touched row. Where a transaction past the fork made the file anew, all its rows are
read, and only those which came into it later are the losing side's for certain: a
TRUNCATE leaves an empty file, while a rewrite carries rows over, and some rewrites
stamp them as their own (`Story.carried`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.divergence.extracted import TableRows
from agent.divergence.model import Place, Table, ctid
from agent.divergence.rowfiles import KeptRow, Written
from agent.divergence.story import Rows

EARLY = (
    "transactions that began before the kept log wrote into it: whether these rows were"
    " there at the fork is not known"
)


@dataclass(frozen=True, slots=True)
class Whole:
    """Why every row of a table is kept, and what can be said of them."""

    reason: str
    made_by: int | None = None
    """The transaction that made its file."""
    created: bool = False
    """It made the table too."""
    carried: Place = 0
    """Up to here it filled the file with rows that it carried over and stamped."""
    untouched: bool = False
    """Nothing had been written in the file before."""

    def was(self, place: Place, rows: Rows, *, stamped: bool) -> Place | None:
        """Return where a row was when the file was new; None: it came in later."""
        if self.created:
            return None
        if place in rows.born and not (stamped and place <= self.carried):
            return None
        return rows.moved.get(place, place)


@dataclass(slots=True)
class Odd:
    """Places at which it is not as the log says: how many, and the first."""

    count: int = 0
    first: str = ""

    def add(self, place: Place, note: str = "") -> None:
        """Take in another one."""
        self.first = self.first or ctid(place) + note
        self.count += 1


@dataclass(slots=True)
class Tally:
    """What was found in one table."""

    table: Table
    whole: Whole | None
    born: int = 0
    changed: int = 0
    gone: int = 0
    carried: int = 0
    early: int = 0
    """Of the born: those of which the log does not tell whether they are."""
    first_s: float = math.inf
    last_s: float = -math.inf
    missing: Odd = field(default_factory=Odd)
    """Places that hold nothing."""
    strange: Odd = field(default_factory=Odd)
    """Rows whose transaction did not commit past the fork."""

    def take(self, row: KeptRow, committed: Mapping[int, float]) -> None:
        """Count a row that is there."""
        if row.was is None:
            self.born += 1
        elif self.whole and row.was == row.now:
            self.carried += 1
        else:
            self.changed += 1
        at_s = committed.get(row.xid or 0)
        if at_s is not None:
            self.first_s = min(self.first_s, at_s)
            self.last_s = max(self.last_s, at_s)

    def problems(self) -> Iterator[str]:
        """Yield what is not as the log says."""
        if self.missing.count:
            yield (
                f"{self.missing.count} rows that the log tells of are not there, such"
                f" as the one at {self.missing.first}"
            )
        if self.strange.count:
            yield (
                f"{self.strange.count} rows were left by transactions whose commit is"
                f" not in the log, such as the one at {self.strange.first}"
            )

    def kept(self, file: Path, written: Written) -> TableRows:
        """Return the record of the table."""
        whole = self.whole
        timed = self.first_s <= self.last_s
        return TableRows(
            table=self.table,
            born=self.born,
            changed=self.changed,
            gone=self.gone,
            whole=whole is not None,
            reason=whole.reason if whole else EARLY * bool(self.early),
            file=file.as_posix(),
            size=written.size,
            sha256=written.sha256,
            carried=self.carried,
            made_by=whole.made_by if whole else None,
            untouched=whole is not None and whole.untouched,
            first_s=self.first_s if timed else None,
            last_s=self.last_s if timed else None,
        )
