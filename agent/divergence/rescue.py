"""The rescue as a whole: from a snapshot's folder to files, or into the winner.

Theory of operation. Databases are independent of each other: each has its own plan and
its own transaction. Applying looks at the server first, is tried in full and rolled
back (`rehearse`), and is recorded before and after when it is meant. Nothing here runs
by itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from agent.divergence import rescue_journal, shelf
from agent.divergence.model import Name, Table
from agent.divergence.rescue_apply import Applier, Result
from agent.divergence.rescue_files import Index, notes, write_folder
from agent.divergence.rescue_journal import Act
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_script import Target
from agent.divergence.rescue_server import (
    check_server,
    lacking,
    refuse_loser,
    settle_writing,
)
from agent.divergence.rescue_source import Lost, check_files, load
from agent.divergence.rescue_survey import Survey
from agent.divergence.rescue_wish import Format, Wish
from agent.errors import DivergenceError, PostgresError, SplitguardError
from agent.postgres.connect import Session, connect, failed
from agent.snapshot import manifest as manifests


@dataclass(frozen=True, slots=True)
class Ran:
    """What was done, or would be, in one database."""

    database: str
    result: Result
    notes: tuple[str, ...] = ()
    details: Path | None = None
    """Where what was refused and renumbered is listed."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Who wants a rescue, why and when (seconds since 1970)."""

    who: str
    reason: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Way:
    """How the winner is reached."""

    dsn: str
    """Never printed: it may hold a password. Its database gives way to each of the
    rescue's."""
    statement_timeout_s: float


