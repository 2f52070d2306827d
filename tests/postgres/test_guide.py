"""The guide's configuration starts every archive, also of servers set up unusually."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.postgres.owner import give, unprivileged
from tests.capturing import ID, capturing
from tests.fix_postgres import Stage
from tests.postgres.test_capture_archive import commands, packed, rows_by

pytestmark = pytest.mark.postgres
ORIGINS = 20


def with_large_segments(stage: Stage) -> Stage:
    """A stage whose servers have WAL segments of 64 MB."""
    parent = stage.folder / "template"
    parent.mkdir()
    give(parent, unprivileged())
    stage.programs.run(
        ["initdb", "-D", parent / "data", "-U", "postgres", "-A", "trust",
         "--no-sync", "-E", "UTF8", "--locale=C", "--wal-segsize=64"],
        as_owner_of=parent,
    )  # fmt: skip
    return replace(stage, template=parent / "data", servers=stage.servers)


def rows_by_readme(archive: Path, stage: Stage) -> int:
    readme = subprocess.run(
        ["tar", "-xOf", archive, "README.txt"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return rows_by(commands(readme), stage, archive.parent)


@pytest.mark.fact("recorded-limits")
def test_an_archive_of_a_server_with_large_segments_and_many_origins_opens(
    stage: Stage,
):
    """Limits below what pg_wal and pg_logical hold are FATAL at the start."""
    wide = with_large_segments(stage)
    number = {"max_replication_slots": str(ORIGINS)}
    if stage.programs.major >= 18:
        number["max_active_replication_origins"] = str(ORIGINS)
    server = wide.primary("n1", min_wal_size="320MB", max_wal_size="1GB", **number)
    server.write(30)
    for name in range(ORIGINS):
        server.query(f"SELECT pg_replication_origin_create('o{name}')")
        server.query(f"SELECT pg_replication_origin_advance('o{name}', '0/5000000')")
    with capturing(wide, server) as capture:
        capture.order()
        capture.until_complete()
        server.write(20)
        server.crash()
        capture.take_the_rest()
        capture.close()
        place = wide.folder / "stranger"
        place.mkdir()
        archive = packed(capture, place / f"{ID}.tar")
        assert rows_by_readme(archive, wide) == 50


def test_an_archive_without_wal_of_its_own_opens_by_the_same_commands(stage16: Stage):
    """A cold copy whose WAL was taken along in pg_wal has nothing to add."""
    server = stage16.primary()
    server.write(30)
    with capturing(stage16, server) as capture:
        capture.finished_cold()
        place = stage16.folder / "stranger"
        place.mkdir()
        archive = packed(capture, place / f"{ID}.tar")
    unpacked = place / "bare"
    unpacked.mkdir()
    script = f"tar -xf {archive} && mv wal/* data/pg_wal/ && tar -cf {archive} ."
    subprocess.run(["bash", "-euc", script], check=True, cwd=unpacked)
    readme = (unpacked / "README.txt").read_text()
    assert not list((unpacked / "wal").iterdir())
    assert rows_by(commands(readme), stage16, place) == 30
