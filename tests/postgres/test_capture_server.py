"""Captures of real servers in every state: what was acknowledged is in the copy."""

import contextlib
import shutil
import signal
import time

import psycopg
import pytest
from psycopg.pq import ConnStatus

from agent.core.capture import Grade, Level, Phase
from agent.snapshot.backup import BackupSession
from agent.snapshot.opening import check_opened
from agent.snapshot.verify import verify_folder
from tests.capturing import GRANTS, ID, ROLE, Client, Gate, capturing
from tests.fix_postgres import Stage, copy_tree, eventually

pytestmark = pytest.mark.postgres


def test_every_acknowledged_row_of_a_running_primary_is_in_the_opened_copy(
    stage: Stage,
):
    primary = stage.primary()
    for grant in GRANTS:
        primary.query(grant)
    with (
        Client(primary) as client,
        capturing(stage, primary, user=ROLE) as capture,
    ):
        capture.order(Level.TAIL, Level.PIN, confirmed=primary.lsn)
        capture.until("the pin is held", lambda s: s.pin == "held")
        client.go_on()
        capture.order()
        capture.until_complete()
        client.go_on()
        primary.stop()
        client.end()
        before_s = time.monotonic()
        reached = capture.take_the_rest()
        assert time.monotonic() - before_s < 30
        assert reached.method == "copy"
        assert capture.ids() >= client.acknowledged
        manifest = capture.close()
        assert manifest.closed
        assert verify_folder(capture.folder, programs=stage.programs).good
        opened = check_opened(capture.folder, stage.folder, stage.programs)
        assert opened.problems == ()
        assert capture.manifest.grade is Grade.OPENED
        assert not list(primary.data_dir.parent.glob(".splitguard-pin*"))


def test_a_limited_copy_takes_its_time_and_a_stop_ends_the_limit(stage16: Stage):
    primary = stage16.primary()
    limit = 256 << 10  # so slow that it would take minutes
    with capturing(stage16, primary, max_bytes_s=limit) as capture:
        began_s = time.monotonic()
        capture.order()
        told = capture.until("it is copied", lambda s: s.bytes_done >= limit)
        # Two threads may each be one file ahead of what is paid for.
        paid = limit * (time.monotonic() - began_s)
        ahead = sorted(f.stat().st_size for f in (primary.data_dir / "base").rglob("*"))
        assert told.bytes_done <= paid + sum(ahead[-2:])
        primary.write(10)
        capture.until_kept(primary.lsn)  # the tail does not wait for the copy
        assert capture.statuses[-1].phase is Phase.COPYING
        primary.stop()
        assert capture.take_the_rest().method == "cold copy"


def test_a_crashed_primary_is_copied_cold_to_the_end_of_its_wal(stage: Stage):
    primary = stage.primary()
    with Client(primary) as client, capturing(stage, primary) as capture:
        client.go_on()
        primary.crash()
        client.end()
        reached = capture.take_the_rest()
        assert reached.method == "cold copy"
        assert capture.ids() >= client.acknowledged
        assert verify_folder(capture.folder, programs=stage.programs).good


def test_a_cleanly_stopped_primary_is_copied_cold(stage16: Stage):
    primary = stage16.primary()
    with Client(primary) as client, capturing(stage16, primary) as capture:
        client.go_on()
        primary.stop()
        client.end()
        assert capture.take_the_rest().method == "cold copy"
        assert capture.ids() == client.acknowledged
        capture.close()
        assert check_opened(capture.folder, stage16.folder, stage16.programs).good


@pytest.mark.fact("backup-of-a-standby")
def test_a_running_standby_is_copied_and_followed(stage: Stage):
    primary, standby = stage.pair()
    for grant in GRANTS:
        primary.query(grant)
    standby.caught_up(primary)
    with (
        Client(primary) as client,
        capturing(stage, standby, user=ROLE) as capture,
    ):
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        client.go_on()
        client.end()
        standby.caught_up(primary)
        standby.stop()
        assert capture.take_the_rest().method == "copy"
        assert capture.ids() >= client.acknowledged


@pytest.mark.fact("promoted-during-backup")
def test_a_promotion_during_the_copy_starts_it_again_in_the_new_role(stage: Stage):
    primary, standby = stage.pair()
    primary.write(20, "common")
    gate = Gate("during-copy")
    with capturing(stage, standby, crash=gate) as capture:
        standby.caught_up(primary)
        capture.order(Level.TAIL, Level.FULL)
        assert gate.reached.wait(20)
        primary.stop()
        standby.promote()
        standby.write(30, "after")
        capture.until("the tail follows", lambda s: s.timeline == 2)
        gate.opened.set()
        assert capture.until_complete().timeline == 2
        assert capture.manifest.copy_timeline == 2
        standby.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 50


