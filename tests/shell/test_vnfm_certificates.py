"""The certificate folders of a manager's machine: read as they are, nothing trusted."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from agent.vnfm import certificates
from agent.vnfm.certificates import gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as an installer leaves it."""
    made = tmp_path / "etc" / "ssl"
    made.mkdir(parents=True)
    (made / "internal_ca.pem").write_text("CA")
    (made / "internal_key.pem").write_text("KEY")
    (made / "internal_key.pem").chmod(0o440)
    (made / "sub").mkdir(mode=0o750)
    (made / "sub" / "more.pem").write_text("MORE")
    (made / "link.pem").symlink_to("internal_ca.pem")
    return made


def members(tar: bytes) -> dict[str, tarfile.TarInfo]:
    """What lies in it."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {one.name: one for one in opened}


def test_files_folders_and_links_are_kept_with_owner_and_mode(folder: Path):
    found = gather([folder])
    assert found.problems == ()
    inside = members(found.tar)
    root = str(folder).lstrip("/")
    assert set(inside) == {
        root, f"{root}/internal_ca.pem", f"{root}/internal_key.pem",
        f"{root}/link.pem", f"{root}/sub", f"{root}/sub/more.pem",
    }  # fmt: skip
    key = inside[f"{root}/internal_key.pem"]
    assert (key.mode, key.uid, key.gid) == (0o440, os.geteuid(), os.getegid())
    assert inside[f"{root}/sub"].mode == 0o750
    assert inside[f"{root}/link.pem"].linkname == "internal_ca.pem"
    told = {one.path: one for one in found.files}
    noted = told[str(folder / "internal_key.pem")]
    assert noted.mode == 0o440
    assert noted.sha256 == hashlib.sha256(b"KEY").hexdigest()
    assert told[str(folder / "link.pem")].link == "internal_ca.pem"


def test_a_link_out_of_the_folder_is_named_and_not_followed(
    folder: Path, tmp_path: Path
):
    (tmp_path / "secret").write_text("elsewhere")
    (folder / "out.pem").symlink_to("../../secret")
    (folder / "sub" / "up.pem").symlink_to("../internal_ca.pem")
    found = gather([folder])
    assert found.problems == (
        f"{folder / 'out.pem'} is a link that leads to ../../secret: not kept",
    )
    assert b"elsewhere" not in found.tar
    assert str(folder / "sub" / "up.pem") in {one.path for one in found.files}


def test_links_that_lead_in_a_circle_stop_nothing(folder: Path):
    (folder / "a.pem").symlink_to("b.pem")
    (folder / "b.pem").symlink_to("a.pem")
    found = gather([folder])
    kept = {Path(one.path).name for one in found.files}
    assert {"internal_key.pem", "more.pem", "a.pem", "b.pem"} <= kept


def test_what_cannot_be_read_is_named_and_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    real = os.open

    def refusing(path: object, *more: object) -> int:
        if str(path).endswith("internal_key.pem"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(os, "open", refusing)
    found = gather([folder])
    assert found.problems == (
        f"{folder / 'internal_key.pem'} cannot be read: Permission denied",
    )
    assert str(folder / "sub" / "more.pem") in {one.path for one in found.files}


def test_a_pipe_does_not_hang_and_a_huge_file_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    os.mkfifo(folder / "pipe")
    monkeypatch.setattr(certificates, "FILE_BYTES_MAX", 1000)
    (folder / "huge").write_bytes(b"x" * 1001)
    (folder / "large").write_bytes(b"x" * 1000)
    found = gather([folder])
    assert found.problems == (
        f"{folder / 'huge'} is larger than 1000 bytes: not kept",
        f"{folder / 'pipe'} is neither file nor folder",
    )
    assert str(folder / "large") in {one.path for one in found.files}


def test_number_size_and_depth_are_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(certificates, "TOTAL_BYTES_MAX", 6)
    assert gather([folder]).problems == (
        f"{folder / 'sub' / 'more.pem'}: more than 6 bytes: not kept",
    )
    monkeypatch.setattr(certificates, "ENTRIES_MAX", 2)
    assert gather([folder]).problems == (f"{folder} has more than 2 entries",)
    monkeypatch.undo()
    monkeypatch.setattr(certificates, "DEPTH_MAX", 1)
    assert gather([folder]).problems == (f"{folder / 'sub'} lies too deep",)


def test_one_of_the_two_folders_is_enough_and_none_is_a_problem(
    folder: Path, tmp_path: Path
):
    missing = tmp_path / "files" / "ssl"
    assert gather([missing, folder]).problems == ()
    nothing = gather([missing])
    assert nothing.tar == b""
    assert nothing.problems == (f"certificates: there is no {missing}",)
    assert gather([]).problems == ()


def test_a_file_in_place_of_a_folder_is_named(folder: Path):
    path = folder / "internal_ca.pem"
    assert gather([path]).problems == (f"{path} is no folder",)
