"""The report of what was lost: its shape, and the file that keeps it.

Theory of operation. A report is plain values, made once (`report_making`), kept beside
the rows (`loss/report.json`) and shown in three forms. It can be made before there is a
winner to compare with: then `winner` is None, the counts are all zero, and what each
table's losing side `wrote` is all that is said. Instants are seconds since 1970 in UTC,
None where nobody knows. Values in it are fit to be shown (`redaction`).
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from agent import codec
from agent.core.lsn import Lsn
from agent.divergence import kept
from agent.divergence.model import DifferenceKind
from agent.snapshot.files import write_atomically

FORMAT = 1
NAME = "report.json"
BYTES_MAX = 256 << 20
"""A larger file is none of ours."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a table are what. See DifferenceKind for the words."""

    lost: int = 0
    changed: int = 0
    deleted: int = 0
    conflicts: int = 0
    collisions: int = 0
    equal: int = 0
    """The winner has them alike, though the losing side wrote them past the fork."""
    unknown: int = 0
    """It could not be found out."""

    @property
    def differing(self) -> int:
        """How many rows the two sides are not agreed on."""
        return (
            self.lost + self.changed + self.deleted + self.conflicts + self.collisions
        )

    def __add__(self, other: "Counts") -> "Counts":
        names = [each.name for each in fields(Counts)]
        return Counts(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class Wrote:
    """What the losing side did to the rows of a table past the fork."""

    born: int = 0
    changed: int = 0
    gone: int = 0

    @property
    def rows(self) -> int:
        """How many rows in all."""
        return self.born + self.changed + self.gone


@dataclass(frozen=True, slots=True)
class Side:
    """The transactions of one side past the fork; None: not known."""

    committed: int | None = None
    aborted: int | None = None
    user: int | None = None
    """Of the committed ones: those that may be a person's doing."""
    maintenance: int | None = None
    """Of the committed ones: those that are the server's own, such as ANALYZE."""
    first_s: float | None = None
    """When the first one committed."""
    last_s: float | None = None


@dataclass(frozen=True, slots=True)
class Winner:
    """What the losing side was compared with."""

    name: str
    lsn: Lsn | None
    """Where it stood when it was read."""
    at_s: float
    """When it was read."""
    side: Side = field(default=Side())
    dsn: str = ""
    """How somebody who may write there reaches it, without a secret; empty: not known,
    or it is a snapshot."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a row."""

    column: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """One column in which two rows are not alike."""

    column: str
    loser: str | None
    winner: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row on which the two sides are not agreed, as an example."""

    kind: DifferenceKind
    key: tuple[Cell, ...]
    """Its key; its first columns where it has none."""
    contrasts: tuple[Contrast, ...] = ()
    """Columns in which the rows differ; the first few."""
    note: str = ""
    row: tuple[Cell, ...] = ()
    """What else stands in it, so that a person knows it again: the first few columns
    beside the key that hold something. None where `contrasts` tell."""


@dataclass(frozen=True, slots=True)
class TableLoss:
    """One table that the losing side wrote to."""

    database: str
    schema: str
    table: str
    counts: Counts
    wrote: Wrote
    root: str = ""
    """The topmost table that it is a partition of."""
    key: tuple[str, ...] = ()
    """Columns by which rows were told apart; none: whole rows, each as often as it
    stands there."""
    whole: bool = False
    """The whole table was compared, because its file was replaced past the fork."""
    note: str = ""
    redacted: tuple[str, ...] = ()
    """Columns whose values are shown as hashes."""
    samples: tuple[Sample, ...] = ()

    @property
    def name(self) -> str:
        """Schema and table."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class Named:
    """Something beside rows that is not the same on both sides."""

    kind: str
    """`table`, `sequence`, `role`, `function`, `enum` …"""
    name: str
    what: str
    """What became of it, such as `created by the losing side`."""
    database: str = ""
    """Empty for what all databases share."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be compared."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Commits that waited for a synchronous standby: perhaps never acknowledged."""

    count: int
    first_s: float | None
    last_s: float | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A logical slot that stood past the fork: its receiver has perhaps got writes."""

    slot: str
    database: str
    plugin: str
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Released:
    """A permit that a person gave before everything was protected."""

    node: str
    who: str
    reason: str
    at_s: float
    protected_lsn: Lsn | None
    """Nothing past it was protected; None: nothing at all."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """Rows of this snapshot that somebody put into a server."""

    at_s: float
    who: str
    reason: str
    database: str
    server: str
    """Host and port."""
    rows: int
    """How many it wrote or deleted there."""
    ended: bool = True
    """Whether its end is recorded; otherwise nobody knows whether it was committed."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing of a manager, in the manager's words."""

    kind: str
    """`deployment`, `blueprint`, `plugin` …"""
    tenant: str
    """Empty for what belongs to no tenant."""
    id: str
    fate: DifferenceKind
    """LOST: the winner has none of this tenant and id; CONFLICT: both sides changed it;
    COLLISION: both sides made one of this tenant and id."""
    created: str = ""
    """When, as the manager's own table says, in UTC."""
    who: str = ""
    """Who did it, as the manager's audit log says."""
    detail: str = ""
    """What else a person knows it by: a plugin's version, an execution's workflow."""


@dataclass(frozen=True, slots=True)
class EntityCount:
    """How many things of one kind became what."""

    kind: str
    lost: int = 0
    changed: int = 0
    deleted: int = 0
    conflicts: int = 0
    collisions: int = 0


@dataclass(frozen=True, slots=True)
class ManagersLoss:
    """What a manager lost, in its own words."""

    database: str
    counts: tuple[EntityCount, ...]
    """Of each kind of which there is something, the weightiest first."""
    entities: tuple[Entity, ...]
    """The first ones of each kind."""
    audited: bool = False
    """Whether this manager keeps an audit log."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What the losing side wrote past the fork, and what the winner has of it."""

    cluster: str
    node: str
    snapshot_id: str
    incident_ids: tuple[str, ...]
    made_s: float
    fork_timeline: int
    """The last timeline that both sides were on."""
    fork_lsn: Lsn
    end_lsn: Lsn
    loser: Side
    winner: Winner | None
    """None: not compared yet."""
    tables: tuple[TableLoss, ...]
    headline: str
    objects: tuple[Named, ...] = ()
    gaps: tuple[Gap, ...] = ()
    managers: tuple[ManagersLoss, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    delivered: tuple[Delivered, ...] = ()
    released: tuple[Released, ...] = ()
    rescues: tuple[Rescued, ...] = ()
    """As recorded when the report was given; its file has none."""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """WAL from the fork to the losing side's end."""
        return max(0, int(self.end_lsn) - int(self.fork_lsn))

    @property
    def counts(self) -> Counts:
        """All tables together."""
        return sum((each.counts for each in self.tables), Counts())

    @property
    def wrote(self) -> Wrote:
        """What the losing side wrote in all tables together."""
        return Wrote(
            sum(each.wrote.born for each in self.tables),
            sum(each.wrote.changed for each in self.tables),
            sum(each.wrote.gone for each in self.tables),
        )


def save(report: Report, folder: Path) -> Path:
    """Keep a report in a snapshot's folder of losses, durably. Raises OSError."""
    path = folder / NAME
    kept = replace(report, rescues=())
    write_atomically(path, codec.to_json(kept).encode("ascii"))
    return path


def load(folder: Path) -> Report | None:
    """Return the report that is kept there; None where there is none.

    Raises SnapshotError when it cannot be read or is of another format.
    """
    again = "make it anew: `splitguard loss report SNAPSHOT`"
    return kept.read(folder / NAME, Report, FORMAT, again, BYTES_MAX)
