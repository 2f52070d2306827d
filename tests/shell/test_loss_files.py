"""Files of rows, and the folder beside a snapshot's copy that they lie in."""

import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import codec
from agent.core.capture import Grade, Level
from agent.core.lineage import Fork, Lineage
from agent.core.lsn import Lsn
from agent.divergence import besides, shelf
from agent.divergence.extracted import (
    DatabaseRows,
    Extraction,
    TableRows,
    Transactions,
    Unread,
)
from agent.divergence.model import (
    Column,
    Difference,
    DifferenceKind,
    Name,
    Relation,
    Table,
)
from agent.divergence.rowfiles import (
    DifferenceWriter,
    KeptRow,
    RowWriter,
    read_back,
    read_differences,
    read_rows,
)
from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.archive import Archive
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import hash_file, make_folder, write_atomically
from agent.snapshot.manifest import FileEntry, Manifest
from agent.snapshot.removal import remove
from agent.snapshot.verify import verify_folder

TEXTS = st.text(st.characters(codec="utf-8")) | st.binary().map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
VALUES = st.lists(st.none() | TEXTS, max_size=5).map(tuple)
PLACES = st.integers(1, (1 << 48) - 1)
XIDS = st.integers(3, (1 << 32) - 1)
ROWS = st.builds(
    KeptRow, PLACES, st.none() | PLACES, st.none() | XIDS, VALUES
) | st.builds(KeptRow, st.none(), PLACES, st.none(), st.none() | VALUES)
DIFFERENCES = st.builds(
    Difference,
    st.sampled_from(DifferenceKind),
    *(st.none() | VALUES,) * 3,
    st.none() | XIDS,
    st.none() | VALUES,
    TEXTS,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_rows(path: Path, rows: list[KeptRow]) -> RowWriter:
    with RowWriter(path) as writer:
        for row in rows:
            writer.write(row)
    return writer


@settings(max_examples=40)
@given(rows=st.lists(ROWS), differences=st.lists(DIFFERENCES))
def test_whatever_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[KeptRow],
    differences: list[Difference],
):
    folder = tmp_path_factory.mktemp("rows")
    written = write_rows(folder / "rows", rows).written
    assert list(read_rows(folder / "rows")) == rows
    assert read_back(folder / "rows") == written
    with DifferenceWriter(folder / "differences") as writer:
        for each in differences:
            writer.write(each)
    assert list(read_differences(folder / "differences")) == differences
    assert read_back(folder / "differences") == writer.written


def test_any_program_that_knows_zstd_and_json_reads_the_rows(tmp_path: Path):
    write_rows(
        tmp_path / "rows",
        [
            KeptRow(65537, None, 731, ("ä\n", None, "\udcff")),
            KeptRow(None, 9, None, None),
        ],
    )
    raw = zstandard.ZstdDecompressor().decompressobj()
    lines = (
        raw.decompress((tmp_path / "rows").read_bytes()).decode("ascii").splitlines()
    )
    assert [json.loads(line) for line in lines] == [
        ["row", 65537, None, 731, ["ä\n", None, "\udcff"]],
        ["gone", 9, None],
    ]


def test_a_row_longer_than_any_block_is_one_line(tmp_path: Path):
    rows = [KeptRow(place, None, 7, ("x" * 3_000_000,)) for place in (1, 2)]
    written = write_rows(tmp_path / "rows", rows).written
    assert written is not None
    assert written.lines == 2
    assert list(read_rows(tmp_path / "rows")) == rows


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "rows"
    write_rows(path, [KeptRow(1, None, 7, ("old",))])

    def fail() -> None:
        with RowWriter(path) as writer:
            writer.row(2, None, 7, ("new",))
            raise RuntimeError("the server went away")

    with pytest.raises(RuntimeError):
        fail()
    assert [row.values for row in read_rows(path)] == [("old",)]
    assert names_in(tmp_path) == ["rows"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + b"x",
        lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
        lambda raw: b"",
        lambda raw: b"no zstd at all",
        lambda raw: zstandard.compress(b'["row",1,null,7,["x"]]'),
        lambda raw: zstandard.compress(b'["row",1,null,7,[1]]\n'),
        lambda raw: zstandard.compress(b'["row",1,null,"7",["x"]]\n'),
        lambda raw: zstandard.compress(b'["other",1]\n{"a":1}\n'),
        lambda raw: zstandard.compress(b"[" * 100_000 + b"\n"),
        lambda raw: zstandard.compress(b"\xff\n"),
    ],
)
def test_a_file_that_was_changed_is_an_error_that_names_it(tmp_path: Path, spoil):
    path = tmp_path / "rows"
    write_rows(path, [KeptRow(n, None, 7, (str(n) * 9,)) for n in range(1, 99)])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SnapshotError, match=str(path)):
        list(read_rows(path))


