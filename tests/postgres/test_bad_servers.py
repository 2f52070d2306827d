"""Folders that are no server's, or another one's, or not what they seem."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.capture import Grade, Level, Phase
from agent.core.observation import ServerFacts
from agent.postgres.control import read_control
from agent.postgres.reader import DiskReader
from agent.snapshot.verify import verify_folder
from tests.capturing import Capturing, capturing
from tests.fix_postgres import Stage, copy_tree, make_template

pytestmark = pytest.mark.postgres


def fingerprint(folder: Path) -> dict[str, tuple[object, ...]]:
    """Names, contents, modes, owners and times of all that lies below a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        seen = path.lstat()
        content = b"" if not path.is_file() else path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = (
            digest, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns,
        )  # fmt: skip
    return found


def refused(capture: Capturing) -> str:
    """Why the capture does not go on; nothing of it is listed as good."""
    failed = capture.until("it is refused", lambda s: s.phase is Phase.FAILED)
    assert failed.grade is Grade.NONE
    assert failed.tail_lsn is None
    assert capture.catalogue.list() == ()
    return failed.reason


def test_a_capture_changes_nothing_of_a_stopped_server(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    primary.crash()
    before = fingerprint(primary.data_dir)
    with capturing(stage16, primary) as capture:
        capture.order()
        capture.take_the_rest()
        capture.close()
    assert fingerprint(primary.data_dir) == before
    assert primary.start().rows() == 30


@pytest.mark.parametrize("what", ["empty", "other files", "no control file", "a file"])
def test_a_folder_that_is_no_data_directory_is_refused_and_left_alone(
    stage16: Stage, what: str
):
    server = stage16.server("n1")
    if what in {"empty", "other files", "a file"}:
        shutil.rmtree(server.data_dir)
    if what == "a file":
        server.data_dir.write_text("not a folder")
    elif what in {"empty", "other files"}:
        server.data_dir.mkdir()
    if what == "other files":
        (server.data_dir / "letter.txt").write_text("not a database")
    if what == "no control file":
        (server.data_dir / "global" / "pg_control").unlink()
    before = fingerprint(server.data_dir.parent)
    with capturing(stage16, server) as capture:
        capture.order()
        reason = refused(capture)
        assert str(server.data_dir) in reason
        assert "data" in reason
    assert fingerprint(server.data_dir.parent) == before


def test_a_capture_is_not_gone_on_with_on_another_system(
    stage16: Stage,
):
    primary = stage16.primary()
    primary.write(30)
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        primary.stop()
        capture.take_the_rest()
    kept = fingerprint(capture.folder / "data")
    _, strange = make_template("16", stage16.folder)
    assert read_control(strange).system_id != read_control(stage16.template).system_id
    shutil.rmtree(primary.data_dir)
    copy_tree(strange, primary.data_dir)
    with capturing(stage16, primary) as again:
        again.order(Level.TAIL, Level.FULL)
        closed = again.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        assert "nothing more is added" in closed.reason
        assert fingerprint(again.folder / "data") == kept
        assert verify_folder(again.folder, programs=stage16.programs).good
        assert len(again.ids()) == 30


def test_a_running_server_without_its_pid_file_is_not_taken_for_a_stopped_one(
    stage16: Stage,
):
    primary = stage16.primary()
    primary.write(30)
    pid_file = primary.data_dir / "postmaster.pid"
    content = pid_file.read_bytes()
    pid_file.unlink()
    found = DiskReader(primary.data_dir, primary.programs.bin_dir).read()
    assert isinstance(found, ServerFacts)
    assert found.running
    assert found.end_lsn is None
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_kept(primary.lsn)
        assert capture.statuses[-1].grade is Grade.NONE
        pid_file.write_bytes(content)
        stat = primary.data_dir.stat()
        os.chown(pid_file, stat.st_uid, stat.st_gid)
        assert capture.until_complete().method == "copy"


@pytest.mark.apart(small="512m", plain=True)
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_file_that_cannot_be_read_is_named_and_no_copy_is_listed(
    stage16: Stage, small_disk: Path, state: str
):
    primary = replace(stage16, folder=small_disk).primary()
    primary.write(30)
    closed = primary.data_dir / "base" / "1" / "1259"
    if state == "stopped":
        primary.stop()
    closed.chmod(0)
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        failed = capture.until("it says why", lambda s: s.phase is Phase.FAILED)
        assert str(closed) in failed.reason
        assert "Permission denied" in failed.reason
        assert failed.grade is Grade.NONE
        assert [one.grade for one in capture.catalogue.list()] == [Grade.NONE]
        assert not (capture.folder / "data").exists()
        assert closed.stat().st_mode & 0o777 == 0
        closed.chmod(0o600)
        capture.order(confirmed=failed.tail_lsn)
        capture.until("it is complete", lambda s: s.grade is Grade.COMPLETE)


@pytest.mark.apart(small="512m", plain=True)
def test_a_data_directory_that_is_closed_to_the_agent_says_so(
    stage16: Stage, small_disk: Path
):
    server = replace(stage16, folder=small_disk).server("n1")
    server.data_dir.chmod(0)
    with capturing(stage16, server) as capture:
        capture.order()
        reason = refused(capture)
        assert str(server.data_dir) in reason
        assert "owner" in reason
    server.data_dir.chmod(0o700)
