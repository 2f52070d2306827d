"""Before a rescue is applied the winner is compared anew, and has to be the winner."""

import pytest

from agent.core.lineage import Fork
from agent.divergence import losses
from agent.divergence.winner import Door
from agent.postgres.history import read_switches
from tests.capturing import capturing

pytestmark = pytest.mark.postgres

SCHEMA = """
CREATE TABLE customer (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customer);
INSERT INTO customer (name) VALUES ('old');
"""
LOST = """
INSERT INTO customer (name) VALUES ('ann'), ('bob');
INSERT INTO orders (customer) VALUES (2), (3);
"""
TAKEN = """
INSERT INTO customer VALUES (2, 'stranger');
SELECT setval('customer_id_seq', 100), setval('orders_id_seq', 100);
"""
WHOSE = "SELECT o.id, name FROM orders o JOIN customer c ON c.id = customer ORDER BY 1"


def test_what_collided_since_the_report_is_renumbered_with_its_children(
    stage16, splitguard
):
    loser, winner = stage16.pair()
    loser.query(SCHEMA)
    winner.caught_up(loser)
    winner.promote()
    loser.query(LOST)
    with capturing(stage16, loser) as capture:
        capture.finished_cold()
        fork = Fork(1, read_switches(winner.data_dir / "pg_wal", 2)[-1].lsn)
        task = losses.Task(capture.folder, fork, 0.0, stage16.folder, stage16.programs)
        losses.examine(task, Door("n2", winner.dsn))
        winner.query(TAKEN)
        order = ("loss", "rescue", capture.folder, "--reason", "split", "--yes")
        loser.start()
        other = splitguard(*order, "--apply", loser.dsn)
        assert other.code == 1
        assert "another history than the winner's" in " ".join(other.words.split())
        loser.stop()
        done = splitguard(*order, "--apply", winner.dsn)
        assert done.code == 0, done.words
        assert "compared anew" in done.words
        assert winner.query(WHOSE) == [(1, "ann"), (2, "bob")]
        assert winner.query("SELECT name FROM customer WHERE id = 2") == [("stranger",)]
        [(number,)] = winner.query("SELECT id FROM customer WHERE name = 'ann'")
        assert number > 100
