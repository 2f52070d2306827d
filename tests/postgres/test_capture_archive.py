"""Archives of snapshots, and copies with links: what leaves the agent can be opened."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from agent.core.capture import Grade, Level
from agent.errors import SnapshotError
from agent.postgres.connect import quoted
from agent.postgres.owner import give, owner_of
from agent.snapshot import archive
from agent.snapshot import manifest as manifests
from agent.snapshot.opening import check_opened, open_copy
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_folder
from tests.capturing import ID, Capturing, capturing, ids_in
from tests.fix_postgres import Server, Stage, free_port

pytestmark = pytest.mark.postgres


def linked(stage: Stage) -> Server:
    """Start a server whose pg_wal and one tablespace lie elsewhere."""
    server = stage.server("n1")
    wal = server.data_dir.parent / "elsewhere-wal"
    (server.data_dir / "pg_wal").rename(wal)
    (server.data_dir / "pg_wal").symlink_to(wal)
    space = server.data_dir.parent / "space with blank"
    space.mkdir(mode=0o700)
    give(space, owner_of(server.data_dir))
    server.start()
    server.query(f"CREATE TABLESPACE elsewhere LOCATION {quoted(str(space))}")
    server.query("CREATE TABLE kept (id bigserial, mark text) TABLESPACE elsewhere")
    server.write(30)
    return server


def packed(capture: Capturing, target: Path) -> Path:
    with target.open("wb") as file:
        for block in archive.stream(capture.folder):
            file.write(block)
    return target


def commands(readme: str) -> str:
    return "\n".join(line for line in readme.splitlines() if line.startswith("  "))


def test_links_of_the_server_are_copied_and_point_inside(stage16: Stage):
    server = linked(stage16)
    with capturing(stage16, server) as capture:
        capture.order()
        capture.until_complete()
        server.write(20)
        server.stop()
        capture.take_the_rest()
        manifest = capture.close()
        assert manifest.wal_link.endswith("elsewhere-wal")
        assert [Path(link.original).name for link in manifest.links] == [
            "space with blank"
        ]
        shutil.rmtree(server.data_dir.parent / "space with blank")
        assert verify_folder(capture.folder, programs=stage16.programs).good
        assert check_opened(capture.folder, stage16.folder, stage16.programs).good
        assert len(capture.ids()) == 50


def test_pins_cover_linked_folders(stage16: Stage):
    server = linked(stage16)
    with capturing(stage16, server) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until("the pin is held", lambda s: s.pin == "held")
        farms = {p.name for p in server.data_dir.parent.glob(".splitguard-pin*")}
        assert len(farms) == 3
        capture.close()
        assert not list(server.data_dir.parent.glob(".splitguard-pin*"))


def test_pins_of_linked_folders_are_released_after_a_wipe(stage16: Stage):
    server = linked(stage16)
    with capturing(stage16, server) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until("the pin is held", lambda s: s.pin == "held")
        capture.until_kept(server.lsn)
    server.stop()
    shutil.rmtree(server.data_dir)
    with capturing(stage16, server) as capture:
        capture.close()
        assert not list(server.data_dir.parent.glob(".splitguard-pin*"))
        assert not (capture.folder / "pin.json").exists()


@pytest.mark.fact("P4")
def test_a_stranger_opens_an_archive_with_tar_and_pg_ctl_alone(stage: Stage):
    server = linked(stage)
    with capturing(stage, server) as capture:
        capture.order()
        capture.until_complete()
        server.write(20)
        server.crash()
        capture.take_the_rest()
        capture.close()
        place = stage.folder / "stranger"
        place.mkdir()
        packed(capture, place / f"{ID}.tar")
        readme = subprocess.check_output(
            ["tar", "-xOf", place / f"{ID}.tar", "README.txt"], text=True
        )
        assert rows_by(commands(readme), stage, place) == 50


def rows_by(script: str, stage: Stage, place: Path) -> int:
    """Do what the README says, word by word, as the servers' user."""
    owner = owner_of(stage.template)
    give(place, owner)
    port = str(free_port())
    script = script.replace("54399", port)
    environment = {"PATH": f"{stage.programs.bin_dir}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", "-euc", script],
        cwd=place, env=environment, check=True, timeout=60, **owner.identity(),
    )  # fmt: skip
    try:
        with psycopg.connect(
            f"host=/tmp port={port} user=postgres dbname=postgres"
        ) as session:
            row = session.execute("SELECT count(*) FROM kept").fetchone()
            assert row is not None
            return int(row[0])
    finally:
        subprocess.run(
            ["pg_ctl", "-D", "copy/data", "-m", "immediate", "stop"],
            cwd=place, env=environment, check=True, **owner.identity(),
        )  # fmt: skip


def test_an_archive_from_elsewhere_is_verified_and_opened(stage16: Stage):
    server = stage16.primary()
    server.write(30)
    with capturing(stage16, server) as capture:
        capture.finished_cold()
        whole = packed(capture, stage16.folder / "whole.tar")
    assert len(ids_in(whole, stage16)) == 30
    unpacked = stage16.folder / "unpacked"
    unpack(whole, unpacked)
    result = verify_folder(unpacked, programs=stage16.programs)
    assert (result.grade, result.problems) == (Grade.COMPLETE, ())

    tampered = whole.with_name("tampered.tar")
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    tampered.write_bytes(content)
    cut = whole.with_name("cut.tar")
    cut.write_bytes(whole.read_bytes()[:-5_000_000])
    for broken in (tampered, cut):
        with (
            pytest.raises(SnapshotError),
            open_copy(broken, stage16.folder, stage16.programs),
        ):
            pass
    assert not list(stage16.folder.glob(".splitguard-open-*"))


@pytest.mark.fact("opening-changes")
def test_opening_does_not_change_the_snapshot(stage16: Stage):
    server = stage16.primary()
    server.write(30)
    with capturing(stage16, server) as capture:
        capture.order()
        capture.until_complete()
        with (
            pytest.raises(SnapshotError, match="no full copy"),
            open_copy(_tail_only(capture), stage16.folder, stage16.programs),
        ):
            pass
        before = sorted(
            (str(path), path.stat().st_mtime_ns)
            for path in (capture.folder / "data").rglob("*")
        )
        assert len(capture.ids()) == 30
        after = sorted(
            (str(path), path.stat().st_mtime_ns)
            for path in (capture.folder / "data").rglob("*")
        )
        assert before == after


def _tail_only(capture: Capturing) -> Path:
    """Make a snapshot that has only the WAL of this one."""
    manifest = capture.manifest
    folder = capture.capture_dir / "tail-only"
    folder.mkdir()
    manifests.write(
        folder,
        replace(manifest, id="tail-only", grade=Grade.NONE, copy_lsn=None, files=()),
    )
    return folder
