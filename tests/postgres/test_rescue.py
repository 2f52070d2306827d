"""Rows of a losing side go into a winner, once, and never over what is newer there."""

import pytest

from agent.divergence.rescue_apply import Applier
from agent.divergence.rescue_script import LOCK, Target
from agent.divergence.rescue_server import (
    check_server,
    lacking,
    refuse_loser,
    settle_writing,
)
from agent.divergence.rescue_wish import Collisions, Format, OnConflict, Only, Wish
from agent.errors import DivergenceError, PostgresError
from agent.postgres.connect import session

pytestmark = pytest.mark.postgres

FAMILY = """
CREATE TABLE "Kunden" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Näme" text UNIQUE, note text);
CREATE TABLE orders (
    id serial PRIMARY KEY, customer int NOT NULL REFERENCES "Kunden", what text);
CREATE TABLE lines (
    "order" int REFERENCES orders, n int, what text, PRIMARY KEY ("order", n));
CREATE TABLE marks (
    id bigserial PRIMARY KEY, "order" int, line int, mark text,
    FOREIGN KEY ("order", line) REFERENCES lines ("order", n));
CREATE TABLE roles (customer int REFERENCES "Kunden", role text);
INSERT INTO "Kunden" ("Näme") VALUES ('old');
INSERT INTO orders (customer, what) VALUES (1, 'old order');
INSERT INTO lines VALUES (1, 1, 'old line');
INSERT INTO roles VALUES (1, 'admin'), (1, 'admin');
"""
LOST = [
    (
        'INSERT INTO "Kunden" ("Näme", note)'
        " VALUES ('ann', 'O''Hara \\ x'), ('bob', '')"
    ),
    "INSERT INTO orders (customer, what) VALUES (2, 'ann''s'), (3, 'bob''s')",
    "INSERT INTO lines VALUES (2, 1, 'ann line'), (3, 1, 'same'), (3, 2, 'bob two')",
    "INSERT INTO marks (\"order\", line, mark) VALUES (2, 1, 'ann mark'), (3, 2, 'b')",
    "INSERT INTO roles VALUES (2, 'user'), (3, 'user'), (3, 'user'), (1, 'admin')",
]
WON = [
    """INSERT INTO "Kunden" ("Näme") VALUES ('eve'), ('ann')""",
    "INSERT INTO orders (customer, what) VALUES (2, 'eve''s'), (3, 'ann''s too')",
    "INSERT INTO lines VALUES (2, 1, 'eve line'), (3, 1, 'same')",
    "INSERT INTO marks (\"order\", line, mark) VALUES (2, 1, 'eve mark')",
    "INSERT INTO roles VALUES (2, 'user')",
]
STORY = """
SELECT k."Näme", o.what, l.what, m.mark FROM "Kunden" k
LEFT JOIN orders o ON o.customer = k.id LEFT JOIN lines l ON l."order" = o.id
LEFT JOIN marks m ON (m."order", m.line) = (l."order", l.n) ORDER BY 1, 2, 3
"""
TOLD = [
    ("ann", "ann's", "ann line", "ann mark"),
    ("ann", "ann's too", "same", None),
    ("bob", "bob's", "bob two", "b"),
    ("bob", "bob's", "same", None),
    ("eve", "eve's", "eve line", "eve mark"),
    ("old", "old order", "old line", None),
]
ROLES = [
    ("ann", "user"), ("bob", "user"), ("bob", "user"), ("eve", "user"),
    ("old", "admin"), ("old", "admin"), ("old", "admin"),
]  # fmt: skip
WHO_HAS = (
    'SELECT "Näme", role FROM roles JOIN "Kunden" k ON k.id = customer ORDER BY 1, 2'
)


def test_collided_rows_get_new_keys_and_all_that_refers_to_them_follows(forked):
    sides = forked(FAMILY, LOST, WON)
    result = sides.apply()
    assert not result.refusals
    assert sides.ask(STORY) == TOLD
    assert sides.ask(WHO_HAS) == ROLES
    after = sides.read("winner")
    again = sides.apply()
    assert sides.read("winner") == after
    assert not again.refused
    # ann is on the winner under 3, which is bob's number on the losing side.
    assert ("public.Kunden", "id", "2", "3", "same") in sides.new_keys()
    assert result.tables["public.orders"]["renumbered"] == 2


