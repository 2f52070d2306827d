"""The winner, read as it was at one moment by a role that only reads.

Theory of operation. Each database is read in one repeatable-read transaction, so all of
its tables are seen at one moment, and a dropped table is an error of that table and of
nothing else. Which transactions that moment shows is asked first: the winner's own
story, which its agent or a kept log tells, is then told up to that moment and not
further. A server in recovery is no winner: what it shows may be undone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg

from agent.core.lsn import Lsn
from agent.divergence import catalog, values
from agent.divergence.compared import Against
from agent.divergence.model import Name, Table
from agent.divergence.story import Story
from agent.errors import DivergenceError, PostgresError
from agent.postgres.connect import Session, connect, failed

STATEMENT_TIMEOUT_S = 300.0
_XIDS = 1 << 32
_XID_FIRST = 3
_IDLE_S = 600
_STANDING = """
    SELECT pg_catalog.pg_is_in_recovery(),
           pg_catalog.current_setting('server_version_num')::int,
           extract(epoch FROM pg_catalog.now())::float8
"""
_PLACE = """
    SELECT pg_catalog.txid_current_snapshot()::text,
           pg_catalog.pg_current_wal_flush_lsn()::text,
           pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn())
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a transaction sees: everything that had committed then."""

    oldest: int
    """Every transaction before it had ended."""
    next: int
    """None from here on had begun to count."""
    under_way: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Moment":
        """Read PostgreSQL's form, such as `100:104:100,102`. Raises ValueError."""
        oldest, upcoming, listed = text.split(":")
        under_way = frozenset(int(xid) for xid in listed.split(",") if xid)
        return cls(int(oldest), int(upcoming), under_way)

    def shows(self, xid: int) -> bool:
        """Whether what the transaction did is seen. 32 bits of its id are enough."""
        before = (self.next - xid) % _XIDS
        ended = 0 < before < _XIDS // 2
        return ended and self.next - before not in self.under_way

    def __str__(self) -> str:
        listed = ",".join(map(str, sorted(self.under_way)))
        return f"{self.oldest}:{self.next}:{listed}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader sees of each database, by object id; of others everything."""

    moments: Mapping[int, Moment]

    def __call__(self, xid: int, database: int) -> bool:
        """Whether what this transaction did in this database is seen."""
        moment = self.moments.get(database)
        return moment is None or moment.shows(xid)


@dataclass(frozen=True, slots=True)
class WinnerDatabase:
    """One database of the winner, at one moment."""

    oid: int
    session: Session
    tables: tuple[Table, ...]
    moment: Moment
    by_name: Mapping[Name, Table] = field(default_factory=dict)
    by_oid: Mapping[int, Table] = field(default_factory=dict)


StoryOf = Callable[[int, Lsn, Shown], Story | None]
"""From the winner's timeline, where it stood, and what its databases show, to its own
story."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Which transaction ids belong to what came past the fork."""

    next_xid: int | None
    """The first one that nobody had taken at the fork."""
    open: frozenset[int] = frozenset()
    """Older ones that were under way or prepared there: a winner may have committed
    what had been prepared."""

    def is_young(self, xid: int) -> bool:
        """Whether what the transaction wrote came past the fork."""
        return xid in self.open or is_young(xid, self.next_xid)


@dataclass(frozen=True, slots=True)
class Winner:
    """The winner, as far as it was opened."""

    against: Against
    databases: Mapping[str, WinnerDatabase]
    story: Story | None
    unopened: Mapping[str, str]
    """Databases that could not be read, with the reason."""
    horizon: Horizon

    def is_young(self, xid: int) -> bool:
        """Whether what a transaction wrote came past the fork."""
        return self.horizon.is_young(xid)


def is_young(xid: int, fork_next_xid: int | None) -> bool:
    """Whether a transaction id is not older than `fork_next_xid`, modulo 2^32.

    Without knowing that, every one counts as young, but the frozen ones.
    """
    if xid < _XID_FIRST:
        return False
    if fork_next_xid is None:
        return True
    return (xid - fork_next_xid) % _XIDS < _XIDS // 2


@dataclass(frozen=True, slots=True)
class Door:
    """How the winner is reached."""

    name: str
    dsn: str
    """As a role that only reads. Never printed: it may hold a password."""
    statement_timeout_s: float = STATEMENT_TIMEOUT_S
    story_of: StoryOf = lambda _timeline, _lsn, _visible: None
    dsn_for: Callable[[str], str] | None = None
    """The connection string to a database, where changing the name is not enough."""