MEMORY = """
import resource, sys
from pathlib import Path
from agent.divergence.rowfiles import RowWriter, read_rows
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
before = peak()
with RowWriter(path) as writer:
    for place in range(50_000):
        writer.row(place, None, 7, ("the same all over " * 70,))
assert sum(1 for _ in read_rows(path)) == 50_000
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    # Fifty megabytes, alike, so that a few bytes on disk stand for many.
    told = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "rows"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert int(told.stdout) < 32 << 10  # KiB


def extraction_of(folder: Path) -> Extraction:
    """Write rows of one table, and return the record of them."""
    table = Table(
        16384, Name("public", "t"), Relation(1663, 5, 16384),
        (Column("id", "integer", not_null=True),), ("id",),
    )  # fmt: skip
    name = shelf.rows_name(5, 16384)
    writer = write_rows(folder / name, [KeptRow(1, None, 731, ("1",))])
    written = writer.close()
    rows = TableRows(
        table, 1, 0, 0, whole=False, reason="", file=name, size=written.size,
        sha256=written.sha256, first_s=1.0, last_s=1.0,
    )  # fmt: skip
    return Extraction(
        "n1-1", "n1", "7", 160014, Fork(1, Lsn(7)), Lsn(9), 2.0,
        (DatabaseRows(5, "postgres", "UTF8", (rows,), (Name("public", "s"),)),),
        Transactions(1, 0, 1, 0, 1.0, 1.0), (Unread("table x", "it is unlogged"),),
        fork_next_xid=731,
    )  # fmt: skip


def snapshot_in(capture_dir: Path) -> Path:
    """Write the smallest snapshot there is."""
    folder = capture_dir / "n1-1"
    make_folder(folder / "wal")
    write_atomically(folder / "wal" / "00000001.history", b"x")
    entry = FileEntry(
        "wal/00000001.history", 1, hash_file(folder / "wal/00000001.history"), 0o600
    )
    manifest = Manifest(
        id="n1-1", cluster="c", node="n1", system_id="7", timeline=1,
        lineage=Lineage("7", 1, ()), incident_ids=(), reason="", created_wall_s=1.0,
        updated_wall_s=2.0, version_num=160014, wal_segment_bytes=16 << 20,
        levels=(Level.TAIL,), method="", grade=Grade.NONE, start_lsn=Lsn(1),
        tail_lsn=Lsn(9), copy_lsn=None, needed_lsn=None, end_lsn=None,
        has_backup_label=False, copy_timeline=None, wal_link="", incarnation="",
        closed=True, size_bytes=1, folders=(), files=(entry,), links=(),
    )  # fmt: skip
    manifests.write(folder, manifest)
    return folder


def kept_in(snapshot: Path) -> Extraction:
    with shelf.renewed(snapshot) as folder:
        made = extraction_of(folder)
        shelf.write_extraction(folder, made)
    return made


def test_rows_lie_in_the_snapshot_and_nothing_takes_offence(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    before = Archive(snapshot)
    assert shelf.read_extraction(shelf.folder_of(snapshot)) is None
    made = kept_in(snapshot)
    folder = shelf.folder_of(snapshot)
    assert shelf.read_extraction(folder) == made
    assert shelf.problems(folder, made) == ()
    assert verify_folder(snapshot).problems == ()
    catalogue = Catalogue(tmp_path)
    assert [each.id for each in catalogue.list()] == ["n1-1"]
    assert catalogue.unusable() == ()
    # It is made again from what an archive holds, and so stays out of it.
    assert Archive(snapshot).tag == before.tag
    (tmp_path / "a.tar").write_bytes(b"".join(Archive(snapshot).stream()))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert not [name for name in tar.getnames() if "loss" in name]
    remove(catalogue, "n1-1", "somebody", "no more needed", 3.0)
    assert not snapshot.exists()


def test_the_folder_is_closed_to_everybody_else(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    kept_in(snapshot)
    for path in shelf.folder_of(snapshot).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_extraction_that_fails_leaves_the_one_before(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    made = kept_in(snapshot)

    def fail() -> None:
        with shelf.renewed(snapshot) as folder:
            (folder / "half").write_text("")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert shelf.read_extraction(shelf.folder_of(snapshot)) == made
    assert names_in(snapshot) == ["loss", "manifest.json", "wal"]


@pytest.mark.parametrize("step", ["while writing", "between renames", "before removal"])
def test_what_a_killed_process_left_is_mended(tmp_path: Path, step: str):
    snapshot = snapshot_in(tmp_path)
    made = kept_in(snapshot)
    if step == "between renames":
        (snapshot / "loss").rename(snapshot / "loss.old")
    elif step == "before removal":
        (snapshot / "loss.old").mkdir()
    (snapshot / "loss.new").mkdir()
    shelf.mend(snapshot)
    assert shelf.read_extraction(shelf.folder_of(snapshot)) == made
    assert names_in(snapshot) == ["loss", "manifest.json", "wal"]


def test_two_never_write_one_snapshots_rows_at_one_time(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    with (
        shelf.alone(snapshot),
        pytest.raises(SnapshotError, match=r"n1-1 are being read"),
        shelf.alone(snapshot),
    ):
        pass
    with shelf.alone(snapshot):
        kept_in(snapshot)


def test_a_new_extraction_drops_what_was_made_of_the_old_one(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    kept_in(snapshot)
    (shelf.folder_of(snapshot) / "report.json").write_text("{}")
    made = kept_in(snapshot)
    assert not (shelf.folder_of(snapshot) / "report.json").exists()
    assert shelf.read_extraction(shelf.folder_of(snapshot)) == made


def test_files_that_are_missing_or_changed_are_named(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    made = kept_in(snapshot)
    folder = shelf.folder_of(snapshot)
    path = folder / shelf.rows_name(5, 16384)
    write_rows(path, [KeptRow(1, None, 731, ("2",))])
    assert shelf.problems(folder, made) == (
        "rows/5-16384.jsonl.zst is not what was written: it was changed",
    )
    path.unlink()
    (problem,) = shelf.problems(folder, made)
    assert "No such file" in problem


@pytest.mark.parametrize("file", ["../../x", "/etc/passwd", "rows/../x", "rows/1-1"])
def test_a_record_that_leads_elsewhere_is_refused(tmp_path: Path, file: str):
    snapshot = snapshot_in(tmp_path)
    made = kept_in(snapshot)
    (database,) = made.databases
    (table,) = database.tables
    evil = replace(
        made, databases=(replace(database, tables=(replace(table, file=file),)),)
    )
    shelf.write_extraction(shelf.folder_of(snapshot), evil)
    with pytest.raises(SnapshotError, match="foreign file"):
        shelf.read_extraction(shelf.folder_of(snapshot))


def test_a_record_of_another_format_or_none_is_refused(tmp_path: Path):
    snapshot = snapshot_in(tmp_path)
    made = kept_in(snapshot)
    folder = shelf.folder_of(snapshot)
    shelf.write_extraction(folder, replace(made, format=2))
    with pytest.raises(SnapshotError, match="format 2"):
        shelf.read_extraction(folder)
    (folder / "extraction.json").write_text(codec.to_json(made)[:-5])
    with pytest.raises(SnapshotError, match="garbled"):
        shelf.read_extraction(folder)


def test_what_was_gathered_beside_rows_is_read_in_our_format_only(tmp_path: Path):
    assert besides.load(tmp_path) == besides.Besides()
    gathered = besides.Besides(gaps=(Unread("roles", "it was away"),))
    besides.save(gathered, tmp_path)
    assert besides.load(tmp_path) == gathered
    path = tmp_path / besides.NAME
    text = path.read_text()
    path.write_text(text.replace('"format":1', '"format":2'))
    with pytest.raises(SnapshotError, match="has format 2, this version reads 1"):
        besides.load(tmp_path)
    path.write_text(text.replace(',"format":1', ""))  # as it was before it had a number
    assert besides.load(tmp_path) == gathered