def test_the_script_does_the_same_as_applying_and_does_it_once(forked, tmp_path):
    sides = forked(FAMILY, LOST, WON)
    index = sides.write(tmp_path / "out", Format.SQL)
    script = tmp_path / "out" / index.scripts[0]
    for _ in range(2):
        ran = sides.psql(script)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        assert sides.ask(STORY) == TOLD
        assert sides.ask(WHO_HAS) == ROLES
    mapping = (script.parent / "renumbered.csv").read_text().splitlines()
    assert mapping[0] == "table,column,old,new,how"
    assert "public.Kunden,id,2,3,same" in mapping
    assert sides.apply().new_keys  # the other way knows what this one did
    assert sides.ask(STORY) == TOLD


TREE = """
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree, name text);
CREATE TABLE strict (id int PRIMARY KEY, up int NOT NULL REFERENCES strict);
CREATE TABLE hens (id serial PRIMARY KEY, egg int, name text);
CREATE TABLE eggs (id serial PRIMARY KEY, hen int NOT NULL REFERENCES hens, name text);
ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs;
CREATE TABLE one (id int PRIMARY KEY, two int NOT NULL);
CREATE TABLE two (id int PRIMARY KEY, one int NOT NULL REFERENCES one);
ALTER TABLE one ADD FOREIGN KEY (two) REFERENCES two DEFERRABLE;
INSERT INTO tree VALUES (1, NULL, 'root'), (9, 1, 'old');
INSERT INTO hens (name) VALUES ('old hen');
"""
GROWN = [
    "INSERT INTO tree VALUES (5, 4, 'leaf'), (4, 3, 'twig'), (3, 1, 'branch')",
    "INSERT INTO tree VALUES (6, 7, 'round'), (7, 6, 'about'), (8, 8, 'itself')",
    "UPDATE tree SET up = 3 WHERE id = 9",
    "INSERT INTO strict VALUES (3, 2), (2, 1), (1, 1)",
    "INSERT INTO hens (name) VALUES ('hen')",
    "INSERT INTO eggs (hen, name) VALUES (2, 'egg')",
    "UPDATE hens SET egg = 1",
    (
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO one VALUES (1, 2);"
        " INSERT INTO two VALUES (2, 1); COMMIT"
    ),
]
FARM = (
    "SELECT h.name, e.name, l.name FROM hens h LEFT JOIN eggs e ON e.id = h.egg"
    " LEFT JOIN hens l ON l.id = e.hen ORDER BY 1"
)


def test_rows_that_refer_to_each_other_in_circles_are_put_in(forked, tmp_path):
    other = ["INSERT INTO hens (name) VALUES ('strange hen')"]
    other.append("INSERT INTO eggs (hen, name) VALUES (2, 'strange egg')")
    sides = forked(TREE, GROWN, other)
    index = sides.write(tmp_path / "out", Format.SQL)
    result = sides.apply()
    assert not result.refusals
    for table in ("tree", "strict", "one", "two"):
        query = f"SELECT * FROM {table} ORDER BY id"
        assert sides.ask(query) == sides.ask(query, "loser")
    # Both sides laid egg 1: the hens of the losing side keep to their own.
    farm = [
        ("hen", "egg", "hen"),
        ("old hen", "egg", "hen"),
        ("strange hen", None, None),
    ]
    assert sides.ask(FARM) == farm
    after = sides.read("winner")
    ran = sides.psql(tmp_path / "out" / index.scripts[0])
    assert ran.returncode == 0, ran.stderr
    assert sides.read("winner") == after


PAIRS = """
CREATE TABLE pairs (id int PRIMARY KEY, a text, b text, c int DEFAULT 7);
INSERT INTO pairs SELECT n, 'a' || n, 'b' || n FROM generate_series(1, 9) n;
CREATE TABLE held (id int PRIMARY KEY, pair int REFERENCES pairs ON DELETE CASCADE);
CREATE TABLE untouched (pair int REFERENCES pairs ON DELETE CASCADE);
CREATE TABLE names (id serial PRIMARY KEY, name text UNIQUE);
INSERT INTO names (name) VALUES ('free'), ('moves'), ('stays');
"""
PAIRS_LOST = [
    "UPDATE pairs SET a = 'lost', b = NULL WHERE id IN (1, 2, 3, 4)",
    "DELETE FROM pairs WHERE id IN (5, 6, 7, 8)",
    "INSERT INTO held VALUES (1, 1)",
    "DELETE FROM names WHERE name = 'free'",
    "UPDATE names SET name = 'moved' WHERE name = 'moves'",
    "INSERT INTO names (name) VALUES ('free'), ('moves')",
]
PAIRS_WON = [
    "UPDATE pairs SET a = 'won' WHERE id IN (2, 6)",
    "DELETE FROM pairs WHERE id = 3",
    "INSERT INTO untouched VALUES (7)",
]


