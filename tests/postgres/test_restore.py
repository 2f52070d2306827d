"""Restoring: a snapshot becomes a folder that a server starts on, and nothing else."""

import json
import shlex
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from agent.core.capture import Grade
from agent.errors import SnapshotError
from agent.postgres.connect import quoted
from agent.postgres.owner import give, owner_of
from agent.snapshot import archive
from agent.snapshot import manifest as manifests
from agent.snapshot.restore import PORT, Restored, restore
from agent.snapshot.unpacking import check_room
from tests.capturing import ID, Capturing, capturing
from tests.fix_postgres import Stage, as_root, eventually, free_port

pytestmark = pytest.mark.postgres
OUTSIDE = {
    "archive_mode": "on",
    "archive_command": "touch /nonexistent/was-archived",
    "primary_conninfo": "host=/nonexistent password=upstream",
}


def kept(capture: Capturing) -> Path:
    """Finish the capture of the stopped server; return the snapshot's folder."""
    capture.take_the_rest()
    capture.close()
    return capture.folder


@pytest.fixture
def snapshot(stage16: Stage):
    """The folder of a snapshot with thirty rows."""
    server = stage16.primary()
    server.write(30)
    with capturing(stage16, server) as capture:
        capture.finished_cold()
        yield capture.folder


def rows_of(done: Restored, stage: Stage) -> int:
    """Start the server as the printed command says, count, and stop it."""
    port = str(free_port())
    words = [
        word.replace(str(PORT), port).replace("/tmp", str(stage.folder))
        if word.startswith("-k ")
        else word
        for word in shlex.split(done.start)
    ]
    subprocess.run(words, check=True, timeout=60, capture_output=True)
    dsn = f"host={stage.folder} port={port} user=postgres dbname=postgres"

    def count() -> int | None:
        try:
            with psycopg.connect(dsn) as session:
                row = session.execute("SELECT count(*) FROM kept").fetchone()
        except psycopg.OperationalError:
            return None  # recovery still goes on
        return None if row is None else int(row[0])

    try:
        return int(eventually("the restored server answers", count))
    finally:
        at = words.index("-D")
        subprocess.run(
            [*words[: at + 2], "-m", "immediate", "stop"], check=True, timeout=60
        )


def test_a_restored_folder_starts_by_the_printed_command_with_every_row(stage: Stage):
    server = stage.server("n1", OUTSIDE)
    space = server.data_dir.parent / "space with blank"
    space.mkdir(mode=0o700)
    give(space, owner_of(server.data_dir))
    server.start()
    server.query(f"CREATE TABLESPACE elsewhere LOCATION {quoted(str(space))}")
    server.query("CREATE TABLE kept (id bigserial, mark text) TABLESPACE elsewhere")
    server.write(30)
    with capturing(stage, server) as capture:
        capture.order()
        capture.until_complete()
        server.write(20)
        server.crash()
        place = kept(capture)
    shutil.rmtree(space)
    done = restore(place, stage.folder / "back to life", programs=stage.programs)
    assert rows_of(done, stage) == 50
    assert done.folder.stat().st_mode & 0o777 == 0o700
    assert owner_of(done.folder) == owner_of(server.data_dir)
    assert done.tablespaces is not None
    assert done.config is not None
    assert "archive_command" in (done.config / "postgresql.conf").read_text()
    assert (place / "state" / "config" / "postmaster.pid").exists()
    assert not (done.config / "postmaster.pid").exists()
    used = (done.folder / "postgresql.conf").read_text()
    assert "archive_mode = off" in used
    assert "upstream" not in used
    assert manifests.read(place).grade is Grade.COMPLETE
    assert not list(stage.folder.glob(".splitguard-restore-*"))


@pytest.mark.fact("recovery-signal")
def test_a_restored_folder_that_spans_a_promotion_has_the_rows_of_both(stage16: Stage):
    primary, standby = stage16.pair()
    primary.write(30)
    standby.caught_up(primary)
    with capturing(stage16, standby) as capture:
        capture.order()
        capture.until_complete()
        primary.stop()
        standby.promote()
        standby.write(12)
        standby.stop()
        place = kept(capture)
    done = restore(place, stage16.folder / "back", programs=stage16.programs)
    assert rows_of(done, stage16) == 42


def test_an_archive_is_restored_like_its_snapshot(stage16: Stage, snapshot: Path):
    tar = stage16.folder / "it.tar"
    tar.write_bytes(b"".join(archive.stream(snapshot)))
    done = restore(tar, stage16.folder / "back", programs=stage16.programs)
    assert rows_of(done, stage16) == 30


def test_nothing_is_written_where_something_is(stage16: Stage, snapshot: Path):
    full = stage16.folder / "full"
    full.mkdir()
    (full / "precious").write_text("mine")
    link = stage16.folder / "link"
    link.symlink_to(stage16.folder / "elsewhere")
    (stage16.folder / "beside.config").mkdir()
    (stage16.folder / "beside.config" / "mine").touch()
    before = sorted(map(str, stage16.folder.rglob("*")))
    for target, reason in (
        (full, "not an empty folder"),
        (link, "not an empty folder"),
        (stage16.folder / "beside", "beside.config is there"),
        (stage16.folder / "no" / "such", "there is no folder"),
        (stage16.servers[0].data_dir / "in", "inside the data folder"),
        (stage16.servers[0].data_dir / "base" / "in", "inside the data folder"),
        (snapshot / "in", "inside the snapshot"),
    ):
        with pytest.raises(SnapshotError, match=reason):
            restore(snapshot, target, programs=stage16.programs)
    assert sorted(map(str, stage16.folder.rglob("*"))) == before