class Rescue:
    """The rescue of one snapshot.

    Its rows are held for as long as they are read, so that nobody compares them again
    meanwhile. Raises DivergenceError, SnapshotError.
    """

    def __init__(self, snapshot: Path, wish: Wish, database: str | None = None) -> None:
        self._snapshot = snapshot
        self._wish = wish
        self._database = database
        self._folder = shelf.folder_of(snapshot)
        self._timeline = manifests.read(snapshot).timeline
        self._kept = load(snapshot)
        self._databases: tuple[Lost, ...] = ()

    @property
    def gaps(self) -> tuple[str, ...]:
        """What nobody compared, so that nothing of it can be rescued."""
        found = (*self._kept.extraction.unread, *self._kept.comparison.uncompared)
        return tuple(f"not compared: {each.what}: {each.reason}" for each in found)

    def unmatched(self) -> tuple[str, ...]:
        """Return the patterns of tables that name none of those to be rescued."""
        tables = [table for _, table in self._tables()]
        return tuple(
            pattern
            for pattern in self._wish.patterns
            if not any(Wish((pattern,)).wants(table) for table in tables)
        )

    def names(self) -> tuple[str, ...]:
        """Return the tables that there are."""
        return tuple(sorted({str(table.name) for _, table in self._tables()}))

    def _tables(self) -> Iterator[tuple[str, Table]]:
        for lost in self._kept.databases:
            if self._database in {None, lost.database}:
                yield from ((lost.database, table) for table in lost.tables)

    def keep(self, ran: Ran, ordered: Ordered) -> Path | None:
        """Write down what a dry run left out; return where. Raises OSError."""
        at = rescue_journal.instant(ordered.wall_s)
        act = Act(at, ordered.who, ordered.reason, ran.database, "", {})
        plain = replace(ran.result, new_keys=0)
        with shelf.alone(self._snapshot):
            return rescue_journal.keep_details(self._folder, act, plain, ())

    def write(self, to: Path, form: Format) -> Index:
        """Write files. Raises DivergenceError where something is there already."""
        with self._held():
            plans = [
                (self._target(lost), self._plan(lost, lost.missing))
                for lost in self._databases
            ]
            name = self._kept.extraction.snapshot
            return write_folder(to, name, form, plans, self.gaps)

    def rehearse(self, way: Way) -> Iterator[Ran]:
        """Do everything on the winner, and roll it back.

        Raises PostgresError, DivergenceError: it is no winner, or does not take it.
        """
        with self._held():
            for lost in self._databases:
                with self._opened(lost, way) as (_, plan, applier):
                    result = applier.run(commit=False)
                yield Ran(lost.database, result, tuple(notes(lost.database, plan)))

    def apply(self, way: Way, ordered: Ordered) -> Iterator[Ran]:
        """Do it, database by database; each is recorded before and after.

        Raises PostgresError, DivergenceError: in that database nothing was written;
        OSError when it cannot be recorded, which is tried before anything is written.
        """
        with self._held():
            for lost in self._databases:
                yield self._applied(lost, way, ordered)

    def _applied(self, lost: Lost, way: Way, ordered: Ordered) -> Ran:
        with self._opened(lost, way) as (made, plan, applier):
            act = self._act(lost, made, ordered)
            rescue_journal.note(self._folder, act, "begun")
            try:
                result = applier.run(commit=True)
            except SplitguardError as error:
                rescue_journal.note(self._folder, act, "failed", error=error.message)
                raise
            rescue_journal.note(self._folder, act, "done", result)
            keys = applier.mapping()
            details = rescue_journal.keep_details(self._folder, act, result, keys)
        said = tuple(notes(lost.database, plan))
        return Ran(lost.database, result, said, details)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Read what is kept, and let nobody change it for the length of a `with`."""
        with shelf.alone(self._snapshot):
            self._kept = load(self._snapshot)
            check_files(self._folder, self._kept.comparison)
            self._databases = tuple(self._wanted())
            yield

    def _wanted(self) -> list[Lost]:
        found = [
            lost
            for lost in self._kept.databases
            if lost.tables and self._database in {None, lost.database}
        ]
        if self._database is not None and not found:
            names = ", ".join(lost.database for lost in self._kept.databases)
            raise DivergenceError(
                f"the losing side wrote nothing into a database {self._database}",
                f"it wrote into: {names or 'none'}",
            )
        return found

    def _target(self, lost: Lost) -> Target:
        return Target(self._kept.system_id, lost.database)

    def _plan(self, lost: Lost, missing: Mapping[Name, str]) -> Plan:
        survey = Survey(lost.tables, lost.source, self._wish, missing)
        return Plan(survey, self._kept.origin)

    @contextmanager
    def _opened(self, lost: Lost, way: Way) -> Iterator[tuple[Session, Plan, Applier]]:
        """Connect, see that it is the winner, and plan by what it has."""
        made = connect_to(way, lost.database)
        try:
            missing = self._looked_at(made, lost)
            plan = self._plan(lost, missing)
            yield made, plan, Applier(made, plan)
        finally:
            made.close()

    def _looked_at(self, made: Session, lost: Lost) -> dict[Name, str]:
        """See that it is the winner; return the tables that it cannot take rows of."""
        try:
            check_server(made, self._target(lost))
            settle_writing(made)
            tables = [table for table in lost.tables if table.kind == "r"]
            missing = lacking(made, tables)
            present = [table for table in tables if table.name not in missing]
            refuse_loser(made, present, lost.source, self._timeline)
        except psycopg.Error as error:
            raise failed("the winner cannot be looked at", error) from error
        return missing

    def _act(self, lost: Lost, made: Session, ordered: Ordered) -> Act:
        wish = self._wish
        options = {
            "tables": " ".join(wish.patterns) or "all",
            "only": wish.only.value if wish.only else "all",
            "on_conflict": wish.on_conflict.value,
            "collisions": wish.collisions.value,
        }
        return Act(
            at=rescue_journal.instant(ordered.wall_s),
            who=ordered.who,
            reason=ordered.reason,
            database=lost.database,
            server=f"{made.info.host}:{made.info.port}",
            options=options,
        )


def connect_to(way: Way, database: str) -> Session:
    """Connect to a database of the winner. Raises PostgresError, without the DSN."""
    try:
        return connect(
            way.dsn, statement_timeout_s=way.statement_timeout_s, dbname=database
        )
    except PostgresError as error:
        reason = error.message.partition(": ")[2] or error.message
        raise PostgresError(
            f"cannot connect to database {database} of the winner: {reason}",
            "the connection string names host, port and user; a password belongs into"
            " ~/.pgpass or $PGPASSWORD",
        ) from error