def test_what_is_newer_on_the_winner_is_never_overwritten(forked, tmp_path):
    sides = forked(PAIRS, PAIRS_LOST, PAIRS_WON)
    index = sides.write(tmp_path / "out", Format.SQL)
    # After the comparison somebody goes on working on the winner.
    sides.run("winner", "UPDATE pairs SET c = 8 WHERE id IN (4, 8)")
    result = sides.apply()
    assert sides.ask("SELECT id, a, b, c FROM pairs ORDER BY id") == [
        (1, "lost", None, 7),
        (2, "won", "b2", 7),  # both changed it
        (4, "a4", "b4", 8),  # changed after the comparison
        (6, "won", "b6", 7),  # deleted there, changed here
        (7, "a7", "b7", 7),  # the winner's own row refers to it
        (8, "a8", "b8", 8),
        (9, "a9", "b9", 7),
    ]
    assert sides.ask("SELECT * FROM untouched") == [(7,)]
    names = sides.ask("SELECT name FROM names ORDER BY 1")
    assert names == [("free",), ("moved",), ("moves",), ("stays",)]
    assert result.reasons == {"both sides changed it": 3}
    after = sides.read("winner")
    assert sides.psql(tmp_path / "out" / index.scripts[0]).returncode == 0
    assert sides.read("winner") == after


def test_a_conflict_is_decided_for_the_losing_side_only_when_told(forked16):
    sides = forked16(PAIRS, PAIRS_LOST, PAIRS_WON)
    sides.run("winner", "UPDATE pairs SET c = 8 WHERE id = 6")
    theirs = Wish(on_conflict=OnConflict.THEIRS, only=Only.CONFLICTS)
    result = sides.apply(theirs)
    assert sides.ask("SELECT id, a, b, c FROM pairs WHERE id < 7 ORDER BY id") == [
        (1, "a1", "b1", 7),
        (2, "lost", None, 7),
        (3, "lost", None, 7),
        (4, "a4", "b4", 7),
        (5, "a5", "b5", 7),
        (6, "won", "b6", 8),  # not the version that was compared
    ]
    assert result.tables["public.pairs"] == {
        "inserted": 1,
        "updated": 1,
        "changed-there": 1,
    }
    assert not sides.apply(theirs).tables["public.pairs"]["updated"]