def test_a_copy_of_a_standby_that_is_promoted_afterwards_opens_with_its_new_rows(
    stage: Stage,
):
    primary, standby = stage.pair()
    primary.write(20, "common")
    with capturing(stage, standby) as capture:
        standby.caught_up(primary)
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        primary.stop()
        standby.promote()
        standby.write(30, "after")
        standby.crash()
        reached = capture.take_the_rest()
        assert (reached.method, reached.timeline) == ("copy", 2)
        assert capture.manifest.copy_timeline == 1
        assert len(capture.ids()) == 50


def test_a_stop_during_the_copy_makes_it_a_cold_one(stage16: Stage):
    primary = stage16.primary()
    gate = Gate("during-copy")
    with (
        Client(primary) as client,
        capturing(stage16, primary, crash=gate) as capture,
    ):
        capture.order()
        assert gate.reached.wait(20)
        primary.stop()
        client.end()
        gate.opened.set()
        reached = capture.take_the_rest()
        assert reached.method == "cold copy"
        assert capture.ids() >= client.acknowledged


def test_the_tail_goes_on_over_a_crash_and_restart(stage16: Stage):
    primary = stage16.primary()
    with Client(primary) as client, capturing(stage16, primary) as capture:
        capture.order()
        capture.until_complete()
        client.go_on()
        primary.crash()
        client.end()
        capture.end_of_stopped()
        primary.start()
        primary.write(20, "again")
        capture.until_kept(primary.lsn)
        primary.stop()
        capture.take_the_rest()
        assert len(capture.ids()) >= len(client.acknowledged) + 20


def test_a_server_that_recycles_its_wal_is_followed_without_a_gap(stage16: Stage):
    primary = stage16.primary(
        wal_keep_size="0", min_wal_size="32MB", max_wal_size="1GB"
    )
    primary.write(10)
    with capturing(stage16, primary) as capture:
        capture.order()
        capture.until_complete()
        for _ in range(5):
            primary.write(20)
            primary.query("SELECT pg_switch_wal()")
            primary.query("CHECKPOINT")
            capture.until_kept(primary.lsn)
        primary.stop()
        assert capture.take_the_rest().method == "copy"
        assert len(capture.ids()) == 110


