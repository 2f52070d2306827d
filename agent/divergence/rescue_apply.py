"""A rescue carried out: in one transaction, tried first, counted by what happened.

Theory of operation. The plan's steps run in batches, each below a savepoint. What the
winner refuses because of the row itself (a constraint, a value that it cannot take, a
trigger's word) is found by halving the batch, and is tried again when all else is done,
since what it lacked may have come meanwhile; then it is left out and listed. Any other
error ends the whole, and nothing was done. A dry run is the same transaction rolled
back: of it only the numbers remain used up that sequences gave out, as they do not go
back. What is reported was counted by the server, statement by statement.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.pq import TransactionStatus

from agent.divergence.model import Table
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_script import LOCK, preparations
from agent.divergence.rescue_step import Deed, Step
from agent.errors import DivergenceError, SplitguardError
from agent.postgres.connect import Session, failed

BATCH_STEPS = 200
BATCH_CHARS = 1 << 20
ROUNDS_MAX = 5
AGAIN_MAX = 10_000
"""Refused rows that are tried again."""
ALREADY = "already-there"
"""The winner has the row so, or had it from an earlier rescue."""
CHANGED = "changed-there"
"""The winner took its key, or changed it, since the comparison or a rescue."""
REFUSED = "refused"
TAKEN = "another row of the winner has a value of it that has to be unique"
DROPPED = "the winner did not take it: a trigger or rule of the table drops it"
NOT_THERE = "what it refers to was not put in"
UNBOUND = "its reference was not set: what it refers to was not put in"
SINCE = {
    Deed.INSERTED: "the winner has another row under its key, or changed it since",
    Deed.RENUMBERED: "the winner has another row under its key, or changed it since",
    Deed.UPDATED: "the winner changed it, or deleted it, since it was compared",
    Deed.DELETED: "the winner changed it since, or has rows that refer to it",
    Deed.BOUND: "the winner changed it since, its reference was not set",
}
ROLE = (
    "name a role that owns the tables, or a superuser: it needs SELECT, INSERT, UPDATE"
    " and DELETE on them, USAGE on their sequences, and CREATE and TEMPORARY on the"
    " database for what a rescue notes there"
)
LISTED_MAX = 100_000
"""Rows of each list that are kept; all are counted."""
_SAVE, _BACK, _KEEP = (
    b"SAVEPOINT splitguard",
    b"ROLLBACK TO SAVEPOINT splitguard",
    b"RELEASE SAVEPOINT splitguard",
)
_OF_THE_ROW = ("22", "23", "44", "P0")
"""Classes of errors that a row is the reason of: data, constraints, views, triggers."""
_OF_THE_ROW_TOO = frozenset({"428C9", "55000", "09000", "27000"})
"""A generated column, a deferrable key, triggers."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the winner did not take."""

    table: str
    kind: str
    key: dict[str, str | None]
    """The row's key, or the whole row where it has none."""
    code: str
    message: str
    constraint: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that was not put in."""

    table: str
    kind: str
    key: dict[str, str | None]
    """The row's key, or the whole row where it has none."""
    reason: str
    chosen: bool
    """Whether a person chose that, or the winner has it."""


@dataclass(slots=True)
class Result:
    """What a run did, table by table, in the words of `Deed` and the two above."""

    tables: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were left out."""
    new_keys: int = 0
    """Columns whose values are not those of the losing side, in this rescue or an
    earlier one."""
    refusals: list[Refusal] = field(default_factory=list)
    """Rows that the winner did not take, the first ones."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Rows that were left out for another reason, the first ones."""
    outstanding: int = 0
    """Rows that are not on the winner though nobody chose that."""
    committed: bool = False

    @property
    def refused(self) -> int:
        """How many rows the winner did not take."""
        return sum(counts[REFUSED] for counts in self.tables.values())