@contextmanager
def read_winner(
    door: Door, system_id: str, names: tuple[str, ...], horizon: Horizon
) -> Iterator[Winner]:
    """Open these databases of the winner for the length of a `with`.

    Raises PostgresError when it does not answer, DivergenceError when it is no winner:
    in recovery, or of another cluster.
    """
    with ExitStack() as stack:
        first = stack.enter_context(_session(door, None))
        in_recovery, version_num, at_s = _one(first, _STANDING)
        if in_recovery:
            raise DivergenceError(
                f"{door.name} is in recovery: it is not the winner",
                "name the primary: --against DSN",
            )
        theirs = _system_id(first)
        if theirs and system_id and theirs != system_id:
            raise DivergenceError(
                f"{door.name} is of another cluster: its system identifier is {theirs},"
                f" the snapshot's is {system_id}",
                "name a server of the same cluster: --against DSN",
            )
        databases, unopened = _open(stack, door, _present(first, names))
        _, lsn, file = _one(first, _PLACE)
        shown = Shown({each.oid: each.moment for each in databases.values()})
        timeline = int(file[:8], 16)
        story = door.story_of(timeline, Lsn.parse(lsn), shown)
        against = Against(
            name=door.name,
            system_id=theirs,
            version_num=version_num,
            timeline=timeline,
            lsn=Lsn.parse(lsn),
            at_s=at_s,
            by_log=story is not None,
        )
        yield Winner(against, databases, story, unopened, horizon)


def _open(
    stack: ExitStack, door: Door, names: Mapping[str, int]
) -> tuple[dict[str, WinnerDatabase], dict[str, str]]:
    databases: dict[str, WinnerDatabase] = {}
    unopened: dict[str, str] = {}
    for name, oid in names.items():
        try:
            session = stack.enter_context(_session(door, name))
            databases[name] = _read(session, oid)
        except PostgresError as error:
            unopened[name] = str(error)
    return databases, unopened


def _read(session: Session, oid: int) -> WinnerDatabase:
    snapshot, *_ = _one(session, _PLACE)
    tables = catalog.read_tables(session, oid)
    return WinnerDatabase(
        oid,
        session,
        tables,
        Moment.parse(snapshot),
        {table.name: table for table in tables},
        {table.oid: table for table in tables},
    )


@contextmanager
def _session(door: Door, dbname: str | None) -> Iterator[Session]:
    dsn = door.dsn
    if dbname is not None and door.dsn_for is not None:
        dsn, dbname = door.dsn_for(dbname), None
    session = connect(
        dsn,
        statement_timeout_s=door.statement_timeout_s,
        dbname=dbname,
        named=door.name,
    )
    with session:
        values.settle(session)
        try:
            session.execute(
                "SELECT pg_catalog.set_config(name, %s, false) FROM"
                " pg_catalog.pg_settings WHERE name ="
                " 'idle_in_transaction_session_timeout'",
                [str(_IDLE_S * 1000)],
            )
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except psycopg.Error as error:
            raise failed(f"{door.name} cannot be read", error) from error
        yield session


def _present(session: Session, names: tuple[str, ...]) -> dict[str, int]:
    """Return the object ids of those of these databases that it has."""
    try:
        with values.sheltered(session):
            rows = session.execute(
                "SELECT datname, oid FROM pg_catalog.pg_database WHERE datallowconn"
            ).fetchall()
    except psycopg.Error as error:
        raise failed("the winner's databases cannot be listed", error) from error
    found = {str(name): int(oid) for name, oid in map(values.plain, rows)}
    return {name: found[name] for name in names if name in found}


def _system_id(session: Session) -> str:
    """Return the system identifier; empty where the role may not read it."""
    try:
        with values.sheltered(session):
            row = session.execute(
                "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return ""
    except psycopg.Error as error:
        raise failed("the winner's identity cannot be read", error) from error
    return str(row[0]) if row else ""


def _one(session: Session, statement: LiteralString) -> tuple[Any, ...]:
    try:
        row = session.execute(statement).fetchone()
    except psycopg.Error as error:
        raise failed("the winner cannot be asked", error) from error
    return values.plain(row or ())
