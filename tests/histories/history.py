"""A whole history, drawn by a seed: a common past, a fork, and two presents.

Theory of operation. One client writes to the primary while a standby follows. Some
transactions are open and some prepared when the standby is promoted; from then on the
two servers are written to in turn, neither knowing of the other. What each is told
comes from the seed alone (keys that a sequence hands out are taken from RETURNING).
At the end the ten collisions, conflicts and deletes that each history must have are
counted by the model, and what is missing is added.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg

from agent.divergence.model import DifferenceKind
from tests.fix_postgres import Server, Stage
from tests.histories import schema as plan
from tests.histories.client import Identities, Side, TableId, Work, table_id
from tests.histories.expect import Expected, expected
from tests.histories.schema import DATABASES, MAIN, Row, Schema, TableSpec
from tests.histories.statements import Cells, Supply, Teller
from tests.histories.texts import JSON, name, plain, spelled

LEAST = 10
"""So many collisions, conflicts and deletes each history has."""
PREFIX_ROWS, PREFIX_TRANSACTIONS, TRANSACTIONS = 24, 40, 400
SHARED_KEYS = 14
PENDING_MAX = 7
CALM = {"item", "ident", "hot", "kinds"}
"""Tables that transactions hold open while others go on."""
EXACT = {"item", "ident", "hot", "kinds"}
COUNTED = (DifferenceKind.COLLISION, DifferenceKind.CONFLICT, DifferenceKind.DELETED)
SAFETY = "SET lock_timeout = '5s'; SET statement_timeout = '20s'"


@dataclass
class Pending:
    """A transaction that somebody holds open, or has prepared."""

    teller: Teller
    gid: str = ""


@dataclass
class Player:
    """One server with its client."""

    server: Server
    side: Side
    rng: Random
    schema: Schema
    supply: Supply
    tellers: dict[str, Teller] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    fates: list[TableSpec] = field(default_factory=list)
    left: int = 0
    """So many transactions stay open or prepared to the end."""
    kinds: Counter[str] = field(default_factory=Counter)

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Open a session in which nothing waits for ever."""
        session = psycopg.connect(
            self.server.dsn, dbname=database, autocommit=True, connect_timeout=5
        )
        session.execute(SAFETY)
        return session

    def teller(self, database: str = MAIN, *, new: bool = False) -> Teller:
        """Return the client of a database, or one more."""
        if not new and database in self.tellers:
            return self.tellers[database]
        made = Teller(
            self.rng, self.side, self.schema, self.supply, self.connect(database),
            database, self.kinds,
        )  # fmt: skip
        if not new:
            self.tellers[database] = made
        return made

    def close(self) -> None:
        """Close every session; what was open is rolled back by the server."""
        for one in self.pending:
            if not one.gid:
                one.teller.work.end()
                one.teller.session.close()
        for teller in self.tellers.values():
            teller.session.close()

    # Transactions.

    def transact(self) -> None:
        """One transaction, or one statement by itself."""
        teller = self.teller(self.rng.choices(DATABASES, (9, 1))[0])
        teller.begin()
        if self.rng.random() < 0.35:
            teller.anything()
            teller.work.commit()
            return
        teller.say("BEGIN")
        for _ in range(self.rng.randint(1, 4)):
            if self.rng.random() < 0.25:
                self.subtransaction(teller)
            else:
                teller.anything()
        self.finish(teller)

    def finish(self, teller: Teller) -> None:
        """Commit, roll back or fail."""
        draw = self.rng.random()
        if draw < 0.75:
            teller.say("COMMIT")
            teller.work.commit()
            return
        if draw < 0.85:
            self.fail(teller)
        teller.say("ROLLBACK")
        teller.work.end()

    @staticmethod
    def fail(teller: Teller) -> None:
        """Say something that the server refuses, after it has written a row."""
        spec = teller.rng.choice(teller.tables(lambda each: bool(each.primary)))
        rows = list(teller.work.rows(spec))
        try:
            if rows and not spec.leaf:
                teller.say(f"UPDATE {spec.sql} SET {name(spec.primary[-1])} = NULL")
            teller.say("SELECT 1 / 0")
        except psycopg.Error:
            return
        raise AssertionError("the server took what it should refuse")

    def subtransaction(self, teller: Teller, depth: int = 0) -> None:
        """A savepoint that is released, rolled back or failed."""
        mark = f"s{depth}"
        teller.say(f"SAVEPOINT {mark}")
        teller.work.savepoint()
        teller.anything()
        if depth < 2 and self.rng.random() < 0.4:
            self.subtransaction(teller, depth + 1)
        if self.rng.random() < 0.5:
            teller.say(f"RELEASE {mark}")
            teller.work.release()
            return
        if self.rng.random() < 0.3:
            self.fail(teller)
        teller.say(f"ROLLBACK TO {mark}")
        teller.say(f"RELEASE {mark}")
        teller.work.roll_back_to()

    def many_subtransactions(self) -> None:
        """More than a server keeps in its shared memory for one transaction."""
        teller = self.teller()
        spec = self.schema.table("hot")
        teller.begin()
        teller.say("BEGIN")
        for number in range(70):
            teller.say("SAVEPOINT s")
            teller.work.savepoint()
            teller.insert(spec)
            if number % 9 == 0:
                teller.say("ROLLBACK TO s")
                teller.work.roll_back_to()
            else:
                teller.work.release()
        teller.say("COMMIT")
        teller.work.commit()

    def hold(self, gid: str = "") -> None:
        """Begin a transaction and leave it open, or prepare it."""
        teller = self.teller(new=True)
        teller.say("BEGIN")
        teller.begin()
        for _ in range(4):
            teller.anything(lambda spec: spec.name in CALM)
        # A transaction that wrote nothing cannot be told from one that is not there.
        teller.insert(self.schema.table("hot"))
        for table in teller.work.tables:
            self.side.busy[table] = self.side.busy.get(table, 0) + 1
        if gid:
            teller.say(f"PREPARE TRANSACTION '{gid}'")
            teller.session.close()
        self.pending.append(Pending(teller, gid))

    def settle(self) -> None:
        """End one of the transactions that are held."""
        if len(self.pending) <= self.left:
            return
        one = self.pending.pop(self.rng.randrange(len(self.pending)))
        commit = self.rng.random() < 0.6
        if one.gid:
            word = "COMMIT" if commit else "ROLLBACK"
            self.teller().say(f"{word} PREPARED '{one.gid}'")
        elif commit:
            one.teller.say("COMMIT")
        one.teller.session.close()
        for table in one.teller.work.tables:
            self.side.busy[table] -= 1
        work = one.teller.work
        born = {held for held in work.locks if held[1] not in self.side.rows[held[0]]}
        if commit:
            work.commit()
        work.end()
        if one.gid:
            # Born before the fork and committed past it: nobody touches them again.
            self.side.locked |= born

    # All that is no row.

    def other(self) -> None:
        """Something that changes no row, or looks as if it did."""
        teller = self.teller()
        idle = teller.tables(lambda each: not self.side.busy.get(table_id(each)))
        spec, quiet = self.rng.choice(teller.tables()), self.rng.choice(idle)
        said = self.rng.choice(
            (
                f"VACUUM {spec.sql}", f"VACUUM {spec.sql}", f"VACUUM {spec.sql}",
                f"VACUUM (FREEZE, ANALYZE) {spec.sql}", f"ANALYZE {spec.sql}",
                f"REINDEX TABLE {quiet.sql}", "CHECKPOINT", "SELECT nextval('alone')",
                "SELECT lo_from_bytea(0, 'a large object')",
                "SELECT pg_logical_emit_message(true, 'a', 'message')",
                "SELECT pg_logical_emit_message(false, 'a', 'message')",
                "REFRESH MATERIALIZED VIEW public.counted",
                "CREATE TEMP TABLE passing AS SELECT 1; DROP TABLE passing",
                "SELECT pg_switch_wal()",
            )
        )  # fmt: skip
        teller.say(said)

    def undone(self, spec: TableSpec) -> None:
        """Do to a table what its fate is, and roll it back."""
        teller = self.teller()
        for statement in ("BEGIN", *FATES[spec.fate](spec), "ROLLBACK"):
            teller.say(statement)

    def suffer(self, spec: TableSpec) -> None:
        """Do to a table what its fate is."""
        table = table_id(spec)
        if spec.fate not in {"full", "cluster"} and self.rng.random() < 0.5:
            self.undone(spec)
        for statement in FATES[spec.fate](spec):
            self.teller().say(statement)
        if spec.fate in plan.FILES:
            self.side.rewritten.add(table)
        elif spec.fate == "widen":
            self.side.add_column(spec, "extra", "the default")
        elif spec.fate in {"truncate", "drop"}:
            self.side.written |= {(table, who) for who in self.side.of(spec)}
            self.side.of(spec).clear()
            gone = self.side.missing if spec.fate == "drop" else self.side.emptied
            gone.add(table)
        else:
            self.side.missing.discard(table)

    def live(self) -> None:
        """One step of a side's own history."""
        draw = self.rng.random()
        if draw < 0.12:
            self.other()
        elif draw < 0.2:
            self.settle()
        elif draw < 0.22 and len(self.pending) < PENDING_MAX:
            self.supply.last += 1
            self.hold(self.rng.choice(("", f"prepared {self.supply.last}")))
        elif draw < 0.29 and self.fates:
            self.suffer(self.fates.pop())
        else:
            self.transact()


