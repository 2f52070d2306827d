"""What a server has beside rows: tables, functions, roles; and how two servers differ.

Theory of operation. `read_objects` describes everything in a database, and
`read_shared` what all databases share, as plain values, in the caller's transaction;
`compare_objects` sets two such lists against each other and names what is unlike. Which
side did it is told by the transactions that left the catalogue's rows as they are: an
xid means something on its own side only, so each side has its own predicate, and
without them an object is said to differ and no more. What the winner made for itself is
no loss and is not named; what it dropped or changed is, because rows may be meant for
it. Parts of a table (indexes, constraints, triggers) are not named beside their table.

A sequence's value is read as it stands on disk: a server takes 32 values at once into
its log, so one that was recovered may be up to 32 steps past what was really given out.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from agent import codec
from agent.divergence import objects_sql
from agent.divergence.redaction import printable
from agent.divergence.report import Named
from agent.divergence.values import copy_out
from agent.errors import CodecError, SnapshotError
from agent.postgres.connect import Session, fetch_one
from agent.snapshot.files import write_atomically

Wrote = Callable[[int], bool]
"""Whether a transaction id is one that committed on this side past the fork."""
XIDS = 1 << 32
FIRST_NORMAL_XID = 3
_DOING = "the catalogue cannot be read"
_VALUE = "value"
_WORDS_MAX = 4
"""Aspects that are named of one object."""
_HERE, _THERE = "the losing side", "the winner"
_REWRITTEN = "(TRUNCATE, VACUUM FULL, CLUSTER or ALTER TABLE)"


@dataclass(frozen=True, slots=True)
class Object:
    """One thing of a database, or of a server."""

    kind: str
    """`table`, `function`, `enum`, `role` …"""
    identity: str
    """Its name with its schema; of a function with its arguments."""
    definition: tuple[tuple[str, str], ...]
    """What there is to compare: aspect and text, such as its columns."""
    oid: int = 0
    file: int = 0
    """Of what has one: its filenode, which a rewrite changes."""
    parent: str = ""
    """The table that it is a part of."""
    born: int = 0
    """The transaction that made it; 0 where nobody can say."""
    xids: tuple[int, ...] = ()
    """The transactions that left its rows of the catalogue as they are."""


def wrote_since(next_xid: int) -> Wrote:
    """Return a predicate: whether an id was given out at or after `next_xid`.

    Ids go in a circle of 2^32, half of which lies ahead of any id.
    """

    def wrote(xid: int) -> bool:
        return xid >= FIRST_NORMAL_XID and (xid - next_xid) % XIDS < XIDS // 2

    return wrote


def read_objects(session: Session) -> tuple[Object, ...]:
    """Return what the session's database has. Raises PostgresError.

    The session is one that `values.settle` has set up.
    """
    found: list[Object] = []
    for query in objects_sql.OF_A_DATABASE:
        found += _read(session, query)
    return tuple(found)


def read_shared(session: Session) -> tuple[Object, ...]:
    """Return what all databases of the server share. Raises PostgresError."""
    [whole] = fetch_one(session, "SELECT has_table_privilege('pg_authid', 'SELECT')")
    roles = objects_sql.ROLES_WHOLE if whole else objects_sql.ROLES_SEEN
    found: list[Object] = []
    for query in (roles, *objects_sql.OF_ALL_DATABASES):
        found += _read(session, query)
    return tuple(found)


def keep_objects(objects: Sequence[Object], path: Path) -> None:
    """Write objects into a file, durably. Raises OSError."""
    write_atomically(path, codec.to_json(objects).encode("ascii"))


def kept_objects(path: Path) -> tuple[Object, ...]:
    """Return the objects of a file. Raises SnapshotError."""
    try:
        return codec.from_json(path.read_bytes(), tuple[Object, ...])
    except FileNotFoundError as error:
        raise SnapshotError("the losing side's catalogue was not read") from error
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    except CodecError as error:
        raise SnapshotError(f"{path} is garbled: {error.message}") from error


def compare_objects(
    loser: Iterable[Object],
    winner: Iterable[Object],
    *,
    database: str = "",
    loser_wrote: Wrote | None = None,
    winner_wrote: Wrote | None = None,
    moved: Callable[[Object], bool] | None = None,
) -> tuple[Named, ...]:
    """Return what is unlike, in the order of the losing side's objects.

    `moved` says of a sequence whether the losing side took values of it past the fork;
    without it every sequence that stands elsewhere is named.
    """
    here = {(each.kind, each.identity): each for each in loser}
    there = {(each.kind, each.identity): each for each in winner}
    judge = _Judge(loser_wrote, winner_wrote, moved)
    lone_here = {key: each for key, each in here.items() if key not in there}
    lone_there = {key: each for key, each in there.items() if key not in here}
    told: list[tuple[Object, str]] = []
    renamed = dict(judge.renamed(lone_here, lone_there))
    for key, each in here.items():
        if key in there:
            told += ((each, what) for what in judge.unlike(each, there[key]))
        elif key in renamed:
            told.append((each, renamed[key]))
        elif not _is_part(each, lone_here):
            told.append((each, judge.only_here(each)))
    known = set(renamed.values())
    for each in lone_there.values():
        what = judge.only_there(each)
        if what and judge.name_of(each) not in known and not _is_part(each, lone_there):
            told.append((each, what))
    return tuple(
        Named(each.kind, printable(each.identity), printable(what), database)
        for each, what in told
    )


class _Judge:
    """Tells which side did it."""

    def __init__(
        self,
        loser_wrote: Wrote | None,
        winner_wrote: Wrote | None,
        moved: Callable[[Object], bool] | None,
    ) -> None:
        self._loser = loser_wrote
        self._winner = winner_wrote
        self._moved = moved

    def only_here(self, each: Object) -> str:
        """Return what became of what the losing side alone has."""
        if self._loser is None:
            return f"only {_HERE} has it"
        if _made(each, self._loser):
            return f"created by {_HERE}"
        if _touched(each, self._loser):
            return f"altered by {_HERE}, dropped by {_THERE}"
        return f"dropped by {_THERE}"

    def only_there(self, each: Object) -> str:
        """Return what became of what the winner alone has; empty: it made it."""
        if self._winner is None:
            return f"only {_THERE} has it"
        return "" if _made(each, self._winner) else f"dropped by {_HERE}"

    @staticmethod
    def name_of(each: Object) -> str:
        """Return how a renamed object is told of."""
        return f"{_THERE} calls it {each.identity}"

    def renamed(
        self,
        here: Mapping[tuple[str, str], Object],
        there: Mapping[tuple[str, str], Object],
    ) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield what goes by another name on the winner, known by its object id.

        Only of what was there at the fork: past it both sides give out the same ids.
        """
        if self._loser is None or self._winner is None:
            return
        old = {
            (each.kind, each.oid): each
            for each in there.values()
            if each.oid and not _made(each, self._winner)
        }
        for key, each in here.items():
            twin = old.get((each.kind, each.oid))
            if twin is not None and not _made(each, self._loser):
                yield key, self.name_of(twin)

    def unlike(self, here: Object, there: Object) -> Iterator[str]:
        """Yield in what two objects of one name differ."""
        ours, theirs = dict(here.definition), dict(there.definition)
        names = [
            name
            for name, text in ours.items()
            if name in theirs and name != _VALUE and text != theirs[name]
        ]
        if here.kind == "large objects" and names:
            numbers = (ours.get("number", "?"), theirs.get("number", "?"))
            yield f"{numbers[0]} on {_HERE}, {numbers[1]} on {_THERE}"
        elif names:
            more = ", …" if len(names) > _WORDS_MAX else ""
            aspects = ", ".join(names[:_WORDS_MAX]) + more
            yield f"{self._who('altered', here, there)}: {aspects}"
        if here.kind == "sequence":
            yield from self._value(here, ours.get(_VALUE), theirs.get(_VALUE))
        elif here.oid == there.oid and here.file != there.file:
            yield f"{self._who('rewritten', here, there)} {_REWRITTEN}"
        elif here.oid != there.oid and here.oid and here.file:
            yield self._anew(here, there)

    def _value(
        self, here: Object, ours: str | None, theirs: str | None
    ) -> Iterator[str]:
        moved = self._moved is None or self._moved(here)
        if moved and ours is not None and theirs is not None and ours != theirs:
            yield f"at {ours} on {_HERE}, at {theirs} on {_THERE}"

    def _who(self, done: str, here: Object, there: Object) -> str:
        by_loser = self._loser is not None and _touched(here, self._loser)
        by_winner = self._winner is not None and _touched(there, self._winner)
        if by_loser and by_winner:
            return f"{done} on both sides"
        if by_loser or by_winner:
            return f"{done} by {_HERE if by_loser else _THERE}"
        return "differs" if done == "altered" else "has another file"

    def _anew(self, here: Object, there: Object) -> str:
        by_loser = self._loser is not None and _made(here, self._loser)
        by_winner = self._winner is not None and _made(there, self._winner)
        if by_loser and by_winner:
            return "created on both sides"
        if by_loser or by_winner:
            return f"created anew by {_HERE if by_loser else _THERE}"
        return "is not the same object on both sides"