ODD = """
CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE SCHEMA "Od d.""x";
CREATE TABLE "Od d.""x"."tä;b\\le" (
    "Id" int PRIMARY KEY, "a b" text, "q""q" mood[], bin bytea, j json, jb jsonb,
    n numeric, f float8, f4 real, yes boolean, d date, ts timestamp, tz timestamptz,
    iv interval, c char(5), one "char", bits bit(3), ip inet, r int4range, p pair,
    s small, u uuid, x xml, twice int GENERATED ALWAYS AS ("Id" * 2) STORED);
"""
VIRTUAL = 'ALTER TABLE "Od d.""x"."tä;b\\le" ADD v int GENERATED ALWAYS AS ("Id" + 1)'
TEXTS = (
    "'back\\slash ''quote'' :var \t tab' || chr(10) || chr(13) || chr(8232) || '→\"'",
    "''",
    "'\\'",
    "NULL",
    "'$$ -- ; /* '",
)
ODD_ROW = (
    "ARRAY['sad', 'it''s ok', NULL]::mood[], '\\x00ff5c27'::bytea, '{\"b\": 1, \"a\":"
    " [\"\\u00e4\"]}', '{\"b\":1,\"a\":2}', 'NaN', '-0.1', 'Infinity', true,"
    " '2024-02-29', '2024-02-29 12:00:00.123456', '2024-02-29 12:00+05:30',"
    " '1 mon -3 days 04:05:06.7', 'ab', 'x', B'101', '10.0.0.1/8', '[1,5)',"
    " ROW(1, 'x,\"y'), 42, gen_random_uuid(), NULL"
)


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_every_value_comes_back_as_it_was(forked, tmp_path, conforming):
    version = forked.version
    fork = ODD + (VIRTUAL if version >= 180000 else "")
    table = '"Od d.""x"."tä;b\\le"'
    fill = [
        f"INSERT INTO {table} VALUES ({number}, {text}, {ODD_ROW})"
        for number, text in enumerate(TEXTS)
    ]
    fill.append(f'INSERT INTO {table} ("Id") VALUES (100)')
    change = [f'UPDATE {table} SET n = n + 1, "a b" = \'x\' WHERE "Id" = 3']
    change.append(f'DELETE FROM {table} WHERE "Id" = 2')
    sides = forked(
        f"{fork}; {fill[3]}; {fill[2]}", [*fill[:2], fill[4], fill[5], *change], []
    )
    index = sides.write(tmp_path / "out", Format.SQL)
    sides.run(
        "winner",
        f"ALTER DATABASE winner SET standard_conforming_strings = {conforming}",
    )
    sides.run("winner", "ALTER DATABASE winner SET DateStyle = 'German'")
    sides.run("winner", "ALTER DATABASE winner SET bytea_output = 'escape'")
    ran = sides.psql(tmp_path / "out" / index.scripts[0])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(sides.read("winner")[next(iter(sides.held.born_of))]) == sorted(
        sides.read("loser")[next(iter(sides.held.born_of))]
    )


def test_rows_without_a_key_are_counted_and_come_back_once(forked, tmp_path):
    fork = "CREATE TABLE log (a int, b text); INSERT INTO log SELECT 1, n FROM"
    fork += " unnest(ARRAY['x', 'x', 'y', 'y', 'z', 'z', NULL]) n"
    lost = [
        "INSERT INTO log VALUES (1, 'x'), (1, 'x'), (2, NULL), (2, NULL), (3, '')",
        "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE b = 'y')",
        "DELETE FROM log WHERE a = 1 AND b IS NULL",
    ]
    sides = forked(fork, lost, ["INSERT INTO log VALUES (2, NULL)"])
    index = sides.write(tmp_path / "out", Format.SQL)
    query = "SELECT a, b, count(*) FROM log GROUP BY 1, 2 ORDER BY 1, 2"
    wanted = [(1, "x", 4), (1, "y", 1), (1, "z", 2), (2, None, 2), (3, "", 1)]
    assert sides.psql(tmp_path / "out" / index.scripts[0]).returncode == 0
    assert sides.ask(query) == wanted
    assert sides.psql(tmp_path / "out" / index.scripts[0]).returncode == 0
    assert sides.apply().tables["public.log"] == {"already-there": 6}
    assert sides.ask(query) == wanted


PICKY = """
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE picky (
    id serial PRIMARY KEY, parent int REFERENCES parent, size int, name text UNIQUE);
INSERT INTO parent VALUES (1, 'here'), (2, 'gone');
INSERT INTO picky (parent, size, name) VALUES (1, 1, 'a'), (1, 2, 'b');
"""
PICKY_LOST = [
    (
        "INSERT INTO picky (parent, size, name) SELECT 1, n, 'n' || n"
        " FROM generate_series(3, 700) n"
    ),
    "INSERT INTO picky (parent, size, name) VALUES (2, 5, 'orphan'), (1, -5, 'bad')",
    # Each takes the name that the other one leaves: neither can go first.
    "UPDATE picky SET name = name || '!' WHERE id < 3",
    "UPDATE picky SET name = CASE id WHEN 1 THEN 'c' ELSE 'a' END WHERE id < 3",
]
PICKY_WON = [
    "DELETE FROM parent WHERE id = 2",
    "ALTER TABLE picky ADD CONSTRAINT positive CHECK (size > 0)",
]


