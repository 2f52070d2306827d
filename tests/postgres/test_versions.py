"""Every other version on real servers, 10 to 14 and 17: seen, read from disk, copied.

15, 16 and 18 have the rest of this folder. Programs beyond the server are not to be had
for these versions: what Splitguard then does not know it has to call unknown.
"""

import asyncio
import contextlib
import shutil
import subprocess

import psycopg
import pytest

from agent.cli.grants import SQL
from agent.core.observation import Outcome, PostgresSight, ServerFacts
from agent.daemon.clock import SystemClock
from agent.postgres.control import CRC_OFFSETS, read_control
from agent.postgres.reader import DiskReader
from agent.probe.postgres import PostgresProbe
from agent.probe.result import Result
from agent.snapshot.backup import BackupSession
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres

CONTROL_VERSIONS = {10: 1002, 11: 1100, 12: 1201, 13: 1300, 14: 1300, 17: 1700}


def facts(server: Server) -> ServerFacts:
    found = DiskReader(server.data_dir, server.programs.bin_dir).read()
    assert isinstance(found, ServerFacts), found
    return found


def test_the_control_file_says_what_the_server_says(other: Stage):
    primary, standby = other.pair(max_prepared_transactions="7", wal_level="logical")
    primary.query("CHECKPOINT")
    primary.write(10)
    primary.query("CHECKPOINT")
    control = read_control(primary.data_dir)
    assert control.pg_control_version == CONTROL_VERSIONS[other.programs.major]
    assert control.pg_control_version in CRC_OFFSETS
    (told,) = primary.query(
        "SELECT system_identifier::text, checkpoint_lsn::text, redo_lsn::text,"
        " timeline_id, prev_timeline_id, next_xid"
        " FROM pg_control_system(), pg_control_checkpoint()"
    )
    epoch, _, xid = str(told[5]).rpartition(":")
    assert (
        control.system_id, str(control.checkpoint_lsn), str(control.redo_lsn),
        control.timeline, control.prev_timeline, control.next_xid,
    ) == (*told[:5], int(epoch) << 32 | int(xid))  # fmt: skip
    settings = dict(primary.query("SELECT name, setting FROM pg_settings"))
    assert control.wal_level == settings["wal_level"] == "logical"
    for name in (
        "max_connections", "max_worker_processes", "max_wal_senders",
        "max_prepared_transactions", "max_locks_per_transaction",
    ):  # fmt: skip
        assert getattr(control, name) == int(settings[name]), name
    assert control.wal_log_hints
    assert control.data_checksums == (settings["data_checksums"] == "on")
    assert not control.track_commit_timestamp
    assert control.wal_block_bytes == int(settings["wal_block_size"])
    assert control.wal_segment_bytes == 16 * 1024 * 1024
    assert control.state == "in production"
    assert read_control(standby.data_dir).state == "in archive recovery"
    (recovery,) = standby.query(
        "SELECT min_recovery_end_lsn::text, min_recovery_end_timeline,"
        " backup_start_lsn::text, end_of_backup_record_required"
        " FROM pg_control_recovery()"
    )
    followed = read_control(standby.data_dir)
    assert recovery == (
        str(followed.min_recovery_lsn), followed.min_recovery_timeline,
        str(followed.backup_start_lsn), followed.backup_end_required,
    )  # fmt: skip


def test_the_disk_tells_role_lineage_and_that_the_end_is_unknown(other: Stage):
    old, new = other.pair()
    twin = other.standby(old, "n3")
    old.write(20, "common")
    for standby in (new, twin):
        standby.caught_up(old)
    twin.stop()
    assert not facts(old).standby_signal
    assert facts(new).standby_signal
    new.stop()
    assert facts(new).standby_signal
    new.configure(primary_conninfo="")
    new.start()
    new.promote()
    old.write(5, "old")
    new.write(5, "new")
    found = facts(new)
    assert not found.standby_signal
    assert found.version_num == other.programs.version_num
    assert found.lineage.timeline == 2
    (switch,) = found.lineage.switches
    assert switch.timeline == 1
    assert switch.lsn < old.lsn
    (mark,) = found.lineage.fingerprints
    assert (mark.timeline, mark.lsn) == (2, switch.lsn)
    assert facts(old).lineage.timeline == 1
    old.stop()
    stopped = facts(old)
    assert (stopped.running, stopped.control_state) == (False, "shut down")
    # pg_waldump would know; a guess would be an answer that nobody can check.
    assert stopped.end_lsn is None
    assert "pg_waldump is not in" in stopped.end_unknown
    twin.configure(primary_conninfo="")
    twin.start()
    twin.promote()
    other_line = facts(twin).lineage
    assert other_line.switches == found.lineage.switches
    assert other_line.fingerprints != found.lineage.fingerprints


def grant(server: Server) -> None:
    """Run what `splitguard grants` prints, as the README says."""
    psql = shutil.which("psql", path="/usr/lib/postgresql/15/bin")
    assert psql is not None
    subprocess.run(
        [psql, "-X", "-q", "-d", server.dsn, "-f", "-"],
        input=SQL, check=True, text=True, timeout=30,
    )  # fmt: skip


def as_role(server: Server, role: str) -> str:
    return server.dsn.replace("user=postgres", f"user={role}")


async def seen(dsn: str, deadline_s: float = 5.0) -> Result:
    probe = PostgresProbe(dsn, deadline_s, 10, SystemClock())
    try:
        return await probe.ask()
    finally:
        await probe.close()


async def sight(dsn: str) -> PostgresSight:
    result = await seen(dsn)
    assert result.outcome is Outcome.ANSWERED, result
    assert result.postgres is not None
    return result.postgres


