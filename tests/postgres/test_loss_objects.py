"""What two servers that parted have beside rows, and which side did it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.divergence.objects import (
    Object,
    compare_objects,
    keep_objects,
    kept_objects,
    read_objects,
    read_shared,
    wrote_since,
)
from agent.divergence.report import Named
from agent.divergence.values import settle
from agent.postgres.connect import connect
from tests.fix_postgres import VERSIONS, Server, Stage, stage_of

pytestmark = pytest.mark.postgres

COMMON = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('calm', 'cross');
CREATE TABLE app.kept (id serial PRIMARY KEY, word text);
CREATE TABLE app.altered (id int);
CREATE TABLE app.both (id int);
CREATE TABLE app.emptied (id int);
CREATE TABLE app.dropped_here (id int PRIMARY KEY);
CREATE TABLE app.dropped_there (id int);
CREATE TABLE app.was_called (id int);
CREATE TABLE app.calm (id int, CHECK (id > 0));
CREATE VIEW app.seen AS SELECT id FROM app.calm;
CREATE MATERIALIZED VIEW app.summary AS SELECT 1 AS one;
CREATE SEQUENCE app.resting;
CREATE FUNCTION app.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE ROLE clerk;
CREATE ROLE reader LOGIN;
GRANT pg_read_all_data TO reader;
CREATE ROLE guard LOGIN PASSWORD 'before';
INSERT INTO app.kept (word) VALUES ('a');
"""
LOSER = """
CREATE TABLE app.made (id serial PRIMARY KEY, word text CHECK (word <> ''));
CREATE INDEX ON app.made (word);
CREATE TABLE app.alike (id int);
ALTER TYPE app.mood ADD VALUE 'glad';
ALTER TABLE app.altered ADD COLUMN more text DEFAULT 'x';
ALTER TABLE app.both ALTER COLUMN id SET NOT NULL;
TRUNCATE app.emptied;
DROP TABLE app.dropped_here;
ALTER TABLE app.was_called RENAME TO is_called;
CREATE OR REPLACE FUNCTION app.twice(n int) RETURNS int LANGUAGE sql
  AS 'SELECT n + n';
CREATE FUNCTION app.thrice(n int) RETURNS int LANGUAGE sql AS 'SELECT 3 * n';
CREATE OR REPLACE VIEW app.seen AS SELECT id FROM app.calm WHERE id > 1;
REFRESH MATERIALIZED VIEW app.summary;
CREATE ROLE newcomer;
ALTER ROLE guard PASSWORD 'after';
GRANT SELECT ON app.kept TO clerk;
INSERT INTO app.kept (word) SELECT 'b' FROM generate_series(1, 99);
SELECT lo_create(0);
ALTER DATABASE postgres SET work_mem = '5MB';
CREATE PUBLICATION all_of_it FOR ALL TABLES;
"""
WINNER = """
CREATE TABLE app.theirs (id int PRIMARY KEY);
CREATE TABLE app.alike (id int);
DROP TABLE app.dropped_there;
ALTER TABLE app.both ADD COLUMN theirs int;
ALTER TABLE app.calm ADD COLUMN late int;
CREATE FUNCTION app.ours() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""
OLDER = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('calm', 'cross');
CREATE DOMAIN app.small AS int CHECK (VALUE < 10);
CREATE TABLE app.kept (id serial PRIMARY KEY, word text, n int);
CREATE STATISTICS app.pairs ON id, n FROM app.kept;
CREATE VIEW app.seen AS SELECT id FROM app.kept;
CREATE FUNCTION app.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE PROCEDURE app.noop() LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER calm BEFORE UPDATE ON app.kept FOR EACH ROW
  EXECUTE PROCEDURE suppress_redundant_updates_trigger();
CREATE POLICY mine ON app.kept USING (id > 0);
CREATE ROLE clerk;
CREATE SUBSCRIPTION nobody CONNECTION 'host=/nowhere' PUBLICATION p
  WITH (connect = false);
"""


def look(
    server: Server, role: str = "postgres"
) -> tuple[tuple[Object, ...], tuple[Object, ...]]:
    session = connect(server.dsn.replace("user=postgres", f"user={role}"))
    settle(session)
    with session, session.transaction():
        return read_objects(session), read_shared(session)


def run(server: Server, script: str) -> None:
    with server.session() as session:
        for statement in script.strip().rstrip(";").split(";\n"):
            session.execute(statement)