def test_a_row_that_the_winner_refuses_does_not_cost_the_others(forked, tmp_path):
    sides = forked(PICKY, PICKY_LOST, PICKY_WON)
    index = sides.write(tmp_path / "out", Format.SQL)
    script = tmp_path / "out" / index.scripts[0]
    ran = sides.psql(script)
    assert ran.returncode == 3
    assert "picky_parent_fkey" in ran.stderr
    assert sides.ask("SELECT count(*) FROM picky") == [(2,)]
    result = sides.apply()
    refused = {(one.key["id"], one.code, one.constraint) for one in result.refusals}
    assert refused == {
        ("701", "23503", "picky_parent_fkey"),
        ("702", "23514", "positive"),
    }
    assert result.tables["public.picky"] == {
        "inserted": 698,
        "updated": 2,
        "refused": 2,
    }
    assert sides.ask("SELECT id, name FROM picky WHERE id < 3 ORDER BY 1") == [
        (1, "c"),
        (2, "a"),
    ]
    ran = sides.psql(script, "-v", "leave_out=1")
    assert ran.returncode == 0
    assert sides.ask("SELECT count(*) FROM picky") == [(700,)]


def test_a_dry_run_leaves_nothing_but_used_numbers(forked16):
    sides = forked16(FAMILY, LOST, WON)
    before = sides.read("winner")
    tried = sides.apply(commit=False)
    assert sides.read("winner") == before
    done = sides.apply()
    assert (tried.committed, done.committed) == (False, True)
    assert done.tables == tried.tables


COUNTED = """
CREATE TABLE counted (id serial PRIMARY KEY, n bigint GENERATED BY DEFAULT AS IDENTITY);
CREATE SEQUENCE down INCREMENT -3;
CREATE TABLE downwards (id int PRIMARY KEY DEFAULT nextval('down'));
CREATE TABLE far (id bigserial PRIMARY KEY);
CREATE TABLE top (id smallserial PRIMARY KEY);
"""


def test_the_winners_sequences_go_past_what_is_put_in_and_never_back(forked16):
    lost = [
        "INSERT INTO counted (n) SELECT n FROM generate_series(10, 12) n",
        "INSERT INTO downwards SELECT nextval('down') FROM generate_series(1, 4)",
        "INSERT INTO far VALUES (5000000000)",
        "INSERT INTO top VALUES (32767)",
    ]
    sides = forked16(COUNTED, lost, ["SELECT setval('counted_id_seq', 100)"])
    sides.apply()
    sides.run("winner", "INSERT INTO counted DEFAULT VALUES",
              "INSERT INTO downwards DEFAULT VALUES", "INSERT INTO far DEFAULT VALUES",
              "INSERT INTO top DEFAULT VALUES")  # fmt: skip
    assert sides.ask("SELECT id, n FROM counted ORDER BY id") == [
        (1, 10), (2, 11), (3, 12), (101, 13)
    ]  # fmt: skip
    assert sides.ask("SELECT min(id) FROM downwards") == [(-13,)]
    assert sides.ask("SELECT max(id) FROM far") == [(5000000001,)]
    # Nothing is past the highest number that there is: that row was put in by hand.
    assert sides.ask("SELECT min(id) FROM top") == [(1,)]


STUCK = """
CREATE TABLE named (name text PRIMARY KEY, what text);
CREATE TABLE below (id serial PRIMARY KEY, name text REFERENCES named, what text);
CREATE TABLE under (below int PRIMARY KEY REFERENCES below, what text);
"""
STUCK_LOST = [
    "INSERT INTO named VALUES ('one', 'lost'), ('two', 'lost')",
    "INSERT INTO below (name, what) VALUES ('one', 'lost'), ('two', 'lost')",
    "INSERT INTO under VALUES (1, 'lost'), (2, 'lost')",
]
STUCK_WON = ["INSERT INTO named VALUES ('one', 'won')"]


def test_what_can_have_no_new_key_stays_out_with_all_that_refers_to_it(
    forked16, tmp_path
):
    sides = forked16(STUCK, STUCK_LOST, STUCK_WON)
    with pytest.raises(DivergenceError, match=r"public\.named: 1"):
        sides.plan(Wish(collisions=Collisions.FAIL))
    result = sides.apply()
    assert sides.ask("SELECT * FROM named ORDER BY 1") == [
        ("one", "won"),
        ("two", "lost"),
    ]
    assert sides.ask("SELECT id, name FROM below") == [(2, "two")]
    assert sides.ask("SELECT * FROM under") == [(2, "lost")]
    assert sum(result.reasons.values()) == 3
    index = sides.write(tmp_path / "out", Format.SQL)
    assert [sum(entry.left_out.values()) for entry in index.files] == [1, 1, 1]


