"""What a capture does to the server that it copies: nothing that others would notice.

A streaming receiver can acknowledge commits for a dead standby, hold up a shutdown and
take the last walsender, and a backup writes WAL. So there is no receiver, and what
writes WAL waits until it is called for. Each test shows the danger beside our manner.
"""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agent.core.capture import Level
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.postgres import postmaster
from agent.postgres.private import PrivateServer, prepare
from agent.postgres.reader import DiskReader
from tests.capturing import Client, Gate, capturing
from tests.fix_postgres import Server, Stage, eventually, stage_of

pytestmark = pytest.mark.postgres

SEGMENT = 16 * 1024 * 1024
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
NEXT_ID = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
RECEIVERS = (
    "SELECT (SELECT count(*) FROM pg_replication_slots), count(*) "
    "FROM pg_stat_activity WHERE backend_type = 'walsender'"
)


@pytest.fixture
def stage15(postgres_home: Path) -> Iterator[Stage]:
    """Debian's server, which comes with all its clients."""
    with stage_of("15", postgres_home) as made:
        yield made


@contextlib.contextmanager
def commit_that_waits(primary: Server) -> Iterator[threading.Thread]:
    """A commit that waits for a synchronous standby, and there is none."""
    primary.write(1)
    primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.query("SELECT pg_reload_conf()")

    def commit() -> None:
        with contextlib.suppress(psycopg.Error):
            primary.write(1, "waits")

    thread = threading.Thread(target=commit, daemon=True)
    thread.start()
    try:
        eventually("it waits", lambda: primary.value(BLOCKED) == 1)
        yield thread
    finally:
        primary.query("ALTER SYSTEM RESET synchronous_standby_names")
        primary.query("SELECT pg_reload_conf()")
        thread.join(20)


@pytest.mark.fact("receiver-with-slot")
def test_a_capture_acknowledges_no_commit_for_a_dead_standby(stage15: Stage):
    primary = stage15.primary()
    with commit_that_waits(primary) as commit:
        with capturing(stage15, primary) as capture:
            capture.order()
            capture.until_complete()
            capture.until_kept(primary.lsn)
            assert primary.query(RECEIVERS) == [(0, 0)]
        assert primary.value(BLOCKED) == 1
        assert commit.is_alive()

        target = stage15.folder / "received"
        target.mkdir()
        with subprocess.Popen(
            [primary.programs.bin_dir / "pg_receivewal", "-D", target, "--slot=s",
             "-d", primary.dsn, "--create-slot", "--if-not-exists"],
        ) as made:  # fmt: skip
            made.wait(20)
        with subprocess.Popen(
            [primary.programs.bin_dir / "pg_receivewal", "-D", target, "--slot=s",
             "-d", primary.dsn, "--synchronous", "--status-interval=1"],
            stderr=subprocess.DEVNULL,
        ) as receiver:  # fmt: skip
            commit.join(20)
            receiver.terminate()
        assert not commit.is_alive(), "a receiver with a slot acknowledges nothing now"


@pytest.mark.fact("frozen-receiver")
def test_a_capture_that_hangs_holds_up_no_fast_shutdown(stage16: Stage):
    primary = stage16.primary()
    primary.write(20)
    gate = Gate("during-copy")
    with capturing(stage16, primary, crash=gate) as capture:
        capture.order()
        assert gate.reached.wait(20)
        began_s = time.monotonic()
        primary.stop()
        assert time.monotonic() - began_s < 10
        gate.opened.set()
        capture.take_the_rest()
        assert len(capture.ids()) == 20


@pytest.mark.fact("walsenders-taken")
def test_a_server_without_walsenders_is_captured_all_the_same(stage16: Stage):
    primary = stage16.primary(max_wal_senders="0")
    primary.write(20)
    with capturing(stage16, primary) as capture:
        capture.order()
        capture.until_complete()
        primary.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 20


@pytest.mark.fact("backup-writes-wal")
def test_tail_and_pin_write_no_wal_and_a_full_copy_does(stage: Stage):
    primary = stage.primary()
    primary.write(20)
    primary.query("CHECKPOINT")
    before = primary.lsn
    with capturing(stage, primary) as capture:
        capture.order(Level.TAIL, Level.PIN, confirmed=before)
        capture.until("the pin is held", lambda s: s.pin == "held")
        capture.until_kept(before)
        assert primary.lsn == before
        capture.order()
        capture.until_complete()
        assert primary.lsn > before


