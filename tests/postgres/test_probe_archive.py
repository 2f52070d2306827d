"""What the probe sees of archiving, slots and delayed standbys, on real servers."""

import pytest

from agent.core.lsn import Lsn
from agent.core.observation import Channel, PostgresSight
from agent.daemon.clock import SystemClock
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres
ARCHIVES = "PGPASSWORD=hunter2 cp %p /ARCHIVE/%f"


async def sight(dsn: str) -> PostgresSight:
    """Ask a server once, as nobody but the probe's role."""
    http = HttpClient()
    asked = dsn.replace("user=postgres", "user=splitguard_probe")
    prober = NetworkProber(
        {"n1": Target("n1", postgres_dsn=asked)},
        ProbeSettings("test", "me", deadline_s=5.0, fresh_every=10),
        SystemClock(),
        http,
    )
    try:
        seen = await prober.probe("n1", Channel.POSTGRES)
    finally:
        await prober.close()
        await http.close()
    assert seen.postgres is not None, seen.reason
    return seen.postgres


def with_role(server: Server) -> Server:
    server.query("CREATE ROLE splitguard_probe LOGIN IN ROLE pg_monitor")
    return server


def into(stage: Stage, name: str) -> str:
    """Return a command that archives into a folder that the servers can write."""
    folder = stage.server(name).socket_dir / name
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return ARCHIVES.replace("/ARCHIVE", str(folder))


@pytest.mark.fact("archive-target-visible")
async def test_where_a_server_archives_to_is_seen_as_a_digest_with_pg_monitor(stage):
    command = into(stage, "archive")
    primary = with_role(stage.primary(archive_mode="on", archive_command=command))
    primary.write(1)
    name = primary.value("SELECT pg_walfile_name(pg_switch_wal())")
    eventually(
        "the file is archived",
        lambda: primary.value("SELECT archived_count FROM pg_stat_archiver"),
    )
    found = (await sight(primary.dsn)).archiver
    assert found is not None
    assert (found.method, found.always, found.failing) == (
        "archive_command",
        False,
        False,
    )
    assert (found.archived, found.last_archived) == (1, name)
    assert "hunter2" not in repr(found)
    primary.configure(archive_command=command + "  ")
    primary.query("SELECT pg_reload_conf()")
    assert (await sight(primary.dsn)).archiver == found


@pytest.mark.fact("archive-target-visible")
async def test_an_archiver_that_fails_says_so_and_one_without_a_command_is_none(
    stage16,
):
    primary = with_role(
        stage16.primary(archive_mode="always", archive_command="false %p")
    )
    primary.write(1)
    primary.query("SELECT pg_switch_wal()")
    eventually(
        "it has failed",
        lambda: primary.value("SELECT failed_count FROM pg_stat_archiver"),
    )
    found = (await sight(primary.dsn)).archiver
    assert found is not None
    assert (found.always, found.failing, found.archived) == (True, True, 0)
    assert found.last_failed is not None
    primary.configure(archive_command="")
    primary.query("SELECT pg_reload_conf()")
    eventually("it is empty", lambda: not primary.value("SHOW archive_command"))
    assert (await sight(primary.dsn)).archiver is None


async def test_a_server_that_archives_nothing_has_no_archiver(stage16):
    primary = with_role(stage16.primary(archive_command="cp %p /nowhere/%f"))
    assert (await sight(primary.dsn)).archiver is None


@pytest.mark.fact("archive-target-visible")
async def test_a_library_and_its_folder_are_one_target(stage18):
    libraries = {"archive_mode": "on", "archive_library": "basic_archive"}
    servers = []
    for name, folder in (("n1", "/one"), ("n2", "/one"), ("n3", "/two")):
        server = stage18.server(name)
        server.configure(**libraries, **{"basic_archive.archive_directory": folder})
        servers.append(with_role(server.start()))
    found = [(await sight(one.dsn)).archiver for one in servers]
    first, second, third = [one for one in found if one is not None]
    assert first.method == "archive_library"
    assert (first.target, third.target == first.target) == (second.target, False)


async def test_slots_are_seen_with_what_they_hold_back(stage):
    primary = with_role(stage.primary())
    primary.query("SELECT pg_create_physical_replication_slot('away', true)")
    primary.query("SELECT pg_create_physical_replication_slot('unused')")
    away, unused = (await sight(primary.dsn)).slots
    assert (away.name, away.kind, away.active, away.lost) == (
        "away",
        "physical",
        False,
        False,
    )
    kept = primary.value("SELECT restart_lsn::text FROM pg_replication_slots LIMIT 1")
    assert (away.restart_lsn, unused.restart_lsn) == (Lsn.parse(kept), None)


async def test_a_logical_slot_tells_whose_it_is_and_how_far_it_was_read(stage):
    primary = with_role(stage.primary(wal_level="logical"))
    primary.query("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    (slot,) = (await sight(primary.dsn)).slots
    confirmed = primary.value(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
    )
    assert (slot.name, slot.kind, slot.database, slot.plugin, slot.confirmed_lsn) == (
        "shop",
        "logical",
        "postgres",
        "pgoutput",
        Lsn.parse(confirmed),
    )


async def test_a_delayed_standby_tells_its_delay_and_whether_replay_is_paused(stage):
    primary, standby = stage.pair()
    with_role(primary)
    standby.caught_up(primary)
    eventually(
        "the role is there too",
        lambda: standby.value(
            "SELECT count(*) FROM pg_roles WHERE rolname = 'splitguard_probe'"
        ),
    )
    plain = await sight(standby.dsn)
    assert (plain.apply_delay_s, plain.replay_paused) == (0.0, False)
    standby.query("ALTER SYSTEM SET recovery_min_apply_delay = '90min'")
    standby.query("SELECT pg_reload_conf()")
    standby.query("SELECT pg_wal_replay_pause()")
    eventually(
        "it has read that",
        lambda: standby.value("SHOW recovery_min_apply_delay") == "90min",
    )
    delayed = await sight(standby.dsn)
    assert (delayed.apply_delay_s, delayed.replay_paused) == (5400.0, True)
    leading = await sight(primary.dsn)
    assert (leading.apply_delay_s, leading.replay_paused) == (None, None)