def test_collisions_that_are_skipped_are_left_to_the_winner(forked16):
    sides = forked16(FAMILY, LOST, WON)
    sides.apply(Wish(collisions=Collisions.SKIP))
    story = [row for row in TOLD if row[0] != "bob"]
    # ann is on the winner: her rows still find her, though not under the old key.
    kept = [row for row in story if row[2] != "ann line"]
    assert sides.ask(STORY) == kept
    sides.apply()
    assert sides.ask(STORY) == TOLD


def test_only_what_is_wanted_is_written(forked16, tmp_path):
    sides = forked16(FAMILY, LOST, WON)
    index = sides.write(
        tmp_path / "some", Format.JSONL, Wish(("ord*", "public.lines"), Only.COLLISIONS)
    )
    assert [entry.table for entry in index.files] == ["public.orders", "public.lines"]
    before = sides.read("winner")
    lost_only = sides.apply(Wish(only=Only.LOST))
    # What refers to a collided row cannot come before it does.
    assert lost_only.reasons["what it refers to was not put in"] == 5
    assert len(sides.read("winner")["public.orders"]) == len(before["public.orders"])
    sides.apply()
    assert sides.ask(STORY) == TOLD
    assert sides.ask(WHO_HAS) == ROLES


PARTS = """
CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY, day date, what text,
    PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts
    FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts
    FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE refers (id serial PRIMARY KEY, part bigint, day date,
    FOREIGN KEY (part, day) REFERENCES parts);
CREATE TABLE bare (n int, what text) PARTITION BY LIST (n);
CREATE TABLE bare_1 PARTITION OF bare FOR VALUES IN (1);
INSERT INTO parts (day, what) VALUES ('2026-01-01', 'a'), ('2026-02-01', 'b');
INSERT INTO bare VALUES (1, 'x'), (1, 'x');
"""


def test_partitions_are_written_through_their_parent(forked):
    lost = [
        "INSERT INTO parts (day, what) VALUES ('2026-01-02', 'lost')",
        "INSERT INTO parts (day, what) VALUES ('2026-02-02', 'l')",
        "INSERT INTO refers (part, day) VALUES (3, '2026-01-02'), (2, '2026-02-01')",
        "UPDATE parts SET what = 'changed' WHERE id = 1",
        "INSERT INTO bare VALUES (1, 'y')",
        "DELETE FROM bare WHERE ctid = '(0,1)'",
    ]
    won = ["INSERT INTO parts (day, what) VALUES ('2026-01-02', 'won')"]
    sides = forked(PARTS, lost, won)
    result = sides.apply()
    assert not result.refusals
    assert sides.ask("SELECT what FROM parts ORDER BY 1") == [
        ("b",), ("changed",), ("l",), ("lost",), ("won",)
    ]  # fmt: skip
    joined = "SELECT what FROM refers JOIN parts p ON p.id = part ORDER BY 1"
    assert sides.ask(joined) == [("b",), ("lost",)]
    assert sides.ask("SELECT what FROM bare ORDER BY 1") == [("x",), ("y",)]
    after = sides.read("winner")
    sides.apply()
    assert sides.read("winner") == after


