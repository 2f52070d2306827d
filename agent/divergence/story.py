"""What one side's WAL did to which rows, once the transactions had ended.

Theory of operation. A row that was there at the fork is known by the place that it had
then. Records are gathered by (sub)transaction and count when the transaction commits
past the fork, in the order of the log: a place that was freed is used again only
after the transaction that freed it had ended, so that order is also that of lives. A
row of the fork is followed from place to place; what was inserted past the fork has no
place there. What aborted counts for nothing, nor does what nobody ended: an open
transaction ends with its server. Reading begins before the fork, because a transaction
that was under way there has written before it; one that began before what was read
(`early`) has perhaps written what nobody saw, and whoever reads rows must look for its
rows in every table. Where the log replaces a table's file (TRUNCATE, VACUUM FULL, a
rewrite), places mean nothing past it: the new file is `created`, and is compared whole.

Memory: some hundred bytes for each row that changed.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge

from agent.core.lsn import Lsn
from agent.divergence import records
from agent.divergence.maintenance import HARMLESS, HARMLESS_OUTSIDE, HEAP_CHANGES
from agent.divergence.model import Place, Relation, place_of
from agent.divergence.records import Record

Offsets = Callable[[Lsn], tuple[int, ...]]
"""From the LSN of a MULTI_INSERT to the line pointers that it filled."""
Visible = Callable[[int, int], bool]
"""Whether what a transaction did in a database (by object id) is to count."""
_INSERT, _DELETE, _UPDATE = range(3)
_FIELDS = 4
"""LSN, file and kind, old place, new place: numbers of one change in an array."""


@dataclass(slots=True)
class Rows:
    """What became of the rows of one file."""

    moved: dict[Place, Place] = field(default_factory=dict)
    """Of rows that were there at the fork and were updated: from where each is now to
    where it was."""
    born: set[Place] = field(default_factory=set)
    """Where a row is now that was not there at the fork."""
    gone: set[Place] = field(default_factory=set)
    """Where a row was at the fork that is deleted."""

    def insert(self, new: Place) -> None:
        """Take in a row that was inserted."""
        self.born.add(new)

    def update(self, old: Place, new: Place) -> None:
        """Follow a row to where its new version is."""
        if old in self.born:
            self.born.discard(old)
            self.born.add(new)
        else:
            self.moved[new] = self.moved.pop(old, old)

    def delete(self, old: Place) -> None:
        """Take in that a row was deleted."""
        if old in self.born:
            self.born.discard(old)
        else:
            self.gone.add(self.moved.pop(old, old))

    def __len__(self) -> int:
        return len(self.moved) + len(self.born) + len(self.gone)


@dataclass(frozen=True, slots=True)
class Ended:
    """One transaction that ended past the fork."""

    xid: int
    lsn: Lsn
    """Where its end is recorded."""
    at_s: float
    """By the server's clock, seconds since 1970 in UTC."""
    committed: bool
    touched: frozenset[Relation]
    """Files whose rows it changed."""
    kinds: frozenset[str]
    """What else it did, as manager and name; only what may be a person's doing."""


@dataclass(slots=True)
class Story:
    """What one side did past the fork."""

    fork_lsn: Lsn
    end_lsn: Lsn
    rows: dict[Relation, Rows] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    committed: dict[int, float] = field(default_factory=dict)
    """Every (sub)transaction that committed past the fork, with the time."""
    created: dict[Relation, int] = field(default_factory=dict)
    """Files that a committed transaction made, with its id."""
    carried: dict[Relation, Place] = field(default_factory=dict)
    """Of files into which a rewrite copied rows one by one, stamping them as its own:
    up to which place. What the same transaction inserted later lies behind it."""
    dropped: dict[Relation, int] = field(default_factory=dict)
    """Files that a committed transaction deleted."""
    sequences: set[Relation] = field(default_factory=set)
    """Sequences that went on."""
    databases: set[int] = field(default_factory=set)
    """Databases that were made or dropped."""
    prepared: dict[int, str] = field(default_factory=dict)
    """Transactions that stood prepared at the end, with their names."""
    early: set[int] = field(default_factory=set)
    """Those in `committed` that had begun before what was read."""
    outside: dict[str, int] = field(default_factory=dict)
    """What was done outside of any transaction and may be a person's doing: kind to
    number of records."""
    fork_next_xid: int | None = None
    """The first transaction id that nobody had taken at the fork."""
    fork_open: set[int] = field(default_factory=set)
    """Transactions that were under way or prepared at the fork: what they wrote came
    past it, though their ids are older."""


