"""The user that will run the shim can use what it was written with, or it is said."""

import os
from pathlib import Path

import pytest

from agent.guard.reach import troubles
from agent.guard.shim import Shim

NOBODY = 65534


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder; where the test runs as root, of somebody else."""
    folder = tmp_path / "pgdata"
    folder.mkdir()
    own(folder)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    return folder


def own(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def shim(tmp_path: Path, rescue: Path) -> Shim:
    program = Path("/bin/true")
    return Shim(program, program, tmp_path / "agent.sock", rescue, program)


def test_a_folder_that_the_owner_can_write_to_is_fine(tmp_path: Path, data_dir: Path):
    rescue = tmp_path / "rescue"
    rescue.mkdir(mode=0o700)
    own(rescue)
    assert troubles(shim(tmp_path, rescue), data_dir) == ()
    assert troubles(shim(tmp_path, rescue / "to" / "be" / "made"), data_dir) == ()


def test_a_rescue_folder_that_is_closed_to_the_owner_is_named(
    tmp_path: Path, data_dir: Path
):
    rescue = tmp_path / "rescue"
    rescue.mkdir(mode=0o500)
    own(rescue)
    (said,) = troubles(shim(tmp_path, rescue), data_dir)
    assert f"cannot write to {rescue}" in said
    assert "--rescue" in said


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path):
    (said,) = troubles(shim(tmp_path, tmp_path), tmp_path / "nothing")
    assert str(tmp_path / "nothing") in said
    assert "local.data_dir" in said


def test_root_sees_that_the_owner_cannot_reach_the_command(
    tmp_path: Path, data_dir: Path
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    rescue = tmp_path / "rescue"
    rescue.mkdir()
    own(rescue)
    wanted = shim(tmp_path, rescue)
    wanted = Shim(
        wanted.real, closed / "splitguard", wanted.socket, rescue, wanted.real
    )
    said = " ".join(troubles(wanted, data_dir))
    # Only root installs for another; an ordinary user's own folders are open to it.
    assert ("cannot reach" in said) == (os.geteuid() == 0)
