"""What a database consists of, as far as rows can be told apart and put back.

Theory of operation. Both sides of a fork are described in these words, so that they can
be set against each other: a table by its schema and name, its file by its filenode, a
row by its place in that file or by its key. Names are PostgreSQL's own, unquoted;
types are what `format_type` prints. Values are texts as the server prints them under
fixed settings (`values`), None for NULL; bytes that are no UTF-8 (a database in
SQL_ASCII) travel as Python's surrogate escapes, and go out as the same bytes again.
"""

from dataclasses import dataclass
from enum import StrEnum

Place = int
"""Where a row lies in its file: its block times 65536 plus its line pointer."""
PLACES = 1 << 16
"""Line pointers of one block."""
Values = tuple[str | None, ...]
"""One row, in the order of its table's columns."""


def place_of(block: int, offset: int) -> Place:
    """Return the place of a block's line pointer."""
    return block * PLACES + offset


def ctid(place: Place) -> str:
    """Return a place as PostgreSQL prints it: `(block,line pointer)`."""
    return f"({place // PLACES},{place % PLACES})"


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """The name of a table, sequence or other object in its schema."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """A file of a database: of one version of a table, an index, a sequence."""

    tablespace: int
    """The object id of its tablespace, 1663 for the default one."""
    database: int
    """The object id of its database, 0 for what all databases share."""
    filenode: int


@dataclass(frozen=True, slots=True)
class Column:
    """One column that is not dropped."""

    name: str
    type: str
    """As `format_type` prints it, with its modifier: `character varying(20)`."""
    not_null: bool = False
    generated: bool = False
    """Computed from others: never written."""
    identity: str = ""
    """`a` (always), `d` (by default) or nothing."""
    sequence: Name | None = None
    """The sequence that it owns or takes its default from (serial, identity)."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference of this table's rows to another table's."""

    name: str
    columns: tuple[str, ...]
    table: Name
    referenced: tuple[str, ...]
    deferrable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table that has rows of its own: no partitioned parent, no view."""

    oid: int
    name: Name
    relation: Relation
    columns: tuple[Column, ...]
    primary: tuple[str, ...] = ()
    """Columns of the primary key; else of the replica identity index."""
    uniques: tuple[tuple[str, ...], ...] = ()
    """Columns of further unique indexes: whole, valid, without expressions."""
    root: Name | None = None
    """The topmost table that it is a partition of."""
    persistence: str = "p"
    """`p` permanent, `u` unlogged (its rows leave no WAL)."""
    kind: str = "r"
    """`r` table, `m` materialised view."""
    toast: Relation | None = None
    foreign_keys: tuple[ForeignKey, ...] = ()
    extension: str = ""
    """The extension that it belongs to, if any."""

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns that names one row, the best first."""
        return ((self.primary,) if self.primary else ()) + self.uniques

    def position(self, column: str) -> int:
        """Return where a column stands in `Values`. Raises ValueError."""
        return [each.name for each in self.columns].index(column)


class DifferenceKind(StrEnum):
    """What sets a row of the losing side apart from the winner."""

    LOST = "lost"
    """The losing side inserted it, the winner has no such row."""
    CHANGED = "changed"
    """It was there at the fork, the losing side changed it, the winner did not."""
    DELETED = "deleted"
    """It was there at the fork, the losing side deleted it, the winner left it."""
    CONFLICT = "conflict"
    """It was there at the fork, and both sides changed it, not alike; one may have
    deleted it."""
    COLLISION = "collision"
    """Both sides inserted a row under one key, and the rows are not the same."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row on which the two sides are not agreed."""

    kind: DifferenceKind
    loser: Values | None
    """As the losing side has it; None: deleted there."""
    winner: Values | None
    """As the winner has it, in the order of the losing side's columns (None in place of
    a column that it lacks); None: it has no such row."""
    fork: Values | None = None
    """As it was at the fork, where that is known."""
    xid: int | None = None
    """The transaction of the losing side that left it so."""
    twin: Values | None = None
    """Of a collision: the winner's row that is the same by another unique key."""
    note: str = ""
    """What else must be known of it, such as a key that was taken meanwhile."""