@dataclass(slots=True)
class _Open:
    """What a (sub)transaction that has not ended did."""

    changes: "array[int]" = field(default_factory=lambda: array("Q"))
    kinds: set[str] = field(default_factory=set)
    created: dict[Relation, int] = field(default_factory=dict)
    """Files, with the LSN at which each was made."""


class Teller:
    """Takes in records in the order of the log, and tells the story.

    `begins_whole` says that no transaction was under way where reading begins, or that
    the log begins there. What commits and is not `visible` (transaction, database)
    leaves the rows as they were: so a story fits a database snapshot. Raises ValueError
    on a record whose wording is not understood.
    """

    def __init__(
        self,
        fork_lsn: Lsn,
        offsets: Offsets,
        *,
        begins_whole: bool = False,
        visible: Visible = lambda _xid, _database: True,
    ) -> None:
        self._story = Story(fork_lsn, fork_lsn)
        self._offsets = offsets
        self._open: dict[int, _Open] = {}
        self._files: list[Relation] = []
        self._numbers: dict[Relation, int] = {}
        self._first_xid: int | None = None
        self._begins_whole = begins_whole
        self._visible = visible
        self._under_way: set[int] = set()
        self._next_xid = 0
        self._kinds: dict[frozenset[str], frozenset[str]] = {}
        self._by_manager: dict[str, Callable[[Record], None]] = {
            "Transaction": self._transaction,
            "Standby": self._look_around,
            "XLOG": self._look_around,
            "Storage": self._storage,
            "Sequence": self._sequence,
            "Database": self._database,
        }
        self._touched: dict[frozenset[int], frozenset[Relation]] = {}

    def take(self, record: Record) -> None:
        """Take in the next record."""
        story = self._story
        if story.fork_next_xid is None and record.lsn >= story.fork_lsn:
            self._note_fork()
        self._next_xid = max(self._next_xid, record.xid + 1)
        if record.kind in HEAP_CHANGES:
            self._change(record)
        else:
            self._by_manager.get(record.manager, self._other)(record)

    def story(self, end_lsn: Lsn) -> Story:
        """Return what was told up to the end of the log."""
        story = self._story
        story.end_lsn = end_lsn
        if story.fork_next_xid is None:
            self._note_fork()
        return story

    def _note_fork(self) -> None:
        self._story.fork_next_xid = self._next_xid
        self._story.fork_open = ({*self._open} | self._under_way) - {0}

    def _of(self, record: Record) -> _Open:
        found = self._open.get(record.xid)
        if found is None:
            found = self._open[record.xid] = _Open()
        return found

    def _other(self, record: Record) -> None:
        """Keep in mind what may be a person's doing."""
        kind = record.kind
        if kind in HARMLESS or record.manager in HARMLESS:
            return
        if record.xid:
            self._of(record).kinds.add(kind)
        elif record.lsn >= self._story.fork_lsn and kind not in HARMLESS_OUTSIDE:
            self._story.outside[kind] = self._story.outside.get(kind, 0) + 1

    def _storage(self, record: Record) -> None:
        made = records.file_of(record.text) if record.name == "CREATE" else None
        if made is not None:
            self._of(record).created[made] = int(record.lsn)
        self._other(record)

    def _sequence(self, record: Record) -> None:
        if record.lsn >= self._story.fork_lsn:
            self._story.sequences.add(records.heap_block(record)[0])
        self._other(record)

    def _database(self, record: Record) -> None:
        database = records.created_database(record)
        if database is not None and record.lsn >= self._story.fork_lsn:
            self._story.databases.add(database)
        self._other(record)

    def _change(self, record: Record) -> None:
        what = HEAP_CHANGES[record.kind]
        relation, block = records.heap_block(record)
        changes = self._of(record).changes
        number = self._number(relation)
        lsn = int(record.lsn)
        if what == "update":
            _, old_block = records.heap_block(record, 1)
            old = place_of(old_block, records.old_offset(record))
            new = place_of(block, records.new_offset(record))
            changes.extend((lsn, number * 4 + _UPDATE, old, new))
        elif what == "delete":
            old = place_of(block, records.old_offset(record))
            changes.extend((lsn, number * 4 + _DELETE, old, 0))
        else:
            many = what == "many"
            offsets = self._many(record) if many else (records.old_offset(record),)
            for offset in offsets:
                new = place_of(block, offset)
                changes.extend((lsn, number * 4 + _INSERT, 0, new))

    def _many(self, record: Record) -> Iterable[int]:
        count = records.row_count(record)
        if record.fresh:
            return range(1, count + 1)
        offsets = self._offsets(record.lsn)
        if len(offsets) != count:
            raise ValueError(
                f"{record.kind} at {record.lsn} fills {count} places,"
                f" {len(offsets)} are named"
            )
        return offsets

    def _number(self, relation: Relation) -> int:
        number = self._numbers.get(relation)
        if number is None:
            number = self._numbers[relation] = len(self._files)
            self._files.append(relation)
        return number

    def _look_around(self, record: Record) -> None:
        """Learn from a checkpoint, or a list of transactions, who is under way."""
        upcoming = records.next_xid(record)
        # A checkpoint names what was so at its redo point, which may lie before.
        self._next_xid = max(self._next_xid, upcoming or 0)
        if record.name == "RUNNING_XACTS" and self._first_xid is None:
            self._first_xid = self._next_xid
            self._under_way.update(records.running(record))
        self._other(record)

    def _transaction(self, record: Record) -> None:
        name = record.name
        if name.startswith("COMMIT"):
            self._end(record, committed=True)
        elif name.startswith("ABORT"):
            self._end(record, committed=False)
        elif name == "PREPARE":
            self._story.prepared[record.xid] = records.prepared_name(record)
        else:
            self._other(record)

    def _end(self, record: Record, *, committed: bool) -> None:
        top = records.top_xid(record)
        members = (top, *records.children(record))
        ended = [self._open.pop(member, None) for member in members]
        self._story.prepared.pop(top, None)
        if self._story.fork_next_xid is None:
            self._under_way.difference_update(members)
        if record.lsn < self._story.fork_lsn:
            return
        parts = [part for part in ended if part is not None]
        at_s = records.ended_at(record)
        touched = self._touched_by(parts)
        kinds = frozenset(kind for part in parts for kind in part.kinds)
        kinds = self._kinds.setdefault(kinds, kinds)
        story = self._story
        story.ended.append(Ended(top, record.lsn, at_s, committed, touched, kinds))
        if not committed:
            return
        story.committed.update(dict.fromkeys(members, at_s))
        story.early.update(member for member in members if self._is_early(member))
        for part in parts:
            story.created.update(dict.fromkeys(part.created, top))
            self._carry(part)
        story.dropped.update(dict.fromkeys(records.dropped_files(record), top))
        self._apply(top, parts)

    def _carry(self, part: _Open) -> None:
        """Note which rows of new files were carried over from those before.

        A TRUNCATE makes a file and updates pg_class. A rewrite makes one, inserts what
        the catalogues need of a table in passing, fills it, and updates pg_class then.
        Source: RelationSetNewRelfilenumber and finish_heap_swap in the server.
        """
        coming = sorted(part.created.items(), key=lambda made: made[1])
        filling: set[Relation] = set()
        for lsn, target, _, new in _changes(part.changes) if coming else ():
            relation, what = self._files[target // 4], target % 4
            while coming and lsn > coming[0][1]:
                made, _ = coming.pop(0)
                if what == _INSERT:
                    filling.add(made)
            if what == _UPDATE:
                filling -= self._story.carried.keys()
            elif relation in filling:
                last = self._story.carried.get(relation, new)
                self._story.carried[relation] = max(last, new)

    def _is_early(self, xid: int) -> bool:
        if self._begins_whole:
            return False
        if self._first_xid is None:
            return True
        return xid in self._under_way or xid < self._first_xid

    def _touched_by(self, parts: list[_Open]) -> frozenset[Relation]:
        numbers = frozenset(n // 4 for part in parts for n in part.changes[1::_FIELDS])
        found = self._touched.get(numbers)
        if found is None:
            found = frozenset(self._files[number] for number in numbers)
            self._touched[numbers] = found
        return found

    def _apply(self, top: int, parts: list[_Open]) -> None:
        rows = self._story.rows
        for _, target, old, new in merge(*(_changes(part.changes) for part in parts)):
            relation = self._files[target // 4]
            of_file = rows.get(relation)
            if of_file is None:
                of_file = rows[relation] = Rows()
            if not self._visible(top, relation.database):
                continue
            what = target % 4
            if what == _INSERT:
                of_file.insert(new)
            elif what == _DELETE:
                of_file.delete(old)
            else:
                of_file.update(old, new)


def _changes(numbers: "array[int]") -> Iterator[tuple[int, int, int, int]]:
    fields = iter(numbers)
    return zip(fields, fields, fields, fields, strict=True)
