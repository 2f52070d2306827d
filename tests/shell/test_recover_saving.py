"""Certificates on their way to a safe place: whole, closed, and never overwritten."""

import io
import tarfile
from pathlib import Path

import pyrage
import pytest

from agent.errors import ManagerError
from agent.vnfm.recovery.saving import (
    same_as,
    save_certificates,
    saved_for,
    unpacking,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "etc" / "ssl"
    folder.mkdir(parents=True)
    (folder / "cloudify_internal_ca_key.pem").write_text("a private key")
    (folder / "cloudify_internal_ca_key.pem").chmod(0o440)
    return folder


@pytest.fixture
def to(tmp_path: Path) -> Path:
    to = tmp_path / "safe"
    to.mkdir()
    return to


def test_folders_are_saved_with_owner_and_mode_and_closed_to_others(
    folder: Path, to: Path
) -> None:
    saved = save_certificates((folder,), to, "n1", ())
    assert saved.path == to / "n1-certificates.tar"
    assert saved.path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(saved.path) as archive:
        [member] = [one for one in archive if one.isfile()]
    assert member.name == str(folder / "cloudify_internal_ca_key.pem").lstrip("/")
    assert member.mode == 0o440
    assert saved_for(to, "n1") == (saved.path, "")
    assert [path.name for path in to.iterdir()] == ["n1-certificates.tar"]


def test_for_a_recipient_they_are_encrypted(folder: Path, to: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    saved = save_certificates((folder,), to, "n1", (str(key.to_public()),))
    assert saved.encrypted
    content = saved.path.read_bytes()
    assert b"a private key" not in content
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(content, [key]))) as archive:
        assert [one.name for one in archive if one.isfile()]
    assert saved_for(to, "n1") == (saved.path, "")


def test_what_is_there_already_is_not_overwritten(folder: Path, to: Path) -> None:
    path = to / "n1-certificates.tar"
    path.write_bytes(b"of last year")
    with pytest.raises(ManagerError, match="is there already, and is not overwritten"):
        save_certificates((folder,), to, "n1", ())
    assert path.read_bytes() == b"of last year"
    assert list(to.iterdir()) == [path]


def test_nothing_to_save_is_said(tmp_path: Path, to: Path) -> None:
    with pytest.raises(ManagerError, match="there is no"):
        save_certificates((tmp_path / "none",), to, "n1", ())
    assert list(to.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManagerError, match="No such file or directory"):
        save_certificates((folder,), tmp_path / "gone", "n1", ())


def test_what_a_person_brought_must_open(to: Path) -> None:
    assert saved_for(to, "n2") == (None, f"there is no {to}/n2-certificates.tar")
    path = to / "n2-certificates.tar"
    path.write_bytes(b"")
    assert "is no archive that opens" in saved_for(to, "n2")[1]
    path.write_bytes(b"x" * 2048)
    assert "is no archive that opens" in saved_for(to, "n2")[1]
    with tarfile.open(path, "w"):
        pass
    assert "holds no file" in saved_for(to, "n2")[1]
    with tarfile.open(to / "n2-certificates.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("etc/cloudify/ssl/ca.pem"))
    assert saved_for(to, "n2")[0] == to / "n2-certificates.tar.gz"


def test_files_of_another_machine_under_a_nodes_name_are_noticed(
    folder: Path, to: Path
) -> None:
    nodes = ("n1", "n2", "n3")
    save_certificates((folder,), to, "n1", ())
    assert same_as(to, "n1", nodes) == ""
    save_certificates((folder,), to, "n2", ())
    assert same_as(to, "n2", nodes) == "n1"
    (folder / "cloudify_internal_ca_key.pem").chmod(0o600)
    (folder / "cloudify_internal_ca_key.pem").write_text("another key")
    save_certificates((folder,), to, "n3", ())
    assert same_as(to, "n3", nodes) == ""


def test_it_is_said_how_what_was_saved_is_unpacked(to: Path) -> None:
    assert f"Bring {to}/a.tar there" in unpacking(to / "a.tar")
    assert "`tar -C / -xf FILE`" in unpacking(to / "a.tar")
    assert "age -d -i KEYFILE FILE | tar -C / -x" in unpacking(to / "a.tar.age")
