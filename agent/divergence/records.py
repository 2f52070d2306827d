"""One line of pg_waldump, as far as it says what became of rows.

Theory of operation. The server's own program has read and checked the record; here its
words are taken apart. Versions word line pointers differently: `off 3` up to 15,
`off: 3`, `old_off: 3` and `new_off: 31` later. A block reference names file and block;
of an update the first is the new row's block and the second the old one's, when that is
another. What cannot be taken apart is a ValueError: a word that is not understood must
not pass for "no row changed".
Source of the wording: src/backend/access/rmgrdesc of PostgreSQL 10 to 18.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.core.lsn import Lsn
from agent.divergence.model import Relation

_LINE = re.compile(
    r"rmgr: (\S+) +len \(rec/tot\): *\d+/ *\d+, tx: *(\d+), lsn: ([0-9A-F]+/[0-9A-F]+),"
    r" prev [0-9A-F]+/[0-9A-F]+, (?:bkp: [01]+, )?desc: ([A-Z_]+)(\+INIT)? ?(.*)"
)
_BLOCK = re.compile(r"blkref #(\d+): rel (\d+)/(\d+)/(\d+) (?:fork main )?blk (\d+)")
_OLD = re.compile(r"\b(?:old_)?off:? (\d+)")
_NEW = re.compile(r"\bnew(?: |_)off:? (\d+)")
_COUNT = re.compile(r"(?:ntuples: )?(\d+)")
_TIME = re.compile(r"(\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)? UTC")
_SUBXACTS = re.compile(r"; subxacts:((?: \d+)+)")
_DROPPED = re.compile(r"; rels:((?: [^ ;]+)+)")
_OF_ANOTHER = re.compile(r"(\d+): ")
_GID = re.compile(r"gid (.*?): \d{4,}-\d\d-\d\d ")
_NEXT_XID = re.compile(r"(?:nextXid (\d+)|; xid \d+:(\d+);)")
_RUNNING = re.compile(r"; \d+ xacts:((?: \d+)+)")
_PATH = re.compile(r"(?:base/(\d+)|pg_tblspc/(\d+)/[^/ ]+/(\d+)|(global))/(\d+)(_\w+)?")
_DATABASE = re.compile(r"\b(\d+)/(\d+)")
DEFAULT_TABLESPACE = 1663
GLOBAL_TABLESPACE = 1664
_LAST_DAY = "9999-12-31 23:59:59"


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    manager: str
    """The resource manager, as pg_waldump names it: `Heap`, `Transaction` …"""
    name: str
    """What it does: `INSERT`, `HOT_UPDATE`, `COMMIT` …"""
    fresh: bool
    """Whether it begins an empty page (`+INIT`)."""
    xid: int
    """The (sub)transaction; 0 for none."""
    lsn: Lsn
    """Where it begins."""
    text: str
    """The rest of the line, block references included."""

    @property
    def kind(self) -> str:
        """Manager and name, as one word for people and tables."""
        return f"{self.manager}/{self.name}"


def parse(line: str) -> Record | None:
    """Return what a line says; None when it is no record (a complaint, an image)."""
    match = _LINE.match(line)
    if match is None:
        return None
    manager, xid, lsn, name, fresh, text = match.groups()
    return Record(manager, name, fresh is not None, int(xid), Lsn.parse(lsn), text)


def heap_block(record: Record, number: int = 0) -> tuple[Relation, int]:
    """Return file and block of one reference; of number 1 the first one's if absent.

    Raises ValueError when there is none.
    """
    found: tuple[Relation, int] | None = None
    for match in _BLOCK.finditer(record.text):
        which, space, database, filenode, block = map(int, match.groups())
        if which in (0, number):
            found = (Relation(space, database, filenode), block)
        if which >= number:
            break
    if found is None:
        raise ValueError(f"{record.kind} names no block: {record.text[:200]}")
    return found


def old_offset(record: Record) -> int:
    """Return the line pointer of the row that is inserted, deleted or updated."""
    return _number(_OLD, record)


def new_offset(record: Record) -> int:
    """Return the line pointer of an updated row's new version."""
    return _number(_NEW, record)


def row_count(record: Record) -> int:
    """Return how many rows came together in a MULTI_INSERT."""
    return _number(_COUNT, record)


def ended_at(record: Record) -> float:
    """Return the time of a commit, abort or prepare, seconds since 1970 in UTC."""
    match = _TIME.search(record.text)
    if match is None:
        raise ValueError(f"{record.kind} names no time: {record.text[:200]}")
    day, fraction = match.groups()
    known = day if len(day) == len(_LAST_DAY) else _LAST_DAY  # a clock far ahead
    when = datetime.fromisoformat(known).replace(tzinfo=UTC)
    return when.timestamp() + float(fraction or 0)


def top_xid(record: Record) -> int:
    """Return the transaction that ends; of a prepared one the one that is named."""
    if not record.name.endswith("_PREPARED"):
        return record.xid
    match = _OF_ANOTHER.match(record.text)
    return int(match[1]) if match is not None else record.xid


def children(record: Record) -> tuple[int, ...]:
    """Return the subtransactions that end with it, alike."""
    match = _SUBXACTS.search(record.text)
    return tuple(map(int, match[1].split())) if match is not None else ()


def dropped_files(record: Record) -> tuple[Relation, ...]:
    """Return the files that a commit or abort deletes."""
    match = _DROPPED.search(record.text)
    if match is None:
        return ()
    found = (file_of(path) for path in match[1].split())
    return tuple(relation for relation in found if relation is not None)


def prepared_name(record: Record) -> str:
    """Return the name that a PREPARE gave; empty where it is not printed."""
    match = _GID.search(record.text)
    return match[1] if match is not None else ""


def next_xid(record: Record) -> int | None:
    """Return the next transaction id that a checkpoint or a running list names."""
    match = _NEXT_XID.search(record.text)
    return int(match[1] or match[2]) if match is not None else None


def running(record: Record) -> tuple[int, ...]:
    """Return the transactions that a RUNNING_XACTS lists as under way."""
    match = _RUNNING.search(record.text)
    return tuple(map(int, match[1].split())) if match is not None else ()


def file_of(path: str) -> Relation | None:
    """Return the file that a path such as `base/5/24576` stands for.

    None for what is not the main part of a relation (`_fsm`, `_vm`, `_init`).
    """
    match = _PATH.match(path)
    if match is None:
        raise ValueError(f"not a relation's path: {path[:100]}")
    default, space, within, shared, filenode, fork = match.groups()
    if fork is not None:
        return None
    if shared is not None:
        return Relation(GLOBAL_TABLESPACE, 0, int(filenode))
    if default is not None:
        return Relation(DEFAULT_TABLESPACE, int(default), int(filenode))
    return Relation(int(space), int(within), int(filenode))


def created_database(record: Record) -> int | None:
    """Return the object id of the database that a Database record makes or drops."""
    found = _DATABASE.findall(record.text)
    return int(found[-1][1]) if found else None


def _number(pattern: "re.Pattern[str]", record: Record) -> int:
    found = pattern.search(record.text)
    if found is None:
        raise ValueError(f"{record.kind} is worded otherwise: {record.text[:200]}")
    return int(found[1])
