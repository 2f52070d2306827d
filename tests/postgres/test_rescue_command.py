"""`splitguard loss rescue` from a real snapshot of a losing side into its winner."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.core.lineage import Fork
from agent.divergence import losses, shelf
from agent.divergence.winner import Door
from agent.postgres.history import read_switches
from tests.capturing import capturing
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres

SCHEMA = """
CREATE TABLE users (id serial PRIMARY KEY, name text UNIQUE, secret text);
CREATE TABLE jobs (
    id serial PRIMARY KEY, owner int NOT NULL REFERENCES users, what text);
CREATE TABLE visits (who int REFERENCES users, what text);
INSERT INTO users (name) VALUES ('root');
INSERT INTO jobs (owner, what) SELECT 1, 'job ' || n FROM generate_series(1, 6) n;
"""
LOST = """
INSERT INTO users (name, secret) VALUES ('ann', 'hidden'), ('bob', NULL);
INSERT INTO jobs (owner, what) VALUES (2, 'ann''s'), (3, 'bob''s');
INSERT INTO visits VALUES (2, 'first'), (2, 'first'), (1, 'second');
UPDATE jobs SET what = 'changed' WHERE id IN (1, 2);
DELETE FROM jobs WHERE id IN (3, 4);
"""
# A promoted standby's sequences jump; here they did not, so that keys collide.
WON = """
SELECT setval('users_id_seq', 1), setval('jobs_id_seq', 6);
INSERT INTO users (name) VALUES ('eve');
INSERT INTO jobs (owner, what) VALUES (2, 'eve''s');
UPDATE jobs SET what = 'won' WHERE id IN (2, 4);
"""
JOBS = [
    ("ann", "ann's"), ("bob", "bob's"), ("eve", "eve's"), ("root", "changed"),
    ("root", "job 5"), ("root", "job 6"), ("root", "won"), ("root", "won"),
]  # fmt: skip
ASK_JOBS = "SELECT name, what FROM jobs JOIN users u ON u.id = owner ORDER BY 1, 2"
VISITS = [("ann", "first"), ("ann", "first"), ("root", "second")]
ASK_VISITS = "SELECT name, what FROM visits JOIN users u ON u.id = who ORDER BY 1, 2"


@dataclass
class Split:
    """A losing side that was captured and compared, and the winner."""

    winner: Server
    folder: Path

    @property
    def loss(self) -> Path:
        return shelf.folder_of(self.folder)


@contextlib.contextmanager
def split_on(stage: Stage) -> Iterator[Split]:
    loser, winner = stage.pair()
    loser.query(SCHEMA)
    winner.caught_up(loser)
    winner.promote()
    loser.query(LOST)
    winner.query(WON)
    with capturing(stage, loser) as capture:
        capture.finished_cold()
        wal = winner.data_dir / "pg_wal"
        fork = Fork(1, read_switches(wal, 2)[-1].lsn)
        task = losses.Task(capture.folder, fork, 0.0, stage.folder, stage.programs)
        told = losses.story_from(stage.programs, wal, fork.lsn, 16 << 20)
        losses.examine(task, Door("n2", winner.dsn, story_of=told))
        yield Split(winner, capture.folder)


@pytest.fixture
def split(stage: Stage) -> Iterator[Split]:
    with split_on(stage) as made:
        yield made


@pytest.fixture
def split16(stage16: Stage) -> Iterator[Split]:
    with split_on(stage16) as made:
        yield made


def test_a_losing_side_comes_back_by_one_command(splitguard, split, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "erin")
    order = ("loss", "rescue", split.folder, "--apply", split.winner.dsn)
    bare = splitguard(*order)
    assert (bare.code, "needs a reason" in bare.words) == (2, True)
    tried = splitguard(*order, "--reason", "split of last night")
    assert tried.code == 1
    assert "dry run, rolled back" in tried.out
    assert "give --yes" in tried.words
    assert split.winner.query(ASK_VISITS) == []
    assert not (split.loss / "rescues.jsonl").exists()
    meant = (*order, "--reason", "split of last night", "--yes", "-o", "json")
    done = splitguard(*meant)
    assert done.code == 0, done.words
    assert split.winner.query(ASK_JOBS) == JOBS
    assert split.winner.query(ASK_VISITS) == VISITS
    [database] = json.loads(done.out)["databases"]
    assert database["committed"]
    assert database["tables"]["public.jobs"] == {
        "renumbered": 1, "inserted": 1, "updated": 1, "deleted": 1, "left-out": 2
    }  # fmt: skip
    assert database["left_out"] == {"both sides changed it": 2}
    begun, ended = map(
        json.loads, (split.loss / "rescues.jsonl").read_text().splitlines()
    )
    assert (begun["phase"], ended["phase"]) == ("begun", "done")
    assert ended["who"].startswith("erin")
    assert ended["reason"] == "split of last night"
    assert "dbname" not in ended["server"]
    renumbered = (Path(database["details"]) / "renumbered.csv").read_text()
    assert renumbered.splitlines()[0] == "table,column,old,new,how"
    # 2 is eve's and 3 was bob's; two dry runs have used up a number each.
    assert "public.users,id,2,6,renumbered" in renumbered.splitlines()
    again = splitguard(*meant)
    assert (again.code, split.winner.query(ASK_JOBS)) == (0, JOBS)
    assert split.winner.query(ASK_VISITS) == VISITS
    assert "nothing to put into the winner" in again.words


def test_a_losing_side_is_written_as_files_for_nobody_else(
    splitguard, split16, tmp_path
):
    to = tmp_path / "out"
    wrote = splitguard("loss", "rescue", split16.folder, "--to", to)
    assert wrote.code == 0, wrote.words
    assert "psql -X -d DATABASE -f postgres/rescue.sql" in wrote.words
    index = json.loads((to / "index.json").read_text())
    tables = [entry["table"] for entry in index["files"]]
    assert tables[0] == "public.users"
    for path in (to, *to.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    again = splitguard("loss", "rescue", split16.folder, "--to", to)
    assert (again.code, "is there already" in again.words) == (1, True)
    rows = tmp_path / "rows"
    wrote = splitguard(
        "loss", "rescue", split16.folder, "--to", rows, "--format", "jsonl",
        "--tables", "users", "-o", "json",
    )  # fmt: skip
    [file] = json.loads(wrote.out)["files"]
    lines = [
        json.loads(line) for line in (rows / file["file"]).read_text().splitlines()
    ]
    assert {line["loser"]["name"] for line in lines} == {"ann", "bob"}
    assert lines[0]["loser"]["secret"] == "hidden"
    assert splitguard(
        "loss", "rescue", split16.folder, "--to", tmp_path / "x", "--collisions", "fail"
    ).code == 1  # fmt: skip
    assert not (tmp_path / "x").exists()


def test_rows_that_are_not_put_in_are_listed_and_make_exit_code_1(splitguard, split16):
    order = ("loss", "rescue", split16.folder, "--apply", split16.winner.dsn,
             "--reason", "split", "--yes")  # fmt: skip
    typo = splitguard("loss", "rescue", split16.folder, "--tables", "typo")
    said = " ".join(typo.words.split())
    assert (typo.code, "no table matches typo" in said) == (2, True)
    assert "public.users" in said
    # Somebody goes on working on the winner after the comparison.
    split16.winner.query("UPDATE jobs SET what = 'newer' WHERE id = 1")
    done = splitguard(*order)
    again = splitguard(*order, "-o", "json")
    assert "left out public.jobs (id = 1)" in done.words
    # The report rests on the winner's log, which nobody tells here.
    assert "the comparison is 0 h 0 min old" in done.words
    for ran in (done, again):
        assert ran.code == 1, ran.words
        [place] = [line.partition("left out: ")[2] for line in ran.words.splitlines()
                   if "left out: /" in line]  # fmt: skip
        lines = (Path(place) / "left_out.jsonl").read_text().splitlines()
        listed = {(one["table"], one["key"].get("id")): one["chosen"]
                  for one in map(json.loads, lines)}  # fmt: skip
        assert listed["public.jobs", "2"] is True
        assert listed["public.jobs", "1"] is False
    assert "nothing to put into the winner" in again.words


def test_a_role_that_may_not_write_is_told_what_it_needs(splitguard, split16):
    split16.winner.query("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader")
    split16.winner.query("ALTER ROLE reader SET default_transaction_read_only = on")
    dsn = split16.winner.dsn.replace("user=postgres", "user=reader")
    ran = splitguard("loss", "rescue", split16.folder, "--apply", dsn, "--reason", "y")
    assert ran.code == 1
    assert "owns the tables, or a superuser" in " ".join(ran.words.split())


def test_what_cannot_be_rescued_says_why(splitguard, split16, tmp_path):
    order = ("loss", "rescue", split16.folder)
    dsn = split16.winner.dsn
    for options, why in (
        (("--apply", dsn + " password=x", "--reason", "y"), "process list"),
        (("--apply", dsn, "--to", tmp_path / "x", "--reason", "y"), "for files"),
        (("--reason", "y"), "goes with --apply"),
    ):
        ran = splitguard(*order, *options)
        assert ran.code == 2
        assert why in " ".join(ran.words.split())
    nobody = splitguard(*order, "--apply", "host=/nowhere", "--reason", "y")
    assert (nobody.code, "cannot connect to database" in nobody.words) == (1, True)
    other = splitguard(*order, "-d", "other", "--to", tmp_path / "x")
    assert "wrote nothing into a database other" in other.words
    for file in (split16.loss / "differences").iterdir():
        os.truncate(file, 10)
    torn = splitguard(*order, "--to", tmp_path / "x")
    assert torn.code == 1
    assert "was changed" in torn.words or "cut off" in torn.words
    (split16.loss / "comparison.json").unlink()
    early = splitguard(*order, "--to", tmp_path / "x")
    assert "was not compared" in early.words
    assert "splitguard loss report" in early.words
