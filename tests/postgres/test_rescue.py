"""Rows of a losing side go into a winner, once, and never over what is newer there."""

import pytest

from agent.divergence.rescue_wish import Format

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
    assert ("public.Kunden", "id", "2", "3", "same") in result.mapping
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
    assert sides.apply().mapping  # the other way knows what this one did
    assert sides.ask(STORY) == TOLD
