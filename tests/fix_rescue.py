"""Two sides of a fork as two databases of one server, and a naive comparison of them.

A database at the fork is copied twice; each side is then changed by SQL of its own. The
differences are found here by reading all three whole, independent of the product.
"""

import contextlib
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.divergence import catalog, values
from agent.divergence.model import Difference, DifferenceKind, Table, Values
from agent.divergence.rescue_apply import Applier, Result
from agent.divergence.rescue_files import Index, write_folder
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_script import Target
from agent.divergence.rescue_server import lacking, settle_writing
from agent.divergence.rescue_survey import Survey
from agent.divergence.rescue_wish import Format, Wish
from agent.postgres.connect import Session, session
from tests.fix_postgres import Server, Stage

Rows = list[Values]


@dataclass
class Held:
    """What a table held in one database, and the differences of two."""

    differences_of: dict[str, list[Difference]] = field(default_factory=dict)
    born_of: dict[str, Rows] = field(default_factory=dict)

    def differences(self, table: Table) -> Iterator[Difference]:
        return iter(self.differences_of[str(table.name)])

    def born(self, table: Table) -> Iterator[Values]:
        return iter(self.born_of[str(table.name)])


def compare(
    table: Table, fork: Rows, loser: Rows, winner: Rows, xids: dict[Values, int]
) -> list[Difference]:
    """Compare three versions of a table; `xids` wrote the losing side's rows."""
    if not table.keys:
        return _multisets(fork, loser, winner)
    places = [table.position(name) for name in table.keys[0]]
    was, ours, theirs = (
        {tuple(row[place] for place in places): row for row in rows}
        for rows in (fork, loser, winner)
    )
    found = []
    for key in {**was, **ours}:
        old, new, other = was.get(key), ours.get(key), theirs.get(key)
        if new in {old, other}:
            continue
        kind = _kind(old, new, other)
        twin = _twin(table, new, winner) if kind == "collision" else None
        xid = xids.get(new) if new is not None else None
        found.append(Difference(DifferenceKind(kind), new, other, old, xid, twin))
    return found


def _kind(old: Values | None, new: Values | None, other: Values | None) -> str:
    if old is None:
        return "lost" if other is None else "collision"
    if other != old:
        return "conflict"
    return "deleted" if new is None else "changed"


def _twin(table: Table, new: Values | None, winner: Rows) -> Values | None:
    for names in table.uniques:
        places = [table.position(name) for name in names]
        for row in winner:
            if new and all(row[place] == new[place] for place in places):
                return row
    return None


def _multisets(fork: Rows, loser: Rows, winner: Rows) -> list[Difference]:
    was, ours, theirs = Counter(fork), Counter(loser), Counter(winner)
    lost, gone = (ours - was) - (theirs - was), (was - ours) - (was - theirs)
    return [
        *(Difference(DifferenceKind.LOST, row, None) for row in lost.elements()),
        *(Difference(DifferenceKind.DELETED, None, r, r) for r in gone.elements()),
    ]


