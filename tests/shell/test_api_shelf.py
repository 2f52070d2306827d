"""The catalogue on disk, as the API shows it."""

import io
import tarfile
from pathlib import Path

import pytest

from agent.api.shelf import CatalogueShelf
from agent.core.capture import Grade, Level
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.snapshot import manifest as manifests
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import hash_file
from agent.snapshot.manifest import FileEntry, Manifest

SEGMENT = "000000010000000000000003"


@pytest.fixture
def shelf(tmp_path: Path) -> CatalogueShelf:
    """A capture folder with one tail in it."""
    folder = tmp_path / "n1-abc"
    (folder / "wal").mkdir(parents=True)
    segment = folder / "wal" / SEGMENT
    segment.write_bytes(b"w" * 5000)
    entry = FileEntry(f"wal/{SEGMENT}", 5000, hash_file(segment, lambda _: None), 0o600)
    manifests.write(
        folder,
        Manifest(
            id="n1-abc",
            cluster="sim",
            node="n1",
            system_id="7300000000000000001",
            timeline=1,
            lineage=Lineage("7300000000000000001", 1, ()),
            incident_ids=("inc-1",),
            reason="observer-isolated",
            created_wall_s=1_800_000_000.0,
            updated_wall_s=1_800_000_001.0,
            version_num=160014,
            wal_segment_bytes=1 << 24,
            levels=(Level.TAIL,),
            method="",
            grade=Grade.NONE,
            start_lsn=Lsn(0x3000000),
            tail_lsn=Lsn(0x3001000),
            needed_lsn=None,
            incarnation="",
            copy_lsn=None,
            end_lsn=None,
            has_backup_label=False,
            copy_timeline=None,
            wal_link="",
            closed=True,
            size_bytes=5000,
            files=(entry,),
            folders=("wal",),
            links=(),
        ),
    )
    return CatalogueShelf(Catalogue(tmp_path), None)


def test_a_manifest_becomes_a_card(shelf: CatalogueShelf):
    [card] = shelf.list()
    assert shelf.show("n1-abc") == card
    assert (card.grade, card.levels) == ("none", ("tail",))
    assert (card.start_lsn, card.end_lsn) == ("0/3000000", "0/3001000")
    assert (card.bytes, card.files) == (5000, 1)


@pytest.mark.parametrize("name", ["n1-none", "..", "n1/abc", "", "a" * 300])
def test_what_is_no_snapshot_is_none(shelf: CatalogueShelf, name: str):
    assert shelf.show(name) is None


def test_the_archive_is_streamed_from_the_folder(shelf: CatalogueShelf):
    packed = io.BytesIO(b"".join(shelf.archive("n1-abc").stream()))
    with tarfile.open(fileobj=packed) as archive:
        assert {"manifest.json", f"wal/{SEGMENT}"} <= set(archive.getnames())


def test_a_changed_byte_is_found(shelf: CatalogueShelf, tmp_path: Path):
    assert shelf.verify("n1-abc").ok
    (tmp_path / "n1-abc" / "wal" / SEGMENT).write_bytes(b"w" * 4999 + b"x")
    found = shelf.verify("n1-abc")
    assert not found.ok
    assert SEGMENT in found.problems[0]