def _touched(each: Object, wrote: Wrote) -> bool:
    return any(wrote(xid) for xid in (each.born, *each.xids))


def _made(each: Object, wrote: Wrote) -> bool:
    """Whether one side made it; where that is not recorded, whether it wrote it all."""
    if each.born:
        return wrote(each.born)
    return bool(each.xids) and all(wrote(xid) for xid in each.xids)


def _is_part(each: Object, lone: Mapping[tuple[str, str], Object]) -> bool:
    """Whether it belongs to a table that is on its side only, as it is."""
    kinds = ("table", "foreign table", "materialised view", "view")
    return any((kind, each.parent) in lone for kind in kinds)


def _read(session: Session, query: LiteralString) -> Iterator[Object]:
    for row in copy_out(session, _DOING, sql.SQL(query)):
        kind, oid, file, identity, parent, born, xids, aspects = (
            field or "" for field in row
        )
        texts: dict[str, str | None] = json.loads(aspects)
        yield Object(
            kind=kind,
            identity=identity,
            definition=tuple(
                (name, text or "")
                for name, text in texts.items()
                if name != _VALUE or text is not None  # else it may not be read
            ),
            oid=int(oid),
            file=int(file),
            parent=parent,
            born=int(born or 0),
            xids=tuple(sorted(int(xid) for xid in xids.strip("{}").split(",") if xid)),
        )
