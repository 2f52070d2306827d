"""`splitguard loss report` on real servers that parted: a shop and a manager."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.api.models_loss import LossReport
from agent.cli.grants import SQL
from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.divergence import compared, shelf
from agent.divergence import report as reports
from tests.capturing import capturing
from tests.fix_postgres import Server, Stage, stage_of

pytestmark = pytest.mark.postgres

SHOP = """
CREATE TABLE orders (id serial PRIMARY KEY, status text, card_token text);
CREATE TABLE notes (said text);
INSERT INTO orders (status, card_token)
  SELECT 'open', 'tok-common' FROM generate_series(1, 9);
CREATE DATABASE cloudify_db;
"""
MANAGER = """
CREATE TABLE tenants (id serial PRIMARY KEY, name text UNIQUE,
  rabbitmq_username text, rabbitmq_password text);
CREATE TABLE deployments (_storage_id serial PRIMARY KEY, id text,
  _tenant_id int REFERENCES tenants, created_at timestamp, installation_status text,
  UNIQUE (id, _tenant_id));
CREATE TABLE users (id serial PRIMARY KEY, username text UNIQUE, password text,
  api_token_key text, last_login_at timestamp);
CREATE TABLE audit_log (_storage_id serial PRIMARY KEY, ref_table text, ref_id int,
  operation text, creator_name text, execution_id text, created_at timestamp);
INSERT INTO tenants (name) VALUES ('default_tenant');
INSERT INTO deployments (id, _tenant_id) VALUES ('old', 1);
INSERT INTO users (username, password) VALUES ('admin', 'hash');
"""
LOSER = """
INSERT INTO orders (status, card_token)
  VALUES ('paid', 'tok-lost'), ('paid', 'tok-two');
UPDATE orders SET status = 'paid' WHERE id = 1;
UPDATE orders SET status = 'paid' WHERE id = 2;
DELETE FROM orders WHERE id = 3;
INSERT INTO notes VALUES ('remember');
CREATE TABLE made_here (id int);
CREATE ROLE night_shift;
"""
LOST_THINGS = """
INSERT INTO tenants (name) VALUES ('ours');
INSERT INTO deployments (id, _tenant_id, created_at)
  VALUES ('edge', 1, '2026-11-23 16:53:20'), ('edge', 2, '2026-11-23 16:53:30');
INSERT INTO users (username, password) VALUES ('night', 'secret-hash');
UPDATE users SET last_login_at = now() WHERE username = 'admin';
INSERT INTO audit_log (ref_table, ref_id, operation, creator_name, created_at)
  VALUES ('deployments', 2, 'create', 'mira', '2026-11-23 16:53:20');