class Applier:
    """Runs one plan on one session."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._again: list[tuple[Table, Step]] = []
        self._deleted: set[int] = set()
        self._last_time = False
        self._ending = False
        """Whether nothing is left to do but to commit."""
        self.result = Result()

    def run(self, *, commit: bool) -> Result:
        """Run it; keep it only with `commit`. Raises PostgresError, DivergenceError."""
        try:
            with self._session.transaction(force_rollback=not commit):
                self._begin()
                for part in self._plan.parts():
                    self._part(part.table, part.steps())
                self._once_more()
                self._check_deferred()
                if self._plan.survey.needs_ledger:
                    self._count_new_keys()
                self._ending = commit
        except psycopg.Error as error:
            raise _explained(
                error, lost=self._ending and self._session.broken
            ) from error
        self.result.committed = commit
        self.result.tables = {
            name: Counter({key: count for key, count in counts.items() if count})
            for name, counts in self.result.tables.items()
        }
        return self.result

    def _begin(self) -> None:
        row = self._session.execute(
            f"SELECT pg_try_advisory_xact_lock({LOCK})".encode()
        ).fetchone()
        if row is None or not row[0]:
            raise DivergenceError(
                "another rescue of this database is running", "wait until it is done"
            )
        for statement in preparations(self._plan):
            self._session.execute(statement.encode("utf-8", "surrogateescape"))

    def _part(self, table: Table, steps: Iterator[Step]) -> None:
        batch: list[Step] = []
        chars = 0
        for step in steps:
            if step.deed is Deed.LEFT_OUT:
                self._omit(table, step, step.reason, chosen=step.chosen)
                continue
            batch.append(step)
            chars += len(step.sql)
            if len(batch) >= BATCH_STEPS or chars >= BATCH_CHARS:
                self._run(table, batch)
                batch, chars = [], 0
        if batch:
            self._run(table, batch)

    def _run(self, table: Table, steps: Sequence[Step]) -> None:
        """Run steps; halve them where one is refused."""
        self._session.execute(_SAVE)
        try:
            rows = self._executed(steps)
        except psycopg.Error as error:
            if not _of_the_row(self._session, error):
                raise
            self._session.execute(_BACK)
            self._session.execute(_KEEP)
            if len(steps) == 1:
                self._refused(table, steps[0], error)
            else:
                middle = len(steps) // 2
                self._run(table, steps[:middle])
                self._run(table, steps[middle:])
            return
        self._session.execute(_KEEP)
        for step, count in zip(steps, rows, strict=True):
            self._count(table, step, count)

    def _executed(self, steps: Sequence[Step]) -> list[int]:
        """Run statements in one go; return how many rows each of them touched."""
        text = "\n".join(step.sql for step in steps)
        with self._session.cursor() as cursor:
            cursor.execute(text.encode("utf-8", "surrogateescape"))
            rows = [cursor.rowcount]
            while cursor.nextset():
                rows.append(cursor.rowcount)
        return rows

    def _counts(self, table: Table) -> Counter[str]:
        return self.result.tables.setdefault(str(table.name), Counter())

    def _count(self, table: Table, step: Step, rows: int) -> None:
        if step.deed is Deed.PREPARED:
            return
        if rows > 0:
            self._counts(table)[step.deed.value] += 1
            if step.retried:
                self._deleted.add(hash((table.oid, step.values)))
        elif not step.retried:
            self._nothing_done(table, step)

    def _nothing_done(self, table: Table, step: Step) -> None:
        """Find out why a statement touched no row."""
        if step.again and hash((table.oid, step.values)) in self._deleted:
            return
        if step.done is not None and self._ask(step.done()):
            self._counts(table)[ALREADY] += step.deed is not Deed.BOUND
        elif not self._is_met(step):
            if not self._last_time and len(self._again) < AGAIN_MAX:
                self._again.append((table, step))
            else:
                bound = step.deed is Deed.BOUND
                self._omit(table, step, UNBOUND if bound else NOT_THERE)
        elif step.row is None:
            self._changed(table, step)
        elif not self._ask(self._plan.statements.there(step.row)):
            taken = len(table.keys) > 1
            self._leave(table, step, *(("23505", TAKEN) if taken else ("", DROPPED)))
        elif step.row.aliases:
            # The ledger says that an earlier rescue put it in, whatever became of it.
            self._counts(table)[ALREADY] += 1
        else:
            self._changed(table, step)

    def _is_met(self, step: Step) -> bool:
        if not step.links and not step.needs:
            return True
        met = self._plan.statements.met(step.links, step.needs)
        return self._ask(f"SELECT {met}")

    def _changed(self, table: Table, step: Step) -> None:
        self._counts(table)[CHANGED] += 1
        self._list(table, step, SINCE[step.deed], chosen=False)

    def _omit(
        self, table: Table, step: Step, reason: str, *, chosen: bool = False
    ) -> None:
        self._counts(table)[Deed.LEFT_OUT.value] += 1
        self.result.reasons[reason] += 1
        self._list(table, step, reason, chosen=chosen)

    def _list(self, table: Table, step: Step, reason: str, *, chosen: bool) -> None:
        self.result.outstanding += not chosen
        if len(self.result.left_out) < LISTED_MAX:
            name, kind = str(table.name), _kind(step)
            self.result.left_out.append(
                LeftOut(name, kind, _key(table, step), reason, chosen)
            )

    def _ask(self, query: str) -> bool:
        row = self._session.execute(query.encode("utf-8", "surrogateescape")).fetchone()
        return row is not None and bool(row[0])

    def _refused(self, table: Table, step: Step, error: psycopg.Error) -> None:
        if len(self._again) < AGAIN_MAX:
            self._again.append((table, step))
        else:
            self._leave(table, step, *_told(error))

    def _once_more(self) -> None:
        """Try again what was refused, as long as some of it goes through."""
        for _ in range(ROUNDS_MAX):
            waiting, self._again = self._again, []
            for table, step in waiting:
                self._run(table, [step])
            if not self._again or len(self._again) == len(waiting):
                break
        waiting, self._again = self._again, []
        for table, step in waiting:
            self._last(table, step)

    def _last(self, table: Table, step: Step) -> None:
        """Try a row for the last time, to be told why it is refused."""
        self._last_time = True
        self._session.execute(_SAVE)
        try:
            [rows] = self._executed([step])
        except psycopg.Error as error:
            if not _of_the_row(self._session, error):
                raise
            self._session.execute(_BACK)
            self._leave(table, step, *_told(error))
        else:
            self._count(table, step, rows)
        self._session.execute(_KEEP)

    def _leave(
        self, table: Table, step: Step, code: str, message: str, constraint: str = ""
    ) -> None:
        self._counts(table)[REFUSED] += 1
        self.result.outstanding += 1
        if len(self.result.refusals) < LISTED_MAX:
            name, kind, key = str(table.name), _kind(step), _key(table, step)
            self.result.refusals.append(
                Refusal(name, kind, key, code, message, constraint)
            )

    def _check_deferred(self) -> None:
        if self._plan.kin.deferred():
            self._session.execute(b"SET CONSTRAINTS ALL IMMEDIATE")

    def _count_new_keys(self) -> None:
        mapping = self._plan.statements.mapping()
        query = f"SELECT count(*) FROM ({mapping}) AS m"  # noqa: S608 - our own query
        row = self._session.execute(query.encode("utf-8", "surrogateescape")).fetchone()
        self.result.new_keys = row[0] if row is not None else 0

    def mapping(self) -> Iterator[bytes]:
        """Yield the new keys as CSV, when it is done. Raises PostgresError."""
        query = (
            f"COPY ({self._plan.statements.mapping()}) TO STDOUT (FORMAT csv, HEADER)"
        )
        try:
            with (
                self._session.cursor() as cursor,
                cursor.copy(query.encode("utf-8", "surrogateescape")) as copy,
            ):
                for block in copy:
                    yield bytes(block)
        except psycopg.Error as error:
            raise failed("the new keys cannot be read", error) from error


def _kind(step: Step) -> str:
    return step.kind.value if step.kind else step.deed.value


def _key(table: Table, step: Step) -> dict[str, str | None]:
    """Return a row's key, or the whole row where it has none."""
    names = table.keys[0] if table.keys else [each.name for each in table.columns]
    return {name: step.values[table.position(name)] for name in names if step.values}