class Sides:
    """What was read of two servers that had one past."""

    def __init__(self, stage: Stage) -> None:
        loser = stage.primary("loser")
        run(loser, COMMON)
        self.fork_xid = int(
            loser.value("SELECT txid_snapshot_xmax(txid_current_snapshot())")
        )
        loser.stop()
        again = Stage(stage.folder, loser.data_dir, stage.programs)
        winner = again.primary("winner")
        stage.servers.append(winner)
        loser.start()
        run(loser, LOSER)
        run(winner, WINNER)
        self.loser, self.loser_shared = look(loser)
        self.winner, self.winner_shared = look(winner, "reader")

    def named(self) -> tuple[Named, ...]:
        wrote = wrote_since(self.fork_xid)
        of_database = compare_objects(
            self.loser, self.winner, database="postgres",
            loser_wrote=wrote, winner_wrote=wrote,
        )  # fmt: skip
        shared = compare_objects(
            self.loser_shared, self.winner_shared, loser_wrote=wrote, winner_wrote=wrote
        )
        return of_database + shared


@pytest.fixture(scope="module", params=VERSIONS)
def sides(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[Sides]:
    with stage_of(request.param, postgres_home) as stage:
        yield Sides(stage)


def test_each_difference_is_named_with_who_made_it(sides: Sides):
    rewritten = "rewritten by the losing side"
    rewritten += " (TRUNCATE, VACUUM FULL, CLUSTER or ALTER TABLE)"
    redefined = "altered by the losing side: definition"
    sequence = "at 100 on the losing side, at 1 on the winner"
    assert {(each.kind, each.name, each.what) for each in sides.named()} == {
        ("enum", "app.mood", "altered by the losing side: labels"),
        ("table", "app.made", "created by the losing side"),
        ("table", "app.alike", "created on both sides"),
        ("table", "app.altered", "altered by the losing side: columns"),
        ("table", "app.both", "altered on both sides: columns"),
        ("table", "app.emptied", rewritten),
        ("table", "app.dropped_here", "dropped by the losing side"),
        ("table", "app.dropped_there", "dropped by the winner"),
        ("table", "app.is_called", "the winner calls it app.was_called"),
        ("table", "app.calm", "altered by the winner: columns"),
        ("table", "app.kept", "altered by the losing side: privileges"),
        ("view", "app.seen", redefined),
        ("materialised view", "app.summary", rewritten),
        ("sequence", "app.kept_id_seq", sequence),
        ("function", "app.twice(n integer)", redefined),
        ("function", "app.thrice(n integer)", "created by the losing side"),
        ("large objects", "all together", "1 on the losing side, 0 on the winner"),
        ("publication", "all_of_it", "created by the losing side"),
        ("role", "newcomer", "created by the losing side"),
        ("role", "guard", "altered by the losing side: password"),
        ("database", "postgres", "altered by the losing side: settings"),
    }


def test_objects_of_a_database_are_named_with_it_and_others_without(sides: Sides):
    shared = {"role", "database", "tablespace"}
    for each in sides.named():
        assert each.database == ("" if each.kind in shared else "postgres")


def test_without_knowledge_of_the_transactions_nobody_is_accused(sides: Sides):
    named = compare_objects(sides.loser, sides.winner)
    told = {(each.name, each.what) for each in named if each.kind == "table"}
    assert ("app.made", "only the losing side has it") in told
    assert ("app.theirs", "only the winner has it") in told
    assert ("app.altered", "differs: columns") in told


def test_a_sequence_that_nobody_asked_is_not_named(sides: Sides):
    named = compare_objects(sides.loser, sides.winner, moved=lambda _: False)
    assert "sequence" not in {each.kind for each in named}


def test_a_server_does_not_differ_from_itself(sides: Sides):
    assert compare_objects(sides.loser, sides.loser) == ()
    assert compare_objects(sides.loser_shared, sides.loser_shared) == ()


def test_objects_are_kept_and_read_again(sides: Sides, tmp_path: Path):
    keep_objects(sides.loser, tmp_path / "objects.json")
    assert kept_objects(tmp_path / "objects.json") == sides.loser


def test_objects_of_every_version_are_read(other: Stage):
    server = other.primary()
    newer = other.programs.major >= 11
    run(server, OLDER if newer else OLDER.replace("PROCEDURE app.noop()", "FUNCTION "
        "app.noop() RETURNS int"))  # fmt: skip
    objects, shared = look(server)
    found = {(each.kind, each.identity) for each in objects + shared}
    assert {
        ("table", "app.kept"), ("sequence", "app.kept_id_seq"), ("enum", "app.mood"),
        ("function", "app.twice(n integer)"), ("aggregate", "app.total(integer)"),
        ("procedure" if newer else "function", "app.noop()"), ("role", "clerk"),
        ("view", "app.seen"), ("database", "postgres"), ("domain", "app.small"),
        ("trigger", "app.kept.calm"), ("policy", "app.kept.mine"),
        ("subscription", "nobody"), ("statistics", "app.pairs"),
    } <= found  # fmt: skip
    assert compare_objects(objects, look(server)[0]) == ()


def test_transaction_ids_are_compared_across_the_end_of_their_circle():
    wrote = wrote_since((1 << 32) - 5)
    assert [wrote(xid) for xid in (2, 3, 1000, (1 << 32) - 5, (1 << 32) - 6)] == [
        False, True, True, True, False,
    ]  # fmt: skip