"""
WINNER = """
INSERT INTO orders VALUES (10, 'other', 'tok-theirs');
UPDATE orders SET status = 'cancelled' WHERE id = 2;
"""
THEIR_THINGS = """
INSERT INTO tenants (id, name) VALUES (2, 'theirs');
INSERT INTO deployments (_storage_id, id, _tenant_id) VALUES (2, 'core', 2);
"""


def run(server: Server, script: str, dbname: str = "postgres") -> None:
    with server.session(dbname) as session:
        for statement in script.strip().rstrip(";").split(";\n"):
            session.execute(statement.encode())


@dataclass
class Lost:
    """A captured loser, the winner, and a snapshot of that."""

    folder: Path
    winner: Server
    winners_folder: Path
    stage: Stage
    config: Path

    @property
    def bin_dir(self) -> Path:
        return self.stage.programs.bin_dir


@pytest.fixture(scope="module")
def lost(postgres_home: Path) -> Iterator[Lost]:
    with stage_of("16", postgres_home) as stage:
        loser, winner = stage.pair()
        run(loser, SHOP)
        run(loser, MANAGER, "cloudify_db")
        script = SQL.replace("\\set ON_ERROR_STOP on", "")
        with loser.session() as session:
            session.execute(script.encode())
        winner.caught_up(loser)
        winner.promote()
        run(loser, LOSER)
        run(loser, LOST_THINGS, "cloudify_db")
        run(winner, WINNER)
        run(winner, THEIR_THINGS, "cloudify_db")
        with (
            capturing(stage, loser, folder=stage.folder / "ours") as capture,
            capturing(stage, winner, folder=stage.folder / "theirs") as other,
        ):
            capture.finished_cold()
            other.finished_cold()
            winner.start()
            yield Lost(
                capture.folder, winner, other.folder, stage, configured(stage, winner)
            )


def configured(stage: Stage, winner: Server) -> Path:
    """A configuration in which n2 is the winner and n1 is down."""
    config = stage.folder / "agent.toml"
    down = f"host={stage.folder / 'nowhere'} user=splitguard_probe dbname=postgres"
    probe = winner.dsn.replace("user=postgres", "user=splitguard_probe")
    config.write_text(
        'cluster = "test"\nnode = "n1"\n'
        f'state_dir = "{stage.folder}/state"\nsocket = "{stage.folder}/none.sock"\n'
        f'[[nodes]]\nname = "n1"\npostgres = "{down}"\n'
        f'[[nodes]]\nname = "n2"\npostgres = "{probe}"\n'
    )
    return config


def report(splitguard, lost: Lost, *more: object) -> dict:
    ran = splitguard(
        "loss", "report", lost.folder, "--bin-dir", lost.bin_dir, "-o", "json", *more
    )
    assert (ran.code, ran.words) == (0, "")
    found = json.loads(ran.out)
    LossReport.model_validate(found)
    return dict(found)


def test_rows_things_and_objects_are_told(splitguard, lost: Lost):
    found = report(splitguard, lost, "--against", lost.winner.dsn)
    assert found["headline"].startswith(
        "2 deployments, 1 user, 1 tenant; in other databases 2 rows in 2 tables lost,"
        " 1 changed, 1 deleted, 1 conflict, 1 collision; "
    )
    things = {(e["kind"], e["tenant"], e["id"], e["who"])
              for e in found["managers"][0]["entities"]}  # fmt: skip
    assert things == {
        ("deployment", "default_tenant", "edge", "mira"),
        ("deployment", "ours", "edge", None),
        ("user", None, "night", None),
        ("tenant", None, "ours", None),
    }
    named = {(each["kind"], each["name"], each["what"]) for each in found["objects"]}
    assert {
        ("table", "public.made_here", "created by the losing side"),
        ("role", "night_shift", "created by the losing side"),
    } <= named
    assert "public.audit_log__storage_id_seq" in {name for _, name, _ in named}
    assert found["loser"]["user"] == found["loser"]["committed"] > 5
    assert found["made"] >= found["winner"]["at"]
    step = found.pop("next_step")
    assert "user=" not in json.dumps(found), "no connection string is passed on"
    assert '--apply "' in step
    assert 'user=postgres" --reason' in step


def test_no_secret_is_shown_in_any_form(splitguard, lost: Lost, tmp_path: Path):
    arguments = (
        "loss", "report", lost.folder, "--bin-dir", lost.bin_dir,
        "--against", lost.winner.dsn, "--html", tmp_path / "page.html",
    )  # fmt: skip
    ran = splitguard(*arguments)
    assert ran.code == 0
    shown = ran.out + ran.words + (tmp_path / "page.html").read_text()
    assert "tok-" not in shown
    assert "secret-hash" not in shown
    assert "sha256:" in shown
    assert "paid on n1, cancelled on " in ran.out
    assert (tmp_path / "page.html").stat().st_mode & 0o077 == 0
    assert "the page is in" in ran.words
    bare = splitguard(*arguments, "--output", "jsonl", "--top", "0")
    tables = [json.loads(line) for line in bare.out.splitlines()]
    assert "orders" in [each["table"] for each in tables]
    assert not any(each["samples"] for each in tables)


def test_a_snapshot_of_the_winner_will_do(splitguard, lost: Lost):
    ran = splitguard(
        "loss", "report", lost.folder, "--bin-dir", lost.bin_dir,
        "--against", lost.winners_folder, "-o", "json",
    )  # fmt: skip
    assert ran.code == 0
    found = json.loads(ran.out)
    assert found["winner"]["name"] == lost.winners_folder.name
    assert found["totals"]["conflicts"] == 1
    kept = compared.load(shelf.folder_of(lost.folder))
    assert kept is not None
    assert kept.against.by_log, "its own log told what it did"
    assert found["winner"]["committed"] == 4


def test_the_role_that_only_reads_is_enough_once_the_fork_is_known(
    splitguard, lost: Lost
):
    kept = shelf.folder_of(lost.folder)
    assert shelf.read_extraction(kept) is not None, "read by an earlier test"
    for more in (("--against", "n2"), ()):
        ran = splitguard(
            "loss", "report", lost.folder, "--config", lost.config,
            "--bin-dir", lost.bin_dir, "-o", "json", *more,
        )  # fmt: skip
        assert ran.code == 0
        found = json.loads(ran.out)
        assert found["winner"]["name"] == "n2"
        assert found["not_compared"] == []
        assert found["totals"]["collisions"] >= 1


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("host=/nowhere dbname=postgres user=x", "cannot connect"),
        ("host=127.0.0.1 port=1 user=x", "cannot connect to 127.0.0.1:1: "),
        ("host=/nowhere user=x password=hunter2", "process list"),
        ("host", "there is no snapshot host"),
        ("user='x", "--against"),
    ],
)
def test_what_cannot_be_compared_with_is_refused_with_what_to_do(
    splitguard, lost: Lost, against, said
):
    ran = splitguard(
        "loss", "report", lost.folder, "--bin-dir", lost.bin_dir, "--against", against,
        "--dir", lost.folder.parent,
    )  # fmt: skip
    assert ran.code == 1
    assert ran.out == ""
    assert "hunter2" not in ran.words
    assert said in ran.words


def test_a_snapshot_that_lost_nothing_is_no_losing_side(splitguard, lost: Lost):
    ran = splitguard(
        "loss", "report", lost.winners_folder, "--bin-dir", lost.bin_dir,
        "--against", lost.winner.dsn,
    )  # fmt: skip
    assert ran.code == 1
    assert "is no losing side to" in ran.words
    assert "snapshots list" in ran.words


def test_without_a_fork_the_role_that_only_reads_is_told_what_is_missing(
    splitguard, lost: Lost
):
    reader = lost.winner.dsn.replace("user=postgres", "user=splitguard_loss")
    ran = splitguard(
        "loss", "report", lost.winners_folder, "--bin-dir", lost.bin_dir,
        "--against", reader,
    )  # fmt: skip
    assert ran.code == 1
    assert "may not read the history" in ran.words


def test_what_a_person_let_pass_stays_in_the_report(splitguard, lost: Lost):
    report(splitguard, lost, "--against", lost.winner.dsn)
    folder = shelf.folder_of(lost.folder)
    made = reports.load(folder)
    assert made is not None
    released = reports.Released("n1", "mira", "the shop must open", 1e9, made.end_lsn)
    reports.save(replace(made, released=(released,)), folder)
    found = report(splitguard, lost, "--against", lost.winner.dsn)
    assert [each["who"] for each in found["released"]] == ["mira"]
    ran = splitguard("loss", "report", lost.folder, "--bin-dir", lost.bin_dir,
                     "--against", lost.winner.dsn)  # fmt: skip
    assert "by mira at 2001-09-09T01:46:40Z: the shop must open; not prot" in ran.out


def test_a_winner_that_is_down_leaves_what_was_compared_before(
    splitguard, lost: Lost, tmp_path: Path
):
    report(splitguard, lost, "--against", lost.winner.dsn)
    text = lost.config.read_text().replace(str(lost.winner.socket_dir), "/nowhere")
    config = tmp_path / "agent.toml"
    config.write_text(text)
    ran = splitguard("loss", "report", lost.folder, "--config", config,
                     "--bin-dir", lost.bin_dir, "-o", "json")  # fmt: skip
    assert ran.code == 0
    assert "n2 cannot be asked" in ran.words
    assert "the report that was made before" in ran.words
    assert json.loads(ran.out)["totals"]["conflicts"] == 1


def test_the_fork_is_where_the_promotion_was(splitguard, lost: Lost):
    found = report(splitguard, lost, "--against", lost.winner.dsn)
    fork = Fork(found["fork"]["timeline"], Lsn.parse(found["fork"]["lsn"]))
    assert fork.timeline == 1
    assert fork.lsn < Lsn.parse(found["end_lsn"])