def granted_pair(other: Stage) -> tuple[Server, Server]:
    """Start a pair over TCP that has run the grants; the standby has caught up."""
    primary = other.server("n1", tcp=True).start()
    grant(primary)
    standby = other.server("n2")
    standby.follow(primary)
    standby.configure(
        primary_conninfo=f"host=127.0.0.1 port={primary.port} user=postgres"
        " application_name=n2"
    )
    standby.start()
    primary.write(10)
    standby.caught_up(primary)
    return primary, standby


async def test_the_probe_sees_a_pair_and_its_promotion_by_its_grants_only(other: Stage):
    primary, standby = granted_pair(other)
    dsns = [as_role(server, "splitguard_probe") for server in (primary, standby)]
    least = primary.lsn
    up, down = [await sight(dsn) for dsn in dsns]
    most = primary.lsn
    assert up.system_id == down.system_id == read_control(primary.data_dir).system_id
    assert up.version_num == down.version_num == other.programs.version_num
    assert (up.in_recovery, down.in_recovery) == (False, True)
    assert (up.timeline, down.timeline) == (1, 1)
    # An idle primary still writes down its running transactions now and then.
    assert down.replay_lsn is not None
    assert down.flush_lsn is not None
    assert up.flush_lsn is not None
    assert least <= up.flush_lsn <= most
    assert least <= down.replay_lsn <= down.flush_lsn <= most
    assert (up.replay_lsn, up.upstream, up.receiver_mark) == (None, None, None)
    # Version 10 does not show a receiver's host.
    port = f"127.0.0.1:{primary.port}" if other.programs.major > 10 else None
    assert down.upstream == port
    assert down.receiver_mark
    (sender,) = up.senders
    assert (sender.name, sender.state, sender.sync_state) == (
        "n2", "streaming", "async",
    )  # fmt: skip
    assert sender.flush_lsn is not None
    assert least <= sender.flush_lsn <= most
    assert sender.reply_mark
    assert up.next_xid == down.next_xid
    assert up.postmaster_started != down.postmaster_started
    primary.write(5)
    standby.caught_up(primary)
    later = [await sight(dsn) for dsn in dsns]
    assert (later[0].next_xid or 0) > (up.next_xid or 0) > 0
    assert later[0].senders[0].reply_mark != sender.reply_mark
    assert later[1].receiver_mark != down.receiver_mark
    standby.promote()
    promoted = await sight(dsns[1])
    assert (promoted.in_recovery, promoted.timeline) == (False, 2)
    assert promoted.upstream is None


async def test_backends_that_wait_for_a_standby_are_counted(other: Stage):
    primary = other.primary(synchronous_standby_names="nobody")
    dsn = as_role(primary, "postgres")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as writer:
        blocked = asyncio.ensure_future(writer.execute("CREATE TABLE kept (id int)"))
        async with asyncio.timeout(10):
            while (await sight(dsn)).waiting_for_sync != 1:
                pass
        writer.pgconn.finish()
        blocked.cancel()
        await asyncio.wait({blocked})


async def test_refusals_keep_their_codes(other: Stage):
    primary = other.primary(
        max_connections="6", superuser_reserved_connections="2", max_wal_senders="2"
    )
    grant(primary)
    primary.query("CREATE ROLE poor LOGIN")
    dsn = as_role(primary, "splitguard_probe")
    reasons = {
        "28000": as_role(primary, "nobody_here"),
        "3D000": f"{dsn} dbname=nothing_here",
        "role poor is not in pg_monitor": as_role(primary, "poor"),
    }
    for reason, wrong in reasons.items():
        result = await seen(wrong)
        assert result.outcome is Outcome.REFUSED
        assert result.reason.startswith(reason)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            with contextlib.suppress(psycopg.OperationalError):
                await stack.enter_async_context(
                    await psycopg.AsyncConnection.connect(dsn)
                )
        full = await seen(dsn)
    assert (full.outcome, full.reason[:5]) == (Outcome.REFUSED, "53300")
    starting = other.server("n9")
    starting.follow(primary)
    starting.configure(hot_standby="off")
    starting.launch()
    async with asyncio.timeout(20):
        while (result := await seen(starting.dsn)).outcome is Outcome.UNREACHABLE:
            pass
    assert (result.outcome, result.reason[:5]) == (Outcome.REFUSED, "57P03")


def test_the_roles_may_do_what_is_needed_and_no_more(other: Stage):
    primary = other.primary()
    for _ in range(2):
        grant(primary)
    primary.query("CREATE TABLE secret (word text)")
    local, probe = (
        as_role(primary, role) for role in ("splitguard_local", "splitguard_probe")
    )
    renamed = other.programs.major >= 15
    if renamed:
        with psycopg.connect(local, autocommit=True) as session:
            session.execute("CHECKPOINT")
    else:
        assert not primary.query("SELECT FROM pg_roles WHERE rolname='pg_checkpoint'")
    with contextlib.closing(BackupSession(local, "test")) as backup:
        begun = backup.begin()
        ended = backup.end()
    assert not begun.in_recovery
    assert begun.start_lsn < ended.stop_lsn
    assert ended.timeline == 1
    assert b"START WAL LOCATION" in ended.label
    start = (
        "SELECT pg_backup_start('x', true)" if renamed
        else "SELECT pg_start_backup('x', true, false)"
    )  # fmt: skip
    for dsn, statements in (
        (local, ("DELETE FROM secret", "SELECT pg_read_file('postgresql.conf')")),
        (probe, ("SELECT * FROM secret", start, "CHECKPOINT")),
    ):
        for statement in statements:
            with (
                psycopg.connect(dsn, autocommit=True) as session,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                session.execute(statement.encode())
