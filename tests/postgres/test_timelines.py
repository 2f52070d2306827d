"""What servers show of their timelines, and what they hide.

A control file that lags behind a promotion, a switch that is marked in two ways or not
at all, a restart that nobody notices. Each test shows the server's manner, and that our
reading of the disk or our probe is not taken in by it.
"""

import contextlib
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agent.core.kinship import relate
from agent.core.lineage import Kinship
from agent.core.observation import Channel, Outcome, ServerFacts
from agent.daemon.clock import SystemClock
from agent.postgres.owner import owner_of
from agent.postgres.reader import DiskReader
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.fix_postgres import Server, Stage, eventually, stage_of

pytestmark = pytest.mark.postgres

IN_RECOVERY = "SELECT pg_is_in_recovery()"
WALSENDERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
DIRTY = "CREATE TABLE dirty AS SELECT repeat('x', 500) FROM generate_series(1, 30000)"
NOTHING = "no rewind required"


@pytest.fixture
def stage15(postgres_home: Path) -> Iterator[Stage]:
    """The version whose pg_rewind believes the control file."""
    with stage_of("15", postgres_home) as made:
        yield made


def facts(server: Server, data_dir: Path | None = None) -> ServerFacts:
    reader = DiskReader(data_dir or server.data_dir, server.programs.bin_dir)
    found = reader.read()
    assert isinstance(found, ServerFacts), found
    return found


def record_at_switch(server: Server) -> str:
    """The first record on timeline 2."""
    (switch,) = facts(server).lineage.switches
    return server.programs.run(
        ["pg_waldump", "-p", server.data_dir / "pg_wal", "-t", "2",
         "-s", str(switch.lsn), "-n", "1"],
        as_owner_of=server.data_dir,
    ).stdout  # fmt: skip


def recovered_from(archive: Path, stage: Stage, name: str) -> Server:
    """A server that replayed an archive to its end, and went on on its own."""
    server = stage.server(name, {"restore_command": f"cp {archive}/%f %p"})
    server.write_file("recovery.signal", "")
    server.start()
    eventually("it is on its own", lambda: not server.value(IN_RECOVERY))
    return server


@pytest.mark.fact("archive-promotion")
def test_an_end_of_archive_recovery_is_marked_by_a_checkpoint_and_fingerprinted(
    stage: Stage,
):
    primary, standby = stage.pair()
    primary.write(5)
    standby.caught_up(primary)
    primary.stop()
    standby.promote()
    assert "END_OF_RECOVERY" in record_at_switch(standby)

    restored = [
        recovered_from(primary.data_dir / "pg_wal", stage, name) for name in ("a", "b")
    ]
    for server in restored:
        assert "CHECKPOINT_SHUTDOWN" in record_at_switch(server)
        assert [one.timeline for one in facts(server).lineage.fingerprints] == [2]


@pytest.mark.fact("cloned-later")
def test_a_node_that_was_cloned_later_has_no_mark_and_is_no_twin(stage: Stage):
    primary, standby = stage.pair()
    primary.write(5)
    standby.caught_up(primary)
    primary.stop()
    standby.promote()
    standby.write(5)
    standby.query("SELECT pg_switch_wal()")
    standby.write(5)
    standby.query("CHECKPOINT")
    clone = stage.folder / "clone"
    standby.programs.run(
        ["pg_basebackup", "-D", clone, "-d", standby.dsn, "-c", "fast"],
        as_owner_of=standby.data_dir,
    )
    ours, theirs = facts(standby).lineage, facts(standby, clone).lineage
    assert ours.switches == theirs.switches
    assert [one.timeline for one in ours.fingerprints] == [2]
    assert theirs.fingerprints == ()
    assert relate(ours, theirs).kinship is Kinship.SAME


@pytest.mark.fact("no-rewind-required")
def test_pg_rewind_of_15_sees_nothing_to_do_until_the_source_has_a_checkpoint(
    stage15: Stage,
):
    """On such a source the loser would be spliced; our own reading sees the fork."""
    slow = {"checkpoint_completion_target": "0.9", "shared_buffers": "64MB"}
    old, new = stage15.pair(**slow)
    old.query(DIRTY)
    new.caught_up(old)
    new.promote()
    old.write(5)
    old.stop()
    ours, theirs = facts(old).lineage, facts(new).lineage
    assert relate(ours, theirs).fork is not None
    dry: list[str | Path] = [
        "pg_rewind",
        "--dry-run",
        "-D",
        old.data_dir,
        "--source-server",
        new.dsn,
    ]
    assert NOTHING in said(old, dry)

    new.query("CHECKPOINT")
    assert NOTHING not in said(old, dry)


def said(server: Server, words: list[str | Path]) -> str:
    """Everything that a program of the server says; it must succeed."""
    ran = subprocess.run(
        [server.programs.path(str(words[0])), *words[1:]],
        check=True, capture_output=True, text=True, cwd="/",
        **owner_of(server.data_dir).identity(),
    )  # fmt: skip
    return ran.stdout + ran.stderr


@pytest.mark.fact("P3", "shared-inode")
def test_pg_rewind_writes_into_files_that_second_names_share(stage16: Stage):
    """A farm of hard links is none against a rewind, and is against deletion."""
    old, new = stage16.split()
    old.query("SELECT pg_switch_wal()")
    old.write(5, "old")
    new.query("CHECKPOINT")
    old.stop()
    farm = stage16.folder / "farm"
    subprocess.run(["cp", "-al", old.data_dir, farm], check=True)
    before = hashes(farm)
    said(old, ["pg_rewind", "-D", old.data_dir, "--source-server", new.dsn])
    after = hashes(farm)
    assert set(before) == set(after)
    gone = set(before) - set(hashes(old.data_dir))
    assert any(name.startswith("pg_wal/") for name in gone)
    assert any(before[name] != after[name] for name in before if "base/" in name)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every file, by its name in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextlib.asynccontextmanager
async def prober(server: Server):
    http = HttpClient()
    target = Target("n1", postgres_dsn=server.dsn)
    made = NetworkProber(
        {"n1": target}, ProbeSettings("test", "me", deadline_s=5.0), SystemClock(), http
    )
    try:
        yield made
    finally:
        await made.close()
        await http.close()


@pytest.mark.fact("idle-replication-session")
async def test_a_probe_takes_no_walsender_as_an_idle_replication_session_does(stage16):
    server = stage16.primary(max_wal_senders="1")
    async with prober(server) as probes:
        assert (await probes.probe("n1", Channel.POSTGRES)).outcome is Outcome.ANSWERED
        assert server.value(WALSENDERS) == 0
        with psycopg.connect(
            server.dsn, replication="database", autocommit=True
        ) as idle:
            idle.execute("IDENTIFY_SYSTEM")
            assert server.value(WALSENDERS) == 1
            with pytest.raises(psycopg.OperationalError, match="max_wal_senders"):
                psycopg.connect(server.dsn, replication="database")
            assert (
                await probes.probe("n1", Channel.POSTGRES)
            ).outcome is Outcome.ANSWERED