FATES = {
    "full": lambda spec: (f"VACUUM FULL {spec.sql}",),
    "cluster": lambda spec: (f"CLUSTER {spec.sql} USING {spec.name}_pkey",),
    "retype": lambda spec: (f"ALTER TABLE {spec.sql} ALTER n TYPE bigint",),
    "widen": lambda spec: (
        f"ALTER TABLE {spec.sql} ADD COLUMN extra text DEFAULT 'the default'",
    ),
    "truncate": lambda spec: (f"TRUNCATE {spec.sql}",),
    "drop": lambda spec: (f"DROP TABLE {spec.sql}",),
    "create": lambda spec: tuple(spec.ddl()),
}


@dataclass
class Played:
    """Both sides after all, and the rows that there were at the fork."""

    seed: int
    schema: Schema
    loser: Player
    winner: Player
    fork: dict[TableId, dict[int, Row]]

    def expected(self, spec: TableSpec) -> list[Expected]:
        """Return what must be reported of a table."""
        fork = self.fork.get(table_id(spec), {})
        return expected(spec, fork, self.loser.side, self.winner.side)

    def counts(self) -> Counter[DifferenceKind]:
        """Count the differences in tables whose rows keep their places."""
        calm = [spec for spec in self.schema.tables if not spec.fate]
        return Counter(each.kind for spec in calm for each in self.expected(spec))

    def top_up(self) -> None:
        """Add what is missing to ten of each that must be."""
        for kind in COUNTED:
            for _ in range(5):
                if (missing := LEAST - self.counts()[kind]) <= 0:
                    break
                for _ in range(missing):
                    self._add(kind)
        assert min(self.counts()[kind] for kind in COUNTED) >= LEAST, self.counts()

    def _add(self, kind: DifferenceKind) -> None:
        rng = self.loser.rng
        wanted = [each for each in self.schema.tables if each.name in EXACT]
        spec = rng.choice([each for each in wanted if each.database == MAIN])
        mine, theirs = self.loser.teller(), self.winner.teller()
        mine.begin()
        theirs.begin()
        if kind is DifferenceKind.COLLISION:
            key = mine.supply.key(spec)
            mine.insert(spec, key)
            theirs.insert(spec, key)
        elif (who := self._untouched(spec, mine.work, theirs.work)) is not None:
            rows = dict(mine.work.rows(spec))
            if kind is DifferenceKind.CONFLICT:
                mine.update(spec, [(who, rows[who])])
                theirs.update(spec, [(who, dict(theirs.work.rows(spec))[who])])
            else:
                mine.delete(spec, [(who, rows[who])])
        mine.work.commit()
        theirs.work.commit()

    def _untouched(self, spec: TableSpec, mine: Work, theirs: Work) -> int | None:
        fork = self.fork[table_id(spec)]
        one, other = dict(mine.rows(spec)), dict(theirs.rows(spec))
        free = [
            who
            for who, row in fork.items()
            if one.get(who) == row and other.get(who) == row
        ]
        return self.loser.rng.choice(free) if free else None