def test_bytes_that_are_no_text_come_back_from_a_database_without_encoding(
    forked16, tmp_path
):
    server = forked16.server
    server.query(
        "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    )
    fork = (
        "CREATE TABLE raw (id serial PRIMARY KEY, b text); INSERT INTO raw (b) VALUES"
    )
    fork += " (E'\\xe4'), (E'\\xfc\\xe4'), ('d')"
    lost = [
        "INSERT INTO raw (b) VALUES (E'\\xff\\xfe \\xc3\\xa4 ''\\\\'), ('plain')",
        "UPDATE raw SET b = E'\\xf6' WHERE id = 1",
        "DELETE FROM raw WHERE id = 2",
    ]
    sides = forked16(fork, lost, [], template="raw")
    index = sides.write(tmp_path / "out", Format.SQL)
    assert sides.psql(tmp_path / "out" / index.scripts[0]).returncode == 0
    assert sorted(sides.read("winner")["public.raw"]) == sorted(
        sides.read("loser")["public.raw"]
    )
    assert sides.apply().tables["public.raw"] == {"already-there": 4}
    for form in (Format.CSV, Format.JSONL):
        sides.write(tmp_path / form.value, form)
    [file] = (tmp_path / "csv" / "winner").iterdir()
    assert b"\xff\xfe \xc3\xa4 '\\" in file.read_bytes()


def test_what_the_winner_lacks_is_named_with_what_to_do(forked16):
    lost = [
        "CREATE TABLE fresh (id int PRIMARY KEY)",
        "INSERT INTO fresh VALUES (1)",
        "ALTER TABLE pairs ADD COLUMN d varchar(3)",
        "INSERT INTO pairs VALUES (50, 'a', 'b', 1, 'd')",
        "INSERT INTO held VALUES (1, 1), (2, NULL)",
    ]
    sides = forked16(PAIRS, lost, [])
    result = sides.apply()
    assert sides.ask("SELECT * FROM held ORDER BY 1") == [(1, 1), (2, None)]
    assert result.tables["public.pairs"] == {"left-out": 1}
    with session(sides.dsn("winner")) as made:
        missing = lacking(made, sides.tables)
    reasons = {str(name): reason for name, reason in missing.items()}
    assert "no such table" in reasons["public.fresh"]
    assert (
        'ALTER TABLE "public"."pairs" ADD COLUMN "d" character varying(3)'
        in reasons["public.pairs"]
    )


def test_a_server_that_is_not_the_winner_is_refused(forked16, tmp_path):
    sides = forked16(FAMILY, LOST, WON)
    index = sides.write(tmp_path / "out", Format.SQL)
    script = tmp_path / "out" / index.scripts[0]
    wrong = sides.psql(script, database="loser")
    assert wrong.returncode == 3
    assert "another database" in wrong.stderr
    with session(sides.dsn("winner")) as made:
        check_server(made, sides.goal())
        for goal in (Target("123", "winner"), Target(sides.goal().system_id, "other")):
            with pytest.raises(DivergenceError):
                check_server(made, goal)
        refuse_loser(made, sides.tables, sides.held, 1)
    with (
        session(sides.dsn("loser")) as made,
        pytest.raises(DivergenceError, match="losing side"),
    ):
        refuse_loser(made, sides.tables, sides.held, 1)


def test_two_rescues_do_not_run_at_once_and_a_lock_is_not_waited_for(forked16):
    sides = forked16(PAIRS, PAIRS_LOST, PAIRS_WON)
    with session(sides.dsn("winner")) as made:
        made.execute(f"SELECT pg_advisory_lock({LOCK})".encode())
        with pytest.raises(DivergenceError, match="another rescue"):
            sides.apply()
    with session(sides.dsn("winner")) as holding, session(sides.dsn("winner")) as made:
        holding.execute("BEGIN; LOCK TABLE pairs")
        settle_writing(made)
        made.execute("SET lock_timeout = '50ms'")
        with pytest.raises(PostgresError, match="nothing was written") as refused:
            Applier(made, sides.plan(Wish())).run(commit=True)
        assert "holds a lock" in refused.value.hint


def test_a_row_whose_unique_value_is_taken_is_named_and_not_passed_over(forked16):
    fork = "CREATE TABLE t (id serial PRIMARY KEY, a text UNIQUE, b text UNIQUE)"
    lost = ["INSERT INTO t (a, b) VALUES ('a', 'b'), ('c', 'd'), ('e', 'f')"]
    won = ["INSERT INTO t (a, b) VALUES ('x', 'y')"]
    sides = forked16(fork, lost, won)
    # After the comparison: the values of one to renumber and of one that is not.
    sides.run("winner", "INSERT INTO t VALUES (11, 'a', 'z'), (12, 'z', 'd')")
    for tables in ({"refused": 2, "inserted": 1}, {"refused": 2, "already-there": 1}):
        result = sides.apply()
        assert result.tables["public.t"] == tables
        assert {one.key["id"] for one in result.refusals} == {"1", "2"}
        assert "unique" in result.refusals[0].message
    assert sides.ask("SELECT a FROM t ORDER BY 1") == [("a",), ("e",), ("x",), ("z",)]
