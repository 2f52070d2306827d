"""Opening scratch copies on private servers."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres import postmaster
from agent.postgres.connect import fetch_one, session
from agent.postgres.control import read_control
from agent.postgres.owner import give, owner_of
from agent.postgres.private import PrivateServer, prepare, stop_leftover
from agent.postgres.reader import DiskReader
from tests.fix_postgres import Server, Stage, copy_tree, eventually

pytestmark = pytest.mark.postgres


def count(server: PrivateServer, mark: str | None = None) -> int:
    with session(server.dsn_for("postgres")) as opened:
        if mark is None:
            return int(fetch_one(opened, "SELECT count(*) FROM kept")[0])
        row = fetch_one(opened, "SELECT count(*) FROM kept WHERE mark = %s", mark)
        return int(row[0])


def final_lsn(server: Server) -> Lsn:
    eventually("all is ended", lambda: not postmaster.orphans(server.data_dir))
    found = DiskReader(server.data_dir, server.programs.bin_dir).read()
    end = getattr(found, "end_lsn", None)
    assert end is not None, found
    return Lsn(end)


def test_a_cleanly_stopped_copy_opens_with_every_row(stage: Stage):
    primary = stage.primary()
    primary.write(100)
    primary.stop()
    end = final_lsn(primary)
    scratch = stage.scratch(primary)
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=1) as server:
        assert count(server) == 100
        assert server.recovered_lsn == end


def test_a_crashed_copy_recovers_to_its_end(stage: Stage):
    primary = stage.primary()
    primary.write(100)
    primary.crash()
    end = final_lsn(primary)
    scratch = stage.scratch(primary)
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=1) as server:
        assert count(server) == 100
        assert server.recovered_lsn == end


@pytest.mark.fact("over-a-switch", "recovery-signal")
def test_a_copy_that_spans_a_timeline_switch_recovers_to_its_end(stage: Stage):
    _, new = stage.split(rows=40)
    new.crash()
    end = final_lsn(new)
    scratch = stage.scratch(new)
    label = read_control(scratch)
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=2) as server:
        assert count(server, "new") == 40
        assert server.recovered_lsn == end
        after = read_control(scratch)
        assert after.timeline >= label.timeline
        with session(server.dsn) as opened:
            assert fetch_one(opened, "SELECT pg_is_in_recovery()") == (False,)


def test_a_copied_standby_opens_at_what_it_had_received(stage: Stage):
    primary, standby = stage.pair()
    primary.write(30)
    standby.caught_up(primary)
    standby.stop()
    end = final_lsn(standby)
    scratch = stage.scratch(standby)
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=1) as server:
        assert count(server) == 30
        assert server.recovered_lsn == end


@pytest.mark.fact("backup-label")
def test_a_hot_copy_opens_from_its_backup_label(stage: Stage):
    primary = stage.primary()
    primary.write(20)
    scratch = stage.folder / "scratch"
    with primary.session() as opened:
        opened.execute("SELECT pg_backup_start('hot', true)")
        copy_tree(primary.data_dir, scratch)
        primary.write(20)
        row = opened.execute("SELECT labelfile FROM pg_backup_stop(false)").fetchone()
        assert row is not None
    shutil.rmtree(scratch / "pg_wal")
    copy_tree(primary.data_dir / "pg_wal", scratch / "pg_wal")
    (scratch / "backup_label").write_text(row[0])
    give(scratch, owner_of(primary.data_dir))
    end = primary.lsn
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=1) as server:
        assert count(server) == 40
        assert server.recovered_lsn >= end


@pytest.mark.fact("auto-conf-wins")
def test_what_the_copy_was_told_to_do_is_not_done(stage: Stage):
    primary = stage.primary(wal_level="logical", max_prepared_transactions="3")
    witness = stage.folder / "archived"
    witness.mkdir()
    give(witness, owner_of(primary.data_dir))
    primary.write(5)
    primary.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    primary.query("SELECT pg_create_physical_replication_slot('p', true)")
    for name, value in (
        ("archive_mode", "on"),
        ("archive_command", f"touch {witness}/archived; false"),
        ("restore_command", f"touch {witness}/restored; false"),
        ("listen_addresses", "*"),
        ("shared_preload_libraries", "no_such_library"),
        ("primary_conninfo", "host=127.0.0.1 port=1"),
        ("synchronous_standby_names", "*"),
        ("max_connections", "5"),
    ):
        primary.query(f"ALTER SYSTEM SET {name} = '{value}'")
    primary.crash()
    scratch = stage.scratch(primary)
    prepare(scratch)
    with PrivateServer(scratch, stage.programs, tip_timeline=1) as server:
        assert count(server) == 5
        assert not list((scratch / "pg_replslot").iterdir())
        with session(server.dsn) as opened:
            assert fetch_one(opened, "SHOW listen_addresses") == ("",)
            opened.execute("CHECKPOINT")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                opened.execute("CREATE TABLE written (id int)")
        listening = subprocess.run(
            ["grep", "-h", "", f"/proc/{server.pid}/net/tcp"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert f"{5432:04X} 00000000:0000 0A" not in listening
    assert not list(witness.iterdir())


def test_its_folder_and_socket_are_gone_after_it_stopped(stage16: Stage):
    primary = stage16.primary()
    primary.stop()
    scratch = stage16.scratch(primary)
    prepare(scratch)
    server = PrivateServer(scratch, stage16.programs)
    with server:
        with session(server.dsn) as opened:
            (run_dir,) = fetch_one(opened, "SHOW unix_socket_directories")
        found = Path(run_dir)
        assert found.stat().st_mode & 0o777 == 0o700
    assert not found.exists()
    assert postmaster.running(scratch) is None
    server.stop()


def test_a_cluster_without_a_role_postgres_is_opened_too(stage16: Stage):
    primary = stage16.primary()
    primary.write(3)
    primary.query("CREATE ROLE helper SUPERUSER LOGIN")
    renamed = psycopg.connect(primary.dsn, user="helper", autocommit=True)
    renamed.execute('ALTER ROLE postgres RENAME TO "Some Body\'s"')
    renamed.close()
    primary.stop()
    scratch = stage16.scratch(primary)
    prepare(scratch)
    with PrivateServer(scratch, stage16.programs) as server:
        assert count(server) == 3


@pytest.mark.fact("shared-inode")
def test_a_pin_is_refused_because_opening_would_change_the_original(stage16: Stage):
    primary = stage16.primary()
    primary.stop()
    farm = stage16.folder / "farm"
    subprocess.run(["cp", "-al", primary.data_dir, farm], check=True)
    with pytest.raises(PostgresError, match="hard links"):
        prepare(farm)


def test_a_tablespace_is_pointed_at_its_copy_or_refused(stage16: Stage):
    primary = stage16.primary()
    space = stage16.folder / "space"
    space.mkdir()
    give(space, owner_of(primary.data_dir))
    primary.query(f"CREATE TABLESPACE away LOCATION '{space}'")
    primary.query("CREATE TABLE kept TABLESPACE away AS SELECT 1 AS id")
    oid = primary.value("SELECT oid FROM pg_tablespace WHERE spcname = 'away'")
    primary.stop()
    scratch = stage16.scratch(primary)
    with pytest.raises(PostgresError, match="leads outside"):
        prepare(scratch)
    copy = stage16.folder / "space-copy"
    copy_tree(space, copy)
    prepare(scratch, tablespaces={oid: copy})
    with PrivateServer(scratch, stage16.programs) as server:
        assert count(server) == 1


def test_wal_that_creates_a_tablespace_is_not_replayed_over_the_original(
    stage: Stage,
):
    primary = stage.primary()
    space = stage.folder / "space"
    space.mkdir()
    give(space, owner_of(primary.data_dir))
    primary.query(f"CREATE TABLESPACE away LOCATION '{space}'")
    primary.query("CREATE TABLE kept TABLESPACE away AS SELECT 1 AS id")
    oid = primary.value("SELECT oid FROM pg_tablespace WHERE spcname = 'away'")
    primary.crash()
    eventually("all is ended", lambda: not postmaster.orphans(primary.data_dir))
    scratch = stage.scratch(primary)
    copy = stage.folder / "space-copy"
    copy_tree(space, copy)
    prepare(scratch, tablespaces={oid: copy})
    before = sorted(space.rglob("*"))
    with pytest.raises(PostgresError, match="creates a tablespace"):
        PrivateServer(scratch, stage.programs).start()
    assert sorted(space.rglob("*")) == before
    primary.start()
    assert primary.rows() == 1


def test_a_damaged_copy_fails_with_the_last_lines_of_its_log(stage: Stage):
    primary = stage.primary()
    primary.write(5)
    primary.crash()
    eventually("all is ended", lambda: not postmaster.orphans(primary.data_dir))
    scratch = stage.scratch(primary)
    for segment in (scratch / "pg_wal").glob("0*"):
        segment.unlink()
    prepare(scratch)
    server = PrivateServer(scratch, stage.programs)
    with pytest.raises(PostgresError, match="checkpoint record"):
        server.start()
    assert postmaster.running(scratch) is None


def test_a_server_that_a_killed_agent_left_is_stopped(stage16: Stage):
    primary = stage16.primary()
    primary.stop()
    scratch = stage16.scratch(primary)
    prepare(scratch)
    server = PrivateServer(scratch, stage16.programs)
    server.start()
    with pytest.raises(PostgresError, match="a server runs on"):
        prepare(scratch)
    assert stop_leftover(scratch)
    assert not stop_leftover(scratch)
    server.stop()


def test_a_copy_that_belongs_to_root_is_given_to_somebody_else(stage16: Stage):
    primary = stage16.primary()
    primary.write(2)
    primary.stop()
    scratch = stage16.scratch(primary)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "0:0", scratch], check=True)
    prepare(scratch)
    with PrivateServer(scratch, stage16.programs) as server:
        assert count(server) == 2
    assert owner_of(scratch).uid != 0
