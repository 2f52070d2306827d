"""Write-ahead log as a chain of records, each sealed by a hash of the ones before.

Theory of operation. A server's whole history is one record, its last; every record
knows the one before it. Two servers share what both chains hold, and their fork is
the last record in common: no number is compared to find it, so the truth of the
world cannot be fooled by what fools a reader of timeline numbers. A record carries
the lineage under which it was written, as the disk would show it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from agent.core.lineage import Fingerprint, Lineage, PagePrint, Switch
from agent.core.lsn import Lsn
from agent.core.pageprint import PAGE_BYTES

SYSTEM = "7300000000000000001"
BEGIN_LSN = 0x3000000
COMMIT_BYTES = 0x100
CHECKPOINT_BYTES = 0x78
SWITCH_BYTES = 0x60


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One record; with those before it, the whole WAL up to its end."""

    before: "Record | None"
    lineage: Lineage
    lsn: int
    """Where it ends."""
    count: int
    """How many records lie before it."""
    next_xid: int
    row: str
    """What a commit wrote; empty for what PostgreSQL writes by itself."""
    written_s: float
    digest: bytes

    @property
    def timeline(self) -> int:
        return self.lineage.timeline

    def __repr__(self) -> str:
        return f"<{self.timeline}:{Lsn(self.lsn)} {self.row!r}>"


def begin(system: str = SYSTEM) -> Record:
    """The first record of a new cluster."""
    digest = hashlib.sha256(system.encode()).digest()
    return Record(None, Lineage(system, 1, ()), BEGIN_LSN, 0, 700, "", 0.0, digest)


def append(tip: Record, row: str, now_s: float, size: int = COMMIT_BYTES) -> Record:
    """Write one more record; one with a row is a commit."""
    return Record(
        tip,
        tip.lineage,
        tip.lsn + size,
        tip.count + 1,
        tip.next_xid + bool(row),
        row,
        now_s,
        hashlib.sha256(tip.digest + f"{row}@{now_s}".encode()).digest(),
    )


def switched(tip: Record, timeline: int, mark: str, now_s: float) -> Record:
    """Begin another timeline here; `mark` is what makes this beginning its own."""
    made = append(tip, "", now_s, SWITCH_BYTES)
    digest = hashlib.sha256(made.digest + mark.encode()).digest()
    old, here = tip.lineage, Lsn(tip.lsn)
    lineage = Lineage(
        old.system_id,
        timeline,
        (*old.switches, Switch(old.timeline, here)),
        (*old.fingerprints, Fingerprint(timeline, here, digest.hex())),
    )
    return replace(made, lineage=lineage, digest=digest)


def spliced(tip: Record, record: Record) -> Record:
    """Put another chain's record after this one, as a standby does unknowingly."""
    digest = hashlib.sha256(tip.digest + record.digest).digest()
    return replace(
        record,
        before=tip,
        count=tip.count + 1,
        lineage=tip.lineage,
        digest=digest,
    )


def back(tip: Record) -> Iterator[Record]:
    """Go from the last record to the first."""
    record: Record | None = tip
    while record is not None:
        yield record
        record = record.before


def holds(tip: Record, wanted: Record) -> bool:
    """Whether the chain that ends with `tip` holds this very record."""
    record: Record | None = tip
    while record is not None and record.count > wanted.count:
        record = record.before
    return record is wanted


def fork(first: Record, second: Record) -> Record | None:
    """The last record that two chains share; None when they share nothing."""
    one: Record | None = first
    other: Record | None = second
    while one is not other:
        if one is None or other is None:
            return None
        if one.count >= other.count:
            one = one.before
        else:
            other = other.before
    return one


def beyond(tip: Record, kept: Record | None) -> tuple[Record, ...]:
    """What the chain of `tip` has that the one of `kept` lacks, newest first."""
    end = None if kept is None else fork(tip, kept)
    found: list[Record] = []
    for record in back(tip):
        if record is end:
            break
        found.append(record)
    return tuple(found)


def rows(tip: Record) -> set[str]:
    """Everything that was committed up to here."""
    return {record.row for record in back(tip) if record.row}


class Pages:
    """Prints of whole pages, by what was written into each.

    Not by what lies before: a page that was streamed from a twin is the twin's.
    """

    def __init__(self) -> None:
        self._tip: Record | None = None
        self._made: dict[int, str] = {}

    def of(self, tip: Record, begins: Iterable[Lsn]) -> tuple[PagePrint, ...]:
        """Print the pages that begin there, as far as they are whole and of its kind.

        Only what was printed since the chain last grew is looked for anew.
        """
        if self._tip is None or not holds(tip, self._tip):
            self._made.clear()
        self._tip = tip
        found = []
        for page in begins:
            if page not in self._made and page + PAGE_BYTES <= tip.lsn:
                self._made[page] = _printed(tip, page)
            if self._made.get(page):
                found.append(PagePrint(tip.timeline, page, self._made[page]))
        return tuple(found)


def _printed(tip: Record, page: int) -> str:
    digest = hashlib.sha256()
    for record in back(tip):
        if record.lsn <= page:
            break
        before = page if record.before is None else record.before.lsn
        if before < page + PAGE_BYTES:
            if record.timeline != tip.timeline:
                return ""
            digest.update(f"{record.lsn} {record.row} {record.written_s}".encode())
    return digest.hexdigest()[:32]
