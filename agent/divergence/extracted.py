"""What was read out of a losing side, and what could not be: the shape of its record.

Theory of operation. `extraction` makes it, `shelf` keeps it as `loss/extraction.json`;
who compares, reports or rescues starts from it, and needs neither the losing side nor
its log any more. Instants are seconds since 1970 in UTC.
"""

from dataclasses import dataclass

from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.divergence.model import Name, Relation, Table
from agent.divergence.rowfiles import Written

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Which server is read, and where it left the line of the others."""

    snapshot: str
    node: str
    system_id: str
    version_num: int
    fork: Fork
    made_wall_s: float
    """When the reading began."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Something of which nothing, or not all, could be said."""

    what: str
    reason: str
    outside: bool = False
    """Whether the log never tells of it, so that nothing is missing by its measure."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of one table that the losing side touched."""

    table: Table
    born: int
    """Rows that were inserted past the fork, into this file; also those of which nobody
    can say whether they were there."""
    changed: int
    gone: int
    whole: bool
    """Every row is in the file, because the log does not tell which were touched."""
    reason: str
    """Why it is whole, or what is not known of its rows; else empty."""
    file: str
    """Below the folder of the extraction."""
    size: int
    sha256: str
    carried: int = 0
    """Of a `whole` table: rows of which the log does not say that they were touched."""
    made_by: int | None = None
    """Of a `whole` table: the transaction that made its present file, if one did."""
    untouched: bool = False
    """Whether the log shows that no row was written in files before that one."""
    first_s: float | None = None
    """When the first of the transactions committed that left its rows so; None: nobody
    knows, or they did so before the fork."""
    last_s: float | None = None

    @property
    def written(self) -> Written:
        """What the file holds."""
        lines = self.born + self.changed + self.gone + self.carried
        return Written(self.size, self.sha256, lines)


@dataclass(frozen=True, slots=True)
class DatabaseRows:
    """What was touched in one database."""

    oid: int
    name: str
    encoding: str
    tables: tuple[TableRows, ...]
    """Those with touched rows, by name."""
    sequences: tuple[Name, ...] = ()
    """Sequences that went on."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """The transactions that ended on the losing side past the fork."""

    committed: int
    aborted: int
    user: int
    """Of the committed: those that may be a person's doing."""
    maintenance: int
    """Of the committed: those that only kept the planner's statistics."""
    first_s: float | None
    """When the first one committed, by the server's clock."""
    last_s: float | None
    kinds: tuple[tuple[str, int], ...] = ()
    """What the committed ones did beside rows, and what was done outside of any, as
    the log calls it: so many times."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """All that was read out of one losing side."""

    snapshot: str
    node: str
    system_id: str
    version_num: int
    fork: Fork
    end_lsn: Lsn
    """Up to here the log was followed."""
    made_wall_s: float
    databases: tuple[DatabaseRows, ...]
    transactions: Transactions
    unread: tuple[Unread, ...]
    fork_next_xid: int | None = None
    """The first transaction id that nobody had taken at the fork."""
    fork_open: tuple[int, ...] = ()
    """Transactions that were under way or prepared there."""
    statistics: tuple[Relation, ...] = ()
    """The files of the planner's statistics: who writes only there is nobody."""
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """How many rows there are in all files."""
        return sum(
            table.written.lines
            for database in self.databases
            for table in database.tables
        )
