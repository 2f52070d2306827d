"""Rows that refer to what is put in are never hung on a stranger with its key."""

import pytest

from agent.divergence.rescue_apply import NOT_THERE, UNBOUND
from agent.divergence.rescue_wish import Format, Wish

pytestmark = pytest.mark.postgres

FORK = """
CREATE TABLE customer (id serial PRIMARY KEY, name text, code text UNIQUE);
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customer, n int);
CREATE TABLE keyless (customer int REFERENCES customer);
CREATE TABLE staff (id int PRIMARY KEY, boss int REFERENCES staff, name text);
CREATE TABLE one (id int PRIMARY KEY, two int NOT NULL);
CREATE TABLE two (id int PRIMARY KEY, one int NOT NULL REFERENCES one, name text);
ALTER TABLE one ADD FOREIGN KEY (two) REFERENCES two DEFERRABLE;
INSERT INTO customer (name) VALUES ('old');
INSERT INTO orders (customer, n) VALUES (1, 1);
"""
LOST = [
    "INSERT INTO customer (name) SELECT 'lost ' || n FROM generate_series(2, 5) n",
    "INSERT INTO orders (customer, n) SELECT n, n FROM generate_series(2, 5) n",
    "INSERT INTO keyless SELECT n FROM generate_series(2, 5) n",
    "UPDATE orders SET customer = 2 WHERE id = 1",
    "INSERT INTO staff VALUES (1, 2, 'a'), (2, 1, 'b'), (3, NULL, 'c'), (4, 3, 'd')",
    (
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO one VALUES (1, 2), (5, 6);"
        " INSERT INTO two VALUES (2, 1, 'x'), (6, 5, 'y'); COMMIT"
    ),
]
SINCE = [
    "INSERT INTO customer VALUES (2, 'stranger'), (3, 'stranger')",
    "INSERT INTO staff VALUES (3, NULL, 'stranger')",
    "INSERT INTO one VALUES (7, 7); INSERT INTO two VALUES (7, 7, 'z'), (2, 7, 's')",
]
HANGING = (
    "SELECT o.n, c.name FROM orders o LEFT JOIN customer c ON c.id = o.customer"
    " ORDER BY 1"
)
HUNG = [(1, "old"), (4, "lost 4"), (5, "lost 5")]


def taken(sides) -> None:
    sides.run("winner", "ALTER TABLE one ALTER CONSTRAINT one_two_fkey DEFERRABLE"
              " INITIALLY DEFERRED")  # fmt: skip
    for each in SINCE[:2]:
        sides.run("winner", each)
    with sides.server.session("winner") as made, made.transaction():
        made.execute(SINCE[2].encode())


def looked_at(sides) -> None:
    assert sides.ask(HANGING) == HUNG
    assert sides.ask("SELECT customer FROM keyless ORDER BY 1") == [(4,), (5,)]
    staff = "SELECT id, boss, name FROM staff ORDER BY id"
    assert sides.ask(staff) == [(1, 2, "a"), (2, 1, "b"), (3, None, "stranger")]
    assert sides.ask("SELECT id, two FROM one ORDER BY id") == [(5, 6), (7, 7)]


def test_rows_stay_out_whose_parents_key_the_winner_took_since(forked16, tmp_path):
    sides = forked16(FORK, LOST, [])
    index = sides.write(tmp_path / "out", Format.SQL)
    taken(sides)
    tried = sides.apply(commit=False)
    ran = sides.psql(tmp_path / "out" / index.scripts[0])
    assert (ran.returncode, ran.stderr) == (0, "")
    looked_at(sides)
    result = sides.apply()
    looked_at(sides)
    assert tried.tables["public.customer"] == {"inserted": 2, "changed-there": 2}
    assert result.tables["public.customer"] == {
        "already-there": 2, "changed-there": 2
    }  # fmt: skip
    assert tried.tables["public.orders"] == {"inserted": 2, "left-out": 3}
    assert tried.tables["public.keyless"] == {"inserted": 2, "left-out": 2}
    kinds = {(one.table, one.key.get("id")): one.reason for one in tried.left_out}
    assert kinds["public.orders", "1"] == NOT_THERE
    assert kinds["public.orders", "2"] == NOT_THERE
    assert "another row under its key" in kinds["public.customer", "2"]
    assert kinds["public.one", "1"] == NOT_THERE
    assert not any(one.chosen for one in tried.left_out)
    assert tried.outstanding == len(tried.left_out)


def test_applying_alone_does_the_same_and_a_parent_may_be_there_before(forked16):
    sides = forked16(FORK, LOST, [])
    taken(sides)
    sides.apply(Wish(("customer", "staff", "one", "two")))
    assert sides.ask(HANGING) == [(1, "old")]
    # An application goes on with one that was put in: nobody knows it for ours now.
    sides.run("winner", "UPDATE customer SET name = 'edited' WHERE id = 5")
    result = sides.apply(Wish(("orders", "keyless")))
    assert sides.ask(HANGING) == HUNG[:2]
    assert result.tables["public.orders"] == {"inserted": 1, "left-out": 4}
    again = sides.apply(Wish(("orders",)))
    assert again.tables["public.orders"] == {"already-there": 1, "left-out": 4}


HENS = """
CREATE TABLE hens (id int PRIMARY KEY, egg int, name text);
CREATE TABLE eggs (id int PRIMARY KEY, hen int REFERENCES hens, name text);
ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs;
"""
LAID = [
    "INSERT INTO eggs VALUES (1, NULL, 'e')",
    "INSERT INTO hens VALUES (1, 1, 'h')",
    "UPDATE eggs SET hen = 1",
]


@pytest.mark.parametrize("stranger", ["eggs", "hens"])
def test_a_reference_that_cannot_be_set_is_listed(forked16, stranger):
    sides = forked16(HENS, LAID, [])
    sides.run("winner", f"INSERT INTO {stranger} VALUES (1, NULL, 'stranger')")
    result = sides.apply()
    strange = (1, None, "stranger")
    assert sides.ask(f"SELECT * FROM {stranger}") == [strange]
    other = {"eggs": [], "hens": [(1, None, "e")]}
    mate = {"eggs": "hens", "hens": "eggs"}[stranger]
    assert sides.ask(f"SELECT * FROM {mate}") == other[stranger]
    assert {one.reason for one in result.left_out} & {UNBOUND, NOT_THERE}
    assert result.outstanding >= 2
