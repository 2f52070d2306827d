"""The shelf of managers' snapshots: what is listed is whole, what is not is not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from agent.errors import ManagerError
from agent.snapshot.sealing import Seal, seal
from agent.vnfm.kept import Kept
from agent.vnfm.shelf import Shelf

CONTENT = b"PK" + bytes(range(256)) * 400


def kept_as(name: str, stored: bytes, *, sealed: bool = False, at: float = 1e9) -> Kept:
    """A manifest of CONTENT."""
    return Kept(
        id=name,
        node="a",
        manager="127.0.0.1:80",
        version="4.5.5",
        archive_format="legacy",
        reason="schedule",
        scheduled=True,
        incident_ids=("i-1",),
        capture_id="",
        execution_id="e",
        created_wall_s=at,
        kept_wall_s=at,
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        file=f"{name}.zip.age" if sealed else f"{name}.zip",
        stored_bytes=len(stored),
        stored_sha256=hashlib.sha256(stored).hexdigest(),
        sealed=sealed,
        members=3,
        counts={"deployments": 2},
        cluster="c",
    )


def put(
    shelf: Shelf,
    name: str,
    stored: bytes = CONTENT,
    *,
    sealed: bool = False,
    at: float = 1e9,
) -> Kept:
    """File a snapshot."""
    kept = kept_as(name, stored, sealed=sealed, at=at)
    (shelf.begin(name) / kept.file).write_bytes(stored)
    shelf.put(kept)
    return kept


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty one, whose folder is not there yet."""
    return Shelf(tmp_path / "shelf")


def test_what_is_put_is_listed_newest_first_and_private(shelf: Shelf):
    assert shelf.list() == ()
    first = put(shelf, "sg-a-1", at=1e9)
    second = put(shelf, "sg-a-2", at=2e9)
    assert shelf.list() == (second, first)
    assert shelf.show("sg-a-1") == first
    assert shelf.archive("sg-a-1").read_bytes() == CONTENT
    assert shelf.check("sg-a-1") == ()
    assert shelf.place.stat().st_mode & 0o777 == 0o700
    assert (shelf.place / "sg-a-1").stat().st_mode & 0o777 == 0o700


def test_what_lost_its_archive_is_listed_and_is_no_good_one(shelf: Shelf):
    good = put(shelf, "sg-a-1", at=1e9)
    put(shelf, "sg-a-2", at=2e9)
    put(shelf, "sg-a-3", at=3e9)
    shelf.archive("sg-a-2").unlink()
    shelf.archive("sg-a-3").write_bytes(CONTENT[:-1])
    assert len(shelf.list()) == 3
    assert shelf.sound() == (good,)


def test_what_was_begun_is_not_listed_and_swept_away_at_the_start(shelf: Shelf):
    folder = shelf.begin("sg-a-1")
    (folder / "sg-a-1.zip").write_bytes(CONTENT)
    assert shelf.list() == ()
    assert shelf.unusable() == ()
    with pytest.raises(ManagerError, match="no manager's snapshot sg-a-1 is kept"):
        shelf.show("sg-a-1")
    assert shelf.sweep() == ("sg-a-1",)
    assert list(shelf.place.iterdir()) == []


def test_what_was_begun_again_begins_empty(shelf: Shelf):
    (shelf.begin("sg-a-1") / "left").write_text("x")
    assert list(shelf.begin("sg-a-1").iterdir()) == []
    shelf.give_up("sg-a-1")
    assert list(shelf.place.iterdir()) == []


def test_nothing_is_made_over_what_is_kept(shelf: Shelf):
    put(shelf, "sg-a-1")
    with pytest.raises(ManagerError, match="kept already"):
        shelf.begin("sg-a-1")
    assert shelf.check("sg-a-1") == ()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".making-x", "1a", "a" * 201])
def test_an_id_never_leads_elsewhere(shelf: Shelf, name: str):
    with pytest.raises(ManagerError, match="not an id"):
        shelf.show(name)
    with pytest.raises(ManagerError, match="not an id"):
        shelf.begin(name)


def test_a_garbled_manifest_is_named_and_not_listed(shelf: Shelf):
    put(shelf, "sg-a-1")
    (shelf.place / "sg-a-1" / "manifest.json").write_text("{")
    assert shelf.list() == ()
    assert [name for name, _ in shelf.unusable()] == ["sg-a-1"]


def test_a_manifest_of_another_folder_or_a_strange_file_is_refused(shelf: Shelf):
    kept = put(shelf, "sg-a-1")
    (shelf.place / "sg-a-1").rename(shelf.place / "sg-a-2")
    assert shelf.list() == ()
    path = shelf.place / "sg-a-2" / "manifest.json"
    plain = json.loads(path.read_text()) | {"id": "sg-a-2", "file": "../../x"}
    path.write_text(json.dumps(plain))
    assert shelf.list() == ()
    assert kept.id == "sg-a-1"


def test_a_byte_that_changed_on_the_disk_is_found(shelf: Shelf, tmp_path: Path):
    put(shelf, "sg-a-1")
    path = shelf.archive("sg-a-1")
    path.write_bytes(CONTENT[:-1] + b"!")
    assert shelf.check("sg-a-1") == (f"{path} is not what was kept",)
    target = tmp_path / "out.zip"
    with pytest.raises(ManagerError, match="not what came off the manager"):
        shelf.take_out("sg-a-1", target)
    assert not target.exists()


def test_it_is_taken_out_decrypted_with_the_right_key_alone(
    shelf: Shelf, tmp_path: Path
):
    key = pyrage.x25519.Identity.generate()
    how = Seal(recipients=(str(key.to_public()),))
    stored = b"".join(seal(iter([CONTENT]), how))
    put(shelf, "sg-a-1", stored, sealed=True)
    target = tmp_path / "out.zip"
    with pytest.raises(ManagerError, match="is encrypted"):
        shelf.take_out("sg-a-1", target)
    with pytest.raises(ManagerError, match="somebody else"):
        shelf.take_out("sg-a-1", target, (pyrage.x25519.Identity.generate(),))
    assert not target.exists()
    assert shelf.take_out("sg-a-1", target, (key,)).id == "sg-a-1"
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o600


def test_nothing_that_is_there_is_overwritten_by_what_is_taken_out(
    shelf: Shelf, tmp_path: Path
):
    put(shelf, "sg-a-1")
    target = tmp_path / "out.zip"
    target.write_text("mine")
    with pytest.raises(ManagerError, match="File exists"):
        shelf.take_out("sg-a-1", target)
    assert target.read_text() == "mine"


def test_a_removal_is_recorded_with_reason(shelf: Shelf):
    kept = put(shelf, "sg-a-1")
    shelf.remove("sg-a-1", "splitguard", "more than 7 days", 1e9)
    assert [path.name for path in shelf.place.iterdir()] == ["removed.jsonl"]
    line = json.loads((shelf.place / "removed.jsonl").read_text())
    assert (line["id"], line["reason"]) == ("sg-a-1", "more than 7 days")
    assert line["sha256"] == kept.sha256
    assert shelf.list() == ()


def test_a_manifest_can_be_renewed(shelf: Shelf):
    kept = put(shelf, "sg-a-1")
    shelf.renew(replace(kept, removed_there=True))
    assert shelf.show("sg-a-1").removed_there