def _told(error: psycopg.Error) -> tuple[str, str, str]:
    """Return an error's code, message and constraint."""
    message = (error.diag.message_primary or str(error)).strip()
    return error.sqlstate or "", message, error.diag.constraint_name or ""


def _of_the_row(session: Session, error: psycopg.Error) -> bool:
    """Whether the row is the reason, and the transaction can go on without it."""
    code = error.sqlstate or ""
    alive = session.info.transaction_status is TransactionStatus.INERROR
    return alive and (code[:2] in _OF_THE_ROW or code in _OF_THE_ROW_TOO)


def _explained(error: psycopg.Error, *, lost: bool) -> SplitguardError:
    """Return the error that people read; nothing was written, as far as is known."""
    if lost:
        return failed_at_the_end(error)
    told = failed("the winner did not take the rescue, nothing was written", error)
    hints = {
        "55P03": (
            "somebody holds a lock: end that session, or that prepared transaction"
            " (pg_locks, pg_prepared_xacts), or try again"
        ),
        "57014": "it took longer than the statement timeout",
        "25006": f"the role, or this server, only reads: {ROLE}",
        "42501": ROLE,
        "40P01": "it met another session in a deadlock: try again",
    }
    return type(told)(told.message, hints.get(error.sqlstate or "", ""))


def failed_at_the_end(error: psycopg.Error) -> SplitguardError:
    """Return what is said when the server was lost while it committed."""
    told = failed("the winner was lost while it committed", error)
    return type(told)(
        told.message,
        "whether it is committed is not known: run it again, what is done already is"
        " not done twice",
    )
