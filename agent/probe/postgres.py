"""Asks one PostgreSQL over one kept connection.

Theory of operation. psycopg's own timeouts do not hold against a server that is
frozen or a link that is mute: cancelling first asks the server to cancel and
waits for it. So the question runs in a task of its own; when the time is up the
socket is closed under it, and only then is the task cancelled. Both connecting
and asking spend the same deadline.

Every `fresh_every` rounds a new connection is made, to see whether the server takes
any. It is let go of again when it leads to the server that the kept one leads to:
a session that has asked before costs a server a tenth of what a new one does. It takes
the place of the old where that is another server, as after an address has moved. When
no slot is free for it the old one is still asked: it knows more than that
refusal. After any other refusal, and when nobody answers, the old one is given up
too: a server that takes no connections is no server to its clients, and one that
shuts down would wait for our session for ever.

How long backends have waited for a standby cannot be read from the server (it
shows when their statement began). Each is remembered by process and statement
from the first round that saw it wait, so what is told is never too long.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from importlib import resources
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent import codec
from agent.core.observation import Outcome, PostgresSight
from agent.core.plausible import impossible_sight
from agent.errors import CodecError, PostgresError
from agent.ports import Clock
from agent.probe import archive, before_10, refusal
from agent.probe.result import Result, failure

OLDEST_VERSION = 90500
STATEMENTS = {
    140000: "sight.sql",
    100000: "sight_before_14.sql",
    OLDEST_VERSION: "sight_before_10.sql",
}
"""The first version that each file is for, the latest first."""
NOT_AS_ASKED = "the server's row is not as asked"
CLOSE_S = 0.1
"""How long a task whose socket was closed is given to notice."""

STARTED = (
    b"SELECT pg_catalog.to_char(pg_catalog.pg_postmaster_start_time()"
    b""" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
)
"""Tells one server from another, and one run of it from the next."""

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresProbe:
    """The PostgreSQL channel of one node. One question at a time."""

    def __init__(
        self, dsn: str, deadline_s: float, fresh_every: int, clock: Clock
    ) -> None:
        self._dsn = dsn
        self._deadline_s = deadline_s
        self._fresh_every = fresh_every
        self._clock = clock
        self._kept: Connection | None = None
        self._asked = 0
        self._started: str | None = None
        """When the server that was asked last had started, in the words of STARTED."""
        self._waits: dict[str, float] = {}

    async def ask(self) -> Result:
        """Ask once, within the deadline. Raises nothing but a cancellation."""
        spend = _Budget(self._clock, self._deadline_s)
        old = self._kept
        if old is not None and self._asked < self._fresh_every:
            result = await self._question(old, spend)
            if result is not None:
                return result
            old = None  # it had died between the rounds: say what a new one meets
        return await self._afresh(old, spend)

    async def close(self) -> None:
        """Let go of the connection."""
        self._let_go()

    async def _afresh(self, old: Connection | None, spend: "_Budget") -> Result:
        """Connect anew and ask; fall back on `old` when that is refused."""
        made = await self._connect(spend)
        if isinstance(made, Result):
            if old is not None and refusal.is_full(made):
                return await self._question(old, spend) or made
            self._let_go()
            return made
        if old is not None and await self._leads_to_same(made, spend):
            self._asked = 0
            result = await self._question(old, spend)
            if result is not None:
                made.pgconn.finish()
                return result
        self._let_go()
        self._kept, self._asked = made, 0
        result = await self._question(made, spend)
        return result or failure(Outcome.UNREACHABLE, "the connection was cut")

    async def _leads_to_same(self, made: Connection, spend: "_Budget") -> bool:
        """Whether a new connection leads to the server that was asked last.

        Where that cannot be told, the question itself will show why.
        """
        task = _Task(_row(made, STARTED))
        if not await task.within(spend.left_s()):
            made.pgconn.finish()
            await task.ended(CLOSE_S)
            return False
        try:
            return task.result() == self._started
        except (psycopg.Error, UnicodeError):
            return False

    async def _connect(self, spend: "_Budget") -> Connection | Result:
        try:
            conninfo = _conninfo(self._dsn, self._deadline_s)
        except psycopg.Error:
            return failure(
                Outcome.UNREACHABLE,
                "this node's `postgres` setting is not a libpq connection string;"
                " write it like host=10.0.0.1 dbname=postgres user=splitguard_probe",
            )
        task = _Task(Connection.connect(conninfo, autocommit=True))
        if not await task.within(spend.left_s()):
            task.drop()
            return self._late("connecting")
        try:
            return task.result()
        except psycopg.Error as error:
            return refusal.of_connect(str(error))
        except OSError as error:
            return failure(Outcome.UNREACHABLE, error.strerror or str(error))

    async def _question(self, kept: Connection, spend: "_Budget") -> Result | None:
        """Ask over this connection; None when it turned out to be dead."""
        self._asked += 1
        if kept.closed:  # libpq gives the version of a dead connection as 0
            self._let_go()
            return None
        version = kept.info.server_version
        if version < OLDEST_VERSION:
            return failure(
                Outcome.INCOMPATIBLE,
                f"PostgreSQL {version // 10000}.{version // 100 % 100} there; 9.5 is"
                " the oldest that can be asked",
            )
        task = _Task(_row(kept, statement(version)))
        if not await task.within(spend.left_s()):
            kept.pgconn.finish()  # before cancelling: cancelling would wait for it
            await task.ended(CLOSE_S)
            self._let_go()
            return self._late("answering")
        try:
            row = task.result()
        except psycopg.Error as error:
            return self._broken(kept, error)
        except UnicodeError as error:
            return failure(Outcome.GARBLED, f"{NOT_AS_ASKED}: {error}")
        return self._read(row)

    def _broken(self, kept: Connection, error: psycopg.Error) -> Result | None:
        if kept.closed or kept.broken:
            if self._kept is kept:
                self._let_go()
            return None
        text = error.diag.message_primary or str(error)
        code = error.sqlstate or ""
        if refusal.is_ending(code) and self._kept is kept:
            self._let_go()
        return refusal.of_state(code, text)

    def _read(self, row: object) -> Result:
        try:
            plain = json.loads(str(row))
            if not plain["granted"]:
                return failure(
                    Outcome.REFUSED,
                    f"role {plain['role']} is not in pg_monitor and sees only half;"
                    " grant what `splitguard grants` prints",
                )
            sight = plain["sight"]
            if "control" in plain:
                sight = before_10.completed(sight, plain["control"])
            sight["system_id"] = str(int(sight["system_id"]) % (1 << 64))
            sight["waiting_for_sync_s"] = self._longest_wait(plain["waits"])
            sight["archiver"] = archive.archiver(plain.get("archive"))
            found = codec.from_plain(sight, PostgresSight)
            absurd = impossible_sight(found)
            if absurd:
                return failure(Outcome.GARBLED, f"{NOT_AS_ASKED}: {absurd}")
            self._started = found.postmaster_started
            return Result(Outcome.ANSWERED, postgres=found)
        except (LookupError, TypeError, AttributeError) as error:
            return failure(Outcome.GARBLED, f"{NOT_AS_ASKED}: {error!r}")
        except (ValueError, ArithmeticError, RecursionError) as error:
            return failure(Outcome.GARBLED, f"{NOT_AS_ASKED}: {error}")
        except (CodecError, PostgresError) as error:
            return failure(Outcome.GARBLED, error.message)

    def _longest_wait(self, waits: list[str]) -> float:
        """Return for how long the longest of these has been seen waiting."""
        now_s = self._clock.moment().monotonic_s
        self._waits = {key: self._waits.get(key, now_s) for key in waits}
        return max((now_s - since_s for since_s in self._waits.values()), default=0.0)

    def _late(self, what: str) -> Result:
        return failure(
            Outcome.TIMED_OUT, f"no end of {what} within {self._deadline_s:g} s"
        )

    def _let_go(self) -> None:
        """Close without asking anybody; closing twice is harmless."""
        if self._kept is not None:
            self._kept.pgconn.finish()
        self._kept = None