@pytest.mark.fact("commits-and-ids")
def test_what_takes_no_transaction_id_is_in_the_tail_all_the_same(stage16: Stage):
    """A message is told of by no commit, so no copy is ordered; ANALYZE is by one."""
    primary = stage16.primary(wal_level="logical")
    primary.write(20)
    primary.query("CREATE SEQUENCE drawn")
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.PIN, confirmed=primary.lsn)
        primary.query("SELECT nextval('drawn')")
        before = primary.value(NEXT_ID)
        primary.query("SELECT nextval('drawn')")  # of those drawn ahead: no WAL
        primary.query("SELECT pg_logical_emit_message(false, 'a word', 'to somebody')")
        assert primary.value(NEXT_ID) == before
        primary.query("CHECKPOINT")
        kept = capture.until_kept(primary.lsn)
        assert kept.start_lsn is not None
        told = primary.programs.run(
            ["pg_waldump", "-p", capture.folder / "wal", "-s", str(kept.start_lsn),
             "-e", str(kept.tail_lsn)],
        ).stdout  # fmt: skip
        assert "LogicalMessage" in told
        assert "Sequence" in told
        primary.query("ANALYZE kept")
        assert primary.value(NEXT_ID) > before


@pytest.mark.fact("spread-checkpoint")
def test_a_copy_does_not_wait_for_a_spread_checkpoint(stage15: Stage):
    primary = stage15.primary(checkpoint_completion_target="0.9", shared_buffers="64MB")
    primary.write(1)
    primary.query("CREATE TABLE dirty AS SELECT repeat('x', 500) FROM "
                  "generate_series(1, 30000)")  # fmt: skip
    with primary.session() as session:
        session.execute("SET statement_timeout = '2s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_backup_start('spread', false)")
    with capturing(stage15, primary) as capture:
        began_s = time.monotonic()
        capture.order()
        capture.until_complete()
        assert time.monotonic() - began_s < 15


def end_of(server: Server) -> Lsn:
    """Where a killed server's WAL ends."""
    eventually("all have ended", lambda: not postmaster.orphans(server.data_dir))
    found = DiskReader(server.data_dir, server.programs.bin_dir).read()
    assert isinstance(found, ServerFacts)
    assert found.end_lsn is not None
    return found.end_lsn


def rows_opened(stage: Stage, folder: Path) -> int:
    """Open a copied folder and count."""
    prepare(folder)
    with (
        PrivateServer(folder, stage.programs) as opened,
        psycopg.connect(opened.dsn_for("postgres")) as session,
    ):
        row = session.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.fact("padded-segment")
def test_an_unpadded_segment_silently_loses_rows_and_ours_is_padded(stage: Stage):
    primary = stage.primary()
    primary.write(1)
    primary.query("CHECKPOINT")
    primary.write(60)
    with capturing(stage, primary) as capture:
        capture.order(Level.TAIL)
        capture.until_kept(primary.lsn)
        sizes = {path.stat().st_size for path in (capture.folder / "wal").iterdir()}
        assert sizes == {SEGMENT}
    primary.crash()
    end = end_of(primary)
    cut, whole = stage.scratch(primary, "cut"), stage.scratch(primary, "whole")
    (name,) = [p.name for p in (cut / "pg_wal").glob("0*") if p.is_file()]
    with (cut / "pg_wal" / name).open("r+b") as segment:
        segment.truncate(end % SEGMENT)
    assert rows_opened(stage, cut) < 61
    assert rows_opened(stage, whole) == 61


@pytest.mark.fact("crash-loop")
def test_a_server_that_crashes_in_a_loop_is_kept_once_it_stands_still(stage16: Stage):
    primary = stage16.primary()
    with Client(primary) as client:
        client.go_on()
        primary.crash()
    with capturing(stage16, primary) as capture:
        over = threading.Event()

        def crash_on() -> None:
            while not over.is_set():
                eventually("gone", lambda: not postmaster.orphans(primary.data_dir))
                primary.launch()
                eventually("it has begun", (primary.data_dir / "postmaster.pid").exists)
                over.wait(0.2)
                primary.crash()

        loop = threading.Thread(target=crash_on, daemon=True)
        loop.start()
        capture.order()
        capture.until("it looks at it", lambda s: bool(s.reason) or s.bytes_total > 0)
        over.wait(3)
        over.set()
        loop.join(20)
        capture.take_the_rest()
        assert capture.ids() >= client.acknowledged