def test_a_frozen_server_is_followed_from_its_disk(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    end = primary.lsn
    primary.signal(signal.SIGSTOP)
    try:
        with capturing(stage16, primary) as capture:
            capture.order(Level.TAIL, Level.PIN)
            capture.until_kept(end)
            capture.until("the pin is held", lambda s: s.pin == "held")
            began_s = time.monotonic()
            capture.engine.stop()
            assert time.monotonic() - began_s < 30  # it waits for no answer
    finally:
        primary.signal(signal.SIGCONT)


def test_without_sql_a_running_server_gets_a_tail_and_a_clear_refusal(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    with capturing(stage16, primary, sql=False) as capture:
        capture.order()
        failed = capture.until("it says why", lambda s: s.phase is Phase.FAILED)
        assert "local.dsn" in failed.reason
        capture.until_kept(primary.lsn)
        primary.stop()
        assert capture.take_the_rest().method == "cold copy"


def test_a_limit_on_idle_sessions_does_not_end_a_backup(stage16: Stage):
    primary = stage16.primary(idle_session_timeout="300ms")
    session = BackupSession(primary.dsn, "a test")
    try:
        begun = session.begin()
        other = psycopg.connect(primary.dsn, autocommit=True)
        eventually("the limit strikes others", lambda: struck(other))
        assert session.end().stop_lsn >= begun.start_lsn
    finally:
        session.close()


def test_the_same_order_again_does_not_try_a_failed_copy_sooner(stage16: Stage):
    primary = stage16.primary()
    primary.query(GRANTS[0])
    with capturing(stage16, primary, user=ROLE) as capture:
        capture.order()
        capture.until("the copy failed", lambda s: s.phase is Phase.FAILED)
        told = len(capture.statuses)

        def tried() -> bool:
            return any(s.phase is Phase.COPYING for s in capture.statuses[told:])

        for _ in range(2):
            capture.order()
            primary.write(5)
            capture.until_kept(primary.lsn)
        assert not tried()
        capture.order(confirmed=primary.lsn)
        eventually("another order tries it again", tried)


def struck(session: psycopg.Connection) -> bool:
    """Whether the server has ended the session, without asking over it."""
    with contextlib.suppress(psycopg.OperationalError):
        session.pgconn.consume_input()
    return session.pgconn.status != ConnStatus.OK


def test_missing_grants_are_named_and_the_tail_stands(stage16: Stage):
    primary = stage16.primary()
    primary.query(GRANTS[0])
    primary.write(30)
    with capturing(stage16, primary, user=ROLE) as capture:
        capture.order()
        failed = capture.until("it says why", lambda s: s.phase is Phase.FAILED)
        assert "permission denied for function pg_backup_start" in failed.reason
        assert "splitguard grants" in failed.reason
        capture.until_kept(primary.lsn)


@pytest.mark.fact("P3")
def test_a_rewound_server_adds_nothing_to_its_capture(stage16: Stage):
    old, new = stage16.split()
    new.query("CHECKPOINT")
    eventually(
        "the new timeline is in the control file",
        lambda: new.value("SELECT timeline_id FROM pg_control_checkpoint()") == 2,
    )
    with capturing(stage16, old) as capture:
        capture.order()
        capture.until_complete()
        old.stop()
        reached = capture.take_the_rest()
        old.programs.run(
            ["pg_rewind", "-D", old.data_dir, "--source-server", new.dsn],
            as_owner_of=old.data_dir,
        )
        closed = capture.until("it says so", lambda s: "nothing more" in s.reason)
        assert closed.phase is Phase.CLOSED
        manifest = capture.manifest
        assert manifest.closed
        assert manifest.end_lsn == reached.reached_lsn
        assert verify_folder(capture.folder, programs=stage16.programs).good
        assert manifest.timeline == 1
        assert len(capture.ids()) == 100


def test_a_directory_in_the_middle_of_a_rewind_is_taken_for_no_copy(stage16: Stage):
    primary = stage16.primary()
    primary.write(50)
    primary.stop()
    # What a rewind always writes, and what it writes last.
    for written in primary.data_dir.glob("base/*/pg_filenode.map"):
        written.touch()
    last = primary.data_dir / "global/pg_control"
    with capturing(stage16, primary) as capture:
        capture.order()
        failed = capture.until("it is refused", lambda s: s.phase is Phase.FAILED)
        assert "rewinds or clones" in failed.reason
        assert failed.grade is Grade.NONE
        last.touch()
        capture.until_complete()


def test_a_copy_of_a_stopped_server_outlives_a_rewind_that_asked_nobody(
    stage16: Stage,
):
    primary = stage16.primary()
    primary.write(200)
    primary.crash()
    with capturing(stage16, primary) as capture:
        capture.order()
        before = capture.until_complete()
        kept = capture.ids()
        assert before.tail_lsn is not None
        assert before.start_lsn is not None
        # A rewind overwrites WAL while pg_control is still the old one.
        last = max((primary.data_dir / "pg_wal").glob("0000*"))
        middle = (int(before.start_lsn) + int(before.tail_lsn)) // 2
        offset = middle % last.stat().st_size
        with last.open("r+b") as segment:
            segment.seek(offset)
            segment.write(bytes(last.stat().st_size - offset))
        closed = capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        assert closed.grade is Grade.COMPLETE
        assert closed.tail_lsn == before.tail_lsn
        assert capture.ids() == kept


def test_data_that_was_rolled_back_on_its_timeline_needs_a_capture_of_its_own(
    stage16: Stage,
):
    primary = stage16.primary()
    primary.stop()
    backup = stage16.folder / "backup"
    copy_tree(primary.data_dir, backup)
    primary.start()
    primary.write(300)
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        primary.stop()
        proven = capture.take_the_rest()
        answered = capture.until("it answers", lambda s: s.final_lsn is not None)
        assert answered.final_lsn == proven.reached_lsn
        shutil.rmtree(primary.data_dir)
        copy_tree(backup, primary.data_dir)
        (primary.data_dir / "PG_VERSION").touch()
        seen = len(capture.statuses)
        final = capture.end_of_stopped()
        assert proven.reached_lsn is not None
        assert final < proven.reached_lsn
        capture.order(Level.TAIL, Level.FULL, final=final)
        closed = capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        assert "nothing more is added" in closed.reason
        assert all(status.final_lsn != final for status in capture.statuses[seen:])
        assert capture.manifest.closed


@pytest.mark.fact("hard-link-farm")
def test_the_pin_outlives_a_wipe_of_the_data_directory(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until("the pin is held", lambda s: s.pin == "held")
        primary.write(30)
        primary.stop()
        capture.until_kept(capture.end_of_stopped())
        shutil.rmtree(primary.data_dir)
        farm = primary.data_dir.parent / f".splitguard-pin-{ID}@data"
        capture.until("it says what is wrong", lambda s: s.phase is Phase.FAILED)
        farm.rename(primary.data_dir)
        assert primary.start().rows() == 60
