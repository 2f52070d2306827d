"""Manifests, the catalogue, verification and archives, against whoever meddles."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent import codec
from agent.core.capture import Grade, Level
from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.errors import CaptureError, CatalogueError, SnapshotError
from agent.snapshot import archive
from agent.snapshot import manifest as manifests
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import hash_file, make_folder, write_atomically
from agent.snapshot.manifest import FileEntry, LinkEntry, Manifest
from agent.snapshot.room import Room, floor_bytes, measure
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_and_record, verify_folder

GIB = 1 << 30
EVIL_IDS = (
    "../n1-1", "..", ".", "", "/etc", "n1/../../x", "n1-1/", "n1\0", "-rf", ".hidden",
    "n1-1\n", "a" * 129, "n1 1",
)  # fmt: skip


def make_snapshot(
    capture_dir: Path, snapshot_id: str = "n1-1", created_wall_s: float = 1.0
) -> Manifest:
    """Write a small snapshot: a few files and no WAL that could be checked."""
    folder = capture_dir / snapshot_id
    make_folder(folder / "data" / "base")
    make_folder(folder / "tblspc" / "7")
    contents = {
        "data/PG_VERSION": b"16\n",
        os.fsdecode(b"data/base/not \xff utf-8\n"): b"any name survives",
        "data/base/1": b"x" * 3_000_000,
        "tblspc/7/2": b"",
    }
    for path, content in contents.items():
        write_atomically(folder / path, content)
    make_folder(folder / "data" / "pg_tblspc")
    (folder / "data" / "pg_tblspc" / "7").symlink_to("../../tblspc/7")
    manifest = Manifest(
        id=snapshot_id, cluster="c", node="n1", system_id="1", timeline=2,
        lineage=Lineage(
            "1", 2, (Switch(1, Lsn(7)),), (Fingerprint(2, Lsn(7), "ab"),)
        ),
        incident_ids=("inc-1",), reason="split-brain", created_wall_s=created_wall_s,
        updated_wall_s=2.0, version_num=160014, wal_segment_bytes=16 << 20,
        levels=tuple(Level), method="copy", grade=Grade.CAPTURED, start_lsn=Lsn(1),
        tail_lsn=Lsn(9), copy_lsn=None, needed_lsn=None, end_lsn=None,
        has_backup_label=True, copy_timeline=2, wal_link="", incarnation="1:2:3",
        closed=True, size_bytes=3, folders=("data", "data/base", "data/pg_tblspc"),
        files=tuple(
            FileEntry(path, len(content), hash_file(folder / path), 0o600)
            for path, content in contents.items()
        ),
        links=(LinkEntry("data/pg_tblspc/7", "../../tblspc/7", "/elsewhere"),),
    )  # fmt: skip
    manifests.write(folder, manifest)
    return manifest


def test_a_manifest_comes_back_from_disk_as_it_was(tmp_path: Path):
    written = make_snapshot(tmp_path)
    assert manifests.read(tmp_path / "n1-1") == written


def test_snapshots_are_closed_to_everybody_else(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    for path in (tmp_path / "captures").rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path


def test_the_catalogue_lists_the_newest_first_and_nothing_half_finished(
    tmp_path: Path,
):
    make_snapshot(tmp_path, "n1-old", 1.0)
    make_snapshot(tmp_path, "n1-new", 5.0)
    (tmp_path / "n1-half").mkdir()
    make_snapshot(tmp_path, "n1-garbled")
    (tmp_path / "n1-garbled" / "manifest.json").write_bytes(b'{"id": "n1-garb')
    make_snapshot(tmp_path, "n1-other")
    (tmp_path / "n1-other").rename(tmp_path / "n1-renamed")
    (tmp_path / "n1-link").symlink_to(tmp_path / "n1-old")
    (tmp_path / "a-file").write_text("")
    catalogue = Catalogue(tmp_path)
    assert [found.id for found in catalogue.list()] == ["n1-new", "n1-old"]
    assert [name for name, _ in catalogue.unusable()] == [
        "n1-garbled", "n1-half", "n1-renamed",
    ]  # fmt: skip
    assert all(reason for _, reason in catalogue.unusable())


def test_a_capture_folder_that_is_not_there_is_an_error(tmp_path: Path):
    catalogue = Catalogue(tmp_path / "nothing")
    for ask in (catalogue.list, catalogue.unusable, lambda: catalogue.show("n1-1")):
        with pytest.raises(CatalogueError, match="there is no capture folder"):
            ask()


def test_the_catalogue_sees_a_manifest_that_was_replaced(tmp_path: Path):
    manifest = make_snapshot(tmp_path)
    catalogue = Catalogue(tmp_path)
    assert catalogue.show("n1-1").grade is Grade.CAPTURED
    manifests.raise_grade(tmp_path / "n1-1", manifest, Grade.OPENED)
    assert catalogue.show("n1-1").grade is Grade.OPENED


@pytest.mark.parametrize("evil", EVIL_IDS)
def test_an_id_that_could_lead_elsewhere_is_refused(tmp_path: Path, evil: str):
    make_snapshot(tmp_path)
    make_snapshot(tmp_path / "captures")
    catalogue = Catalogue(tmp_path / "captures")
    for ask in (catalogue.show, catalogue.folder):
        with pytest.raises(SnapshotError, match="not a snapshot id"):
            ask(evil)


def test_an_unknown_id_is_named_in_the_error(tmp_path: Path):
    for ask in (Catalogue(tmp_path).show, Catalogue(tmp_path).folder):
        with pytest.raises(SnapshotError, match="no snapshot n1-2"):
            ask("n1-2")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "data/../../x", "", "manifest.json", "a\0b"]
)
def test_a_manifest_that_names_a_path_outside_is_refused(tmp_path: Path, path: str):
    manifest = make_snapshot(tmp_path)
    evil = replace(manifest, files=(FileEntry(path, 1, "ab", 0o600),))
    manifests.write(tmp_path / "n1-1", evil)
    with pytest.raises(SnapshotError, match="outside"):
        Catalogue(tmp_path).show("n1-1")


@pytest.mark.parametrize("target", ["/etc", "../../../x", "a/../../../../x"])
def test_a_manifest_with_a_link_that_leads_outside_is_refused(
    tmp_path: Path, target: str
):
    manifest = make_snapshot(tmp_path)
    link = LinkEntry("data/pg_tblspc/7", target, "/x")
    manifests.write(tmp_path / "n1-1", replace(manifest, links=(link,)))
    with pytest.raises(SnapshotError, match="leads outside"):
        Catalogue(tmp_path).show("n1-1")


def test_a_manifest_of_another_format_says_what_to_do(tmp_path: Path):
    manifests.write(tmp_path, replace(make_snapshot(tmp_path), format=99))
    with pytest.raises(SnapshotError, match=r"format 99.*use the version"):
        manifests.read(tmp_path)


def test_what_is_as_it_was_is_verified(tmp_path: Path):
    make_snapshot(tmp_path)
    seen: list[tuple[int, int]] = []
    result = verify_folder(tmp_path / "n1-1", lambda *now: seen.append(now))
    assert (result.grade, result.problems) == (Grade.CAPTURED, ())
    assert seen[-1] == (3_000_020, 3_000_020)


def flip(folder: Path) -> None:
    path = folder / "data" / "base" / "1"
    content = bytearray(path.read_bytes())
    content[1_500_000] ^= 1
    path.write_bytes(content)


def exchange_for_link(folder: Path) -> None:
    path = folder / "data" / "base" / "1"
    path.rename(folder / "aside")
    path.symlink_to(folder / "aside")


def point_link_elsewhere(folder: Path) -> None:
    (folder / "data" / "pg_tblspc" / "7").unlink()
    (folder / "data" / "pg_tblspc" / "7").symlink_to("/tmp")


MEDDLING: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (flip, "hash"),
    "a shorter file": (
        lambda folder: os.truncate(folder / "data/base/1", 17),
        "17 bytes instead of 3000000",
    ),
    "a missing file": (lambda folder: (folder / "data/base/1").unlink(), "missing"),
    "a link instead of a file": (exchange_for_link, "link"),
    "a link elsewhere": (point_link_elsewhere, "link"),
    "a file too many": (
        lambda folder: (folder / "data/standby.signal").touch(),
        "not in the manifest",
    ),
    "a file too many in a tablespace": (
        lambda folder: (folder / "tblspc/7/9").touch(),
        "not in the manifest",
    ),
    "a folder of WAL from elsewhere": (
        lambda folder: make_folder(folder / "wal" / "archive_status"),
        "not in the manifest",
    ),
    "a missing folder": (
        lambda folder: (folder / "data/base").rename(folder / "aside"),
        "missing",
    ),
}


@pytest.mark.parametrize("meddling", MEDDLING)
def test_what_was_meddled_with_is_found(tmp_path: Path, meddling: str):
    make_snapshot(tmp_path)
    meddle, expected = MEDDLING[meddling]
    meddle(tmp_path / "n1-1")
    result = verify_folder(tmp_path / "n1-1")
    assert result.grade is Grade.NONE
    assert any(expected in problem for problem in result.problems), result.problems


def test_a_grade_is_raised_and_never_lowered(tmp_path: Path):
    manifest = make_snapshot(tmp_path)
    folder = tmp_path / "n1-1"
    manifests.write(folder, replace(manifest, grade=Grade.OPENED))
    assert verify_and_record(folder).grade is Grade.OPENED
    flip(folder)
    assert verify_and_record(folder).grade is Grade.NONE
    assert manifests.read(folder).grade is Grade.OPENED


def tar_of(folder: Path, target: Path) -> Path:
    target.write_bytes(b"".join(archive.stream(folder)))
    return target


def test_an_archive_gives_back_every_file_whatever_its_name(tmp_path: Path):
    written = make_snapshot(tmp_path)
    tar = tar_of(tmp_path / "n1-1", tmp_path / "it.tar")
    unpack(tar, tmp_path / "back")
    assert manifests.read(tmp_path / "back") == written
    assert verify_folder(tmp_path / "back").problems == ()


def test_an_archive_is_the_same_from_any_byte_on(tmp_path: Path):
    make_snapshot(tmp_path)
    made = archive.Archive(tmp_path / "n1-1")
    whole = b"".join(made.stream())
    assert len(whole) == made.size
    for start in (0, 1, 511, 512, 5000, len(whole) // 2, len(whole) - 1, len(whole)):
        assert b"".join(made.stream(start)) == whole[start:]
    assert archive.Archive(tmp_path / "n1-1").tag == made.tag
    manifests.write(
        tmp_path / "n1-1", replace(made.manifest, updated_wall_s=1_900_000_000.0)
    )
    assert archive.Archive(tmp_path / "n1-1").tag != made.tag


def test_an_archive_always_has_the_folder_that_its_guide_copies_from(tmp_path: Path):
    manifest = make_snapshot(tmp_path)
    bare = replace(
        manifest,
        files=tuple(e for e in manifest.files if not e.path.startswith("wal/")),
        folders=tuple(f for f in manifest.folders if f != "wal"),
    )
    shutil.rmtree(tmp_path / "n1-1" / "wal", ignore_errors=True)
    manifests.write(tmp_path / "n1-1", bare)
    unpack(tar_of(tmp_path / "n1-1", tmp_path / "it.tar"), tmp_path / "back")
    assert (tmp_path / "back" / "wal").is_dir()
    assert verify_folder(tmp_path / "back").problems == ()


def test_an_archive_of_a_file_that_shrank_ends_in_an_error(tmp_path: Path):
    make_snapshot(tmp_path)
    os.truncate(tmp_path / "n1-1/data/base/1", 5)
    with pytest.raises(SnapshotError, match="5 bytes"):
        tar_of(tmp_path / "n1-1", tmp_path / "it.tar")


def evil_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    "member",
    [
        evil_member("../outside"),
        evil_member("/tmp/outside"),
        evil_member("data/../../outside"),
        evil_member("data/link", tarfile.SYMTYPE, "/etc"),
        evil_member("data/link", tarfile.SYMTYPE, "../../outside"),
        evil_member("data/link", tarfile.LNKTYPE, "../../etc/passwd"),
        evil_member("data/pipe", tarfile.FIFOTYPE),
        evil_member("data/device", tarfile.CHRTYPE),
    ],
)
def test_an_archive_that_would_leave_its_folder_is_not_unpacked(
    tmp_path: Path, member: bytes
):
    evil = tmp_path / "evil.tar"
    evil.write_bytes(member)
    with pytest.raises(SnapshotError):
        unpack(evil, tmp_path / "home" / "back")
    assert not (tmp_path / "home" / "back").exists()
    assert not (tmp_path / "home" / "outside").exists()


def test_an_archive_does_not_write_through_its_own_links(tmp_path: Path):
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w", format=tarfile.GNU_FORMAT) as tar:
        link = tarfile.TarInfo("data/base")
        link.type, link.linkname = tarfile.SYMTYPE, "../wal"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("data/base/x"), io.BytesIO())
    with pytest.raises(SnapshotError, match="through a link"):
        unpack(evil, tmp_path / "back")


@pytest.mark.parametrize("keep", [0, 100, 700, 5120, 3_000_000])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, keep: int):
    make_snapshot(tmp_path)
    tar = tar_of(tmp_path / "n1-1", tmp_path / "it.tar")
    os.truncate(tar, keep)
    with pytest.raises(SnapshotError):
        unpack(tar, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def sparse(size: int, form: int) -> bytes:
    """Return an archive whose one file of `size` zeros takes a block."""
    body = (b"1\n%d\n0\n" % size).ljust(512, b"\0")
    info = tarfile.TarInfo("data/x")
    if form == tarfile.PAX_FORMAT:
        info.size = len(body)
        info.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
            "GNU.sparse.name": "data/x", "GNU.sparse.realsize": str(size),
        }  # fmt: skip
    else:
        info.type, body = tarfile.GNUTYPE_SPARSE, b""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=form) as tar:
        tar.addfile(info, io.BytesIO(body))
    raw = bytearray(whole.getvalue())
    if form == tarfile.GNU_FORMAT:
        raw[483:495] = b"%011o\0" % size  # its real size
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_archive_of_a_few_blocks_does_not_fill_the_disk(tmp_path: Path, form: int):
    bomb = tmp_path / "bomb.tar"
    bomb.write_bytes(sparse(3 * GIB, form))
    with pytest.raises(SnapshotError, match="more than it holds"):
        unpack(bomb, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_room_counts_the_missing_bytes(tmp_path: Path):
    with pytest.raises(CaptureError, match=r"\d+ bytes are missing.*capture.dir"):
        Room(tmp_path, floor_bytes=1 << 60).check(10, "the full copy")
    Room(tmp_path, floor_bytes=0).check(10, "the full copy")


def test_the_tail_may_use_half_of_the_floor(tmp_path: Path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    room = Room(tmp_path, floor_bytes=free + GIB // 4)
    with pytest.raises(CaptureError):
        room.check(0, "the full copy")
    room.check_tail(0)


@pytest.mark.parametrize(
    ("volume", "max_wal", "floor"),
    [
        (1000 * GIB, GIB, 50 * GIB),
        (20 * GIB, GIB, 2 * GIB),
        (10 * GIB, GIB, GIB),
    ],
)
def test_the_floor_of_a_shared_volume(volume: int, max_wal: int, floor: int):
    assert floor_bytes(volume, max_wal) == floor


def test_a_volume_of_its_own_needs_no_floor(tmp_path: Path):
    shared = measure(tmp_path, [tmp_path.parent, tmp_path / "gone"], GIB)
    alone = measure(tmp_path, [Path("/proc")], GIB)
    assert alone.floor_bytes < shared.floor_bytes


def test_the_manifest_is_plain_json_that_a_person_can_read(tmp_path: Path):
    manifest = make_snapshot(tmp_path)
    text = (tmp_path / "n1-1" / "manifest.json").read_text("ascii")
    assert '"tail_lsn":"0/9"' in text
    assert codec.from_json(text, Manifest) == manifest