def set_up(server: Server, features: Schema) -> None:
    """Make the databases and tables; learn what the server can."""
    with server.session() as session:
        say_all(session, plan.BEFORE)
        features.tables = list(plan.TABLES)
        if server_has(session, "CREATE EXTENSION citext"):
            features.tables.append(plan.CITEXT_TABLE)
        if server_has(session, plan.LAX_DDL):
            features.tables.append(plan.LAX_TABLE)
        if session.info.server_version >= plan.VIRTUAL_SINCE:
            features.tables.append(plan.VIRTUAL_TABLE)
        session.execute(f"CREATE DATABASE {name(plan.SECOND)}")
    for database in DATABASES:
        with server.session(database) as session:
            for spec in features.tables:
                if spec.database == database and spec.fate != "create":
                    say_all(session, spec.ddl())
            say_all(session, plan.AFTER if database == MAIN else ())


def say_all(session: psycopg.Connection[Any], statements: Iterable[str]) -> None:
    """Run statements one after the other."""
    for statement in statements:
        session.execute(statement.encode())


def server_has(session: psycopg.Connection[Any], statement: str) -> bool:
    """Try what not every build of the server has."""
    try:
        session.execute(statement.encode())
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def settings_of(rng: Random) -> dict[str, str]:
    """Draw how the servers are set up."""
    return {
        "max_prepared_transactions": "8",
        "wal_level": rng.choice(("replica", "replica", "logical")),
        "wal_compression": rng.choice(("off", "pglz")),
        "full_page_writes": rng.choice(("on", "on", "off")),
    }