@dataclass
class Sides:
    """A fork on one server."""

    server: Server
    held: Held = field(default_factory=Held)
    tables: tuple[Table, ...] = ()

    def dsn(self, database: str) -> str:
        return self.server.dsn.replace("dbname=postgres", f"dbname={database}")

    def run(self, database: str, *statements: str) -> None:
        with self.server.session(database) as made:
            for statement in statements:
                made.execute(statement.encode())

    def ask(self, statement: str, database: str = "winner") -> list[tuple]:
        with self.server.session(database) as made:
            return made.execute(statement.encode()).fetchall()

    def read(self, database: str) -> dict[str, Rows]:
        """Return every row of every table, in the columns of the losing side."""
        with session(self.dsn(database)) as made:
            values.settle(made)
            return {
                str(table.name): [
                    self._as_there(table, row)
                    for *_, row in values.fetch_all(made, table)
                ]
                for table in catalog.read_tables(made, 1)
            }

    def _as_there(self, table: Table, row: Values) -> Values:
        for other in self.tables:
            if other.name == table.name:
                cells = {c.name: v for c, v in zip(table.columns, row, strict=True)}
                return tuple(cells.get(column.name) for column in other.columns)
        return row

    def compare(self) -> None:
        """Find the differences once."""
        with session(self.dsn("loser")) as made:
            values.settle(made)
            self.tables = catalog.read_tables(made, 1)
            xids = {
                row: xid
                for table in self.tables
                for _, xid, row in values.fetch_all(made, table)
            }
        fork, loser, winner = map(self.read, ("fork", "loser", "winner"))
        for table in self.tables:
            name = str(table.name)
            then, ours = fork.get(name, []), loser[name]
            self.held.differences_of[name] = compare(
                table, then, ours, winner.get(name, []), xids
            )
            born = [row for row in ours if row not in then]
            if table.keys:
                places = [table.position(each) for each in table.keys[0]]
                known = {tuple(row[place] for place in places) for row in then}
                born = [r for r in born if tuple(r[p] for p in places) not in known]
            self.held.born_of[name] = born

    def goal(self) -> Target:
        [(system_id,)] = self.ask("SELECT system_identifier FROM pg_control_system()")
        return Target(str(system_id), "winner")

    def plan(self, wish: Wish, made: Session | None = None) -> Plan:
        missing = lacking(made, self.tables) if made is not None else {}
        return Plan(Survey(self.tables, self.held, wish, missing), "n1, fork 1")

    def apply(self, wish: Wish | None = None, *, commit: bool = True) -> Result:
        with session(self.dsn("winner")) as made:
            settle_writing(made)
            plan = self.plan(wish or Wish(), made)
            return Applier(made, plan).run(commit=commit)

    def new_keys(self) -> list[tuple[str, ...]]:
        """Return table, column, old and new value, and how, from the ledger."""
        query = self.plan(Wish()).statements.mapping()
        return [tuple(map(str, row)) for row in self.ask(query)]

    def write(self, to: Path, form: Format, wish: Wish | None = None) -> Index:
        plans = [(self.goal(), self.plan(wish or Wish()))]
        return write_folder(to, "n1-snapshot", form, plans)

    def psql(
        self, script: Path, *options: str, database: str = "winner"
    ) -> subprocess.CompletedProcess[str]:
        program = shutil.which("psql", path=str(self.server.programs.bin_dir))
        assert program
        return subprocess.run(
            [program, "-X", "-h", str(self.server.socket_dir), "-p",
             str(self.server.port), "-U", "postgres", "-d", database, *options,
             "-f", str(script)],
            capture_output=True, text=True, check=False, cwd=script.parent, timeout=60,
        )  # fmt: skip


@dataclass
class Forking:
    """Makes two sides on one server, until the test ends."""

    server: Server
    stack: contextlib.ExitStack

    @property
    def version(self) -> int:
        return int(self.server.value("SHOW server_version_num"))

    def __call__(
        self,
        fork: str,
        loser: list[str],
        winner: list[str],
        template: str = "template0",
    ) -> Sides:
        sides = sides_of(self.server, fork, loser, winner, template)
        return self.stack.enter_context(sides)


@contextlib.contextmanager
def sides_of(
    server: Server, fork: str, loser: list[str], winner: list[str], template: str
) -> Iterator[Sides]:
    sides = Sides(server)
    sides.run("postgres", f"CREATE DATABASE fork TEMPLATE {template}")
    sides.run("fork", fork)
    for name, statements in (("loser", loser), ("winner", winner)):
        sides.run("postgres", f"CREATE DATABASE {name} TEMPLATE fork")
        sides.run(name, *statements)
    sides.compare()
    try:
        yield sides
    finally:
        for name in ("fork", "loser", "winner"):
            sides.run("postgres", f"DROP DATABASE {name}")


@pytest.fixture
def forked(stage: Stage) -> Iterator[Forking]:
    """Make two sides on a server of every version."""
    with contextlib.ExitStack() as stack:
        yield Forking(stage.primary(), stack)


@pytest.fixture
def forked16(stage16: Stage) -> Iterator[Forking]:
    """Make two sides, for what does not depend on the version."""
    with contextlib.ExitStack() as stack:
        yield Forking(stage16.primary(), stack)