class _Budget:
    """What is left of a deadline."""

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        self._clock = clock
        self._end_s = clock.moment().monotonic_s + deadline_s

    def left_s(self) -> float:
        return max(0.0, self._end_s - self._clock.moment().monotonic_s)


class _Task(Generic[T]):
    """A coroutine that runs beside us and can be left behind."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.ensure_future(work)

    async def within(self, seconds: float) -> bool:
        """Wait; return whether it has ended. A cancelled wait drops it."""
        try:
            done, _ = await asyncio.wait({self._task}, timeout=seconds)
        except asyncio.CancelledError:
            self.drop()
            raise
        return bool(done)

    async def ended(self, seconds: float) -> None:
        """Cancel, and wait a moment for the end."""
        self.drop()
        await asyncio.wait({self._task}, timeout=seconds)

    def drop(self) -> None:
        """Cancel, and let nobody be told how it ended."""
        self._task.add_done_callback(_forget)
        self._task.cancel()

    def result(self) -> T:
        return self._task.result()


def _forget(task: "asyncio.Future[Any]") -> None:
    """Take the outcome of a task that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        made = task.result()
        if isinstance(made, psycopg.AsyncConnection):
            made.pgconn.finish()


async def _row(kept: Connection, query: bytes) -> object:
    cursor = await kept.execute(query)
    row = await cursor.fetchone()
    return row[0] if row else ""


def _conninfo(dsn: str, deadline_s: float) -> str:
    """Return the connection string with what every probe connection sets.

    A statement ends on the server too when its time is up, a session cannot write,
    and nothing is found by a search path that somebody else may have changed.
    """
    given: Mapping[str, Any] = conninfo_to_dict(dsn)
    options = (
        f"{given.get('options', '')}"
        f" -c statement_timeout={max(1, int(deadline_s * 1000))}"
        " -c lock_timeout=0"
        " -c default_transaction_read_only=on"
        " -c search_path=pg_catalog"
        " -c timezone=UTC"
    )
    return make_conninfo(
        dsn,
        options=options.strip(),
        application_name="splitguard_probe",
        client_encoding="UTF8",
        connect_timeout=max(2, int(deadline_s) + 1),
    )


def statement(version_num: int) -> bytes:
    """Return the question for a server of this version."""
    name = next(name for first, name in STATEMENTS.items() if version_num >= first)
    if name not in _statements:
        _statements[name] = (resources.files(__package__) / "sql" / name).read_bytes()
    return _statements[name]


_statements: dict[str, bytes] = {}