def common_past(player: Player) -> None:
    """Write what both sides will have."""
    for spec in player.schema.tables:
        if spec.fate == "create":
            player.side.missing.add(table_id(spec))
            continue
        teller = player.teller(spec.database)
        teller.begin()
        teller.insert_many(spec, PREFIX_ROWS // 2)
        teller.copy_in(spec, PREFIX_ROWS // 2)
        teller.work.commit()
    for _ in range(PREFIX_TRANSACTIONS):
        player.transact()
        if player.rng.random() < 0.2:
            player.other()


def divide(loser: Player, standby: Server, rng: Random) -> Player:
    """Promote the standby; return its client, who knows what the loser's knew."""
    standby.caught_up(loser.server)
    standby.promote()
    side = loser.side.copy("winner")
    for spec in loser.schema.tables:
        if spec.unlogged:
            side.of(spec).clear()  # no standby has rows of an unlogged table
    winner = Player(
        standby, side, Random(rng.random()), loser.schema, loser.supply
    )  # fmt: skip
    for one in loser.pending:
        if one.gid:
            twin = winner.teller(new=True)
            twin.session.close()
            twin.work = one.teller.work.for_other(side)
            for table in twin.work.tables:
                side.busy[table] = side.busy.get(table, 0) + 1
            winner.pending.append(Pending(twin, one.gid))
    return winner


def play(stage: Stage, seed: int) -> Played:
    """Play a history on two servers; both are running when it ends."""
    rng = Random(seed)
    settings = settings_of(rng)
    old, standby = stage.pair(**settings)
    schema = Schema()
    set_up(old, schema)
    supply = Supply(rng)
    loser = Player(old, Side("loser", Identities()), rng, schema, supply)
    common_past(loser)
    loser.teller().say("CHECKPOINT")  # the log tells then that nothing is under way
    for number in range(3):
        loser.hold()
        loser.hold(f"prepared {number}")
    fork = loser.side.copy("fork").rows
    loser.side.written.clear()
    winner = divide(loser, standby, rng)
    played = Played(seed, schema, loser, winner, fork)
    for player in (loser, winner):
        fates = [spec for spec in schema.tables if spec.fate]
        player.fates = rng.sample(fates, rng.randint(2, len(fates)))
        player.left = rng.choice((0, 0, 1, 2))
        player.kinds.clear()
    if rng.random() < 0.5:
        loser.many_subtransactions()
    alike(played)
    namesakes(played)
    supply.share(schema.tables, ("loser", "winner"), SHARED_KEYS)
    for _ in range(TRANSACTIONS):
        loser.live()
        winner.live()
    played.top_up()
    loser.close()
    winner.close()
    return played


def respelled(spec: TableSpec, cells: Cells) -> Cells:
    """Return the same row, its JSON with other spaces and in another order."""
    return cells | {
        each.name: plain(spelled(text, 1))
        for each in spec.columns
        if each.kind is JSON and (text := cells[each.name].written) is not None
    }


def namesakes(played: Played) -> None:
    """Have both sides insert rows with one name, under keys of their own."""
    mine, theirs = played.loser.teller(), played.winner.teller()
    spec = played.schema.table("item")
    for _ in range(3):
        shared = {"name": mine.supply.key(spec)["name"]}
        for teller in (mine, theirs):
            teller.begin()
            teller.insert(spec, mine.supply.key(spec) | shared)
            teller.work.commit()


def alike(played: Played) -> None:
    """Have both sides insert, change and delete some rows in the same way."""
    for spec in played.schema.tables:
        if spec.fate or spec.unlogged or spec.database != MAIN:
            continue
        mine, theirs = played.loser.teller(), played.winner.teller()
        cells = mine.fresh(spec, mine.supply.key(spec))
        who = played._untouched(spec, Work(mine.side), Work(theirs.side))
        for teller, spelling in ((mine, cells), (theirs, respelled(spec, cells))):
            teller.begin()
            teller.insert(spec, dict(spelling))
            teller.work.commit()
        if who is None or not spec.primary:
            continue
        state = mine.rng.getstate()
        for teller in (mine, theirs):
            teller.begin()
            row = dict(teller.work.rows(spec))[who]
            if state[1][-1] % 2:
                teller.delete(spec, [(who, row)])
            else:
                value = teller.changeable(spec)[0]
                teller.set_cells(spec, [(who, row)], {value.name: cells[value.name]})
            teller.work.commit()