def test_a_snapshot_that_was_changed_is_not_restored(stage16: Stage, snapshot: Path):
    with (snapshot / "data" / "PG_VERSION").open("r+") as file:
        file.write("17")
    with pytest.raises(SnapshotError, match=r"not what the manifest says.*PG_VERSION"):
        restore(snapshot, stage16.folder / "back", programs=stage16.programs)
    assert not list(stage16.folder.glob("*back*"))
    assert not list(stage16.folder.glob(".splitguard-restore-*"))


def test_a_snapshot_without_a_full_copy_is_not_restored(stage16: Stage, snapshot: Path):
    manifest = manifests.read(snapshot)
    manifests.write(snapshot, replace(manifest, grade=Grade.NONE))
    with pytest.raises(SnapshotError, match="no full copy to restore"):
        restore(snapshot, stage16.folder / "back", programs=stage16.programs)


def test_room_is_looked_for_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    usage = SimpleNamespace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_room(30 << 20, tmp_path)
    with pytest.raises(SnapshotError, match=r"no room on .*: 115343360 bytes"):
        check_room(46 << 20, tmp_path)


def test_wal_that_creates_a_tablespace_elsewhere_is_not_let_loose_on_it(
    stage16: Stage,
):
    server = stage16.primary()
    server.write(5)
    space = server.data_dir.parent / "made later"
    with capturing(stage16, server) as capture:
        capture.order()
        capture.until_complete()
        space.mkdir(mode=0o700)
        give(space, owner_of(server.data_dir))
        server.query(f"CREATE TABLESPACE later LOCATION {quoted(str(space))}")
        server.crash()
        place = kept(capture)
    with pytest.raises(SnapshotError, match=r"creates a tablespace at .*made later"):
        restore(place, stage16.folder / "back", programs=stage16.programs)
    assert not (stage16.folder / "back").exists()


def test_the_command_prints_how_to_start_and_leaves_nothing_when_interrupted(
    spawned, stage16: Stage, snapshot: Path
):
    bin_dir = stage16.programs.bin_dir
    target = stage16.folder / "back"
    ran = spawned(
        "snapshots", "restore", snapshot, "--to", target, "--bin-dir", bin_dir,
        "-o", "json",
    )  # fmt: skip
    assert ran.code == 0, ran.words
    shown = json.loads(ran.out)
    assert (shown["id"], shown["folder"]) == (ID, str(target))
    assert shlex.split(shown["start"])[-1] == "start"
    again = spawned("snapshots", "restore", snapshot, "--to", target)
    assert again.code == 1
    assert "not an empty folder; nothing was written" in again.words
    running = spawned.start(
        "snapshots", "restore", snapshot, "--to", stage16.folder / "other"
    )
    eventually(
        "the restore has begun",
        lambda: (
            list(stage16.folder.glob(".splitguard-restore-*"))
            or running.poll() is not None
        ),
    )
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert not list(stage16.folder.glob(".splitguard-restore-*"))


def test_only_root_names_the_user_that_the_server_runs_as(
    stage16: Stage, snapshot: Path
):
    target = stage16.folder / "back"
    if not as_root():
        with pytest.raises(SnapshotError, match="only root can give files"):
            restore(snapshot, target, owner="nobody", programs=stage16.programs)
        return
    for name, reason in (("root", "does not run as root"), ("no-one", "no user")):
        with pytest.raises(SnapshotError, match=reason):
            restore(snapshot, target, owner=name, programs=stage16.programs)
    done = restore(snapshot, target, owner="nobody", programs=stage16.programs)
    assert done.owner.name == "nobody"
    assert (target / "PG_VERSION").stat().st_uid == done.owner.uid


@pytest.mark.fact("copied-subscription")
def test_a_restored_subscriber_does_not_reach_its_publisher(stage16: Stage):
    publisher = stage16.server("pub", {"wal_level": "logical"}, tcp=True).start()
    publisher.write(5)
    publisher.query("CREATE PUBLICATION all_of_it FOR TABLE kept")
    subscriber = stage16.primary("n1")
    subscriber.query("CREATE TABLE kept (id bigserial PRIMARY KEY, mark text)")
    address = f"host=127.0.0.1 port={publisher.port} user=postgres dbname=postgres"
    subscriber.query(
        f"CREATE SUBSCRIPTION theirs CONNECTION '{address}' PUBLICATION all_of_it"
    )
    eventually("the rows have come", lambda: subscriber.rows() == 5)
    with capturing(stage16, subscriber) as capture:
        capture.order()
        capture.until_complete()
        subscriber.stop()
        place = kept(capture)
    publisher.write(5)
    done = restore(place, stage16.folder / "back", programs=stage16.programs)
    assert rows_of(done, stage16) == 5
    active = "SELECT count(*) FROM pg_replication_slots WHERE active"
    assert publisher.value(active) == 0
