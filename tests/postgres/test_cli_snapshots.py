"""Snapshots from the command line, without agent or configuration."""

import json
import os
import shutil
import signal
import subprocess
import tarfile

import psycopg
import pytest

from agent.snapshot.catalogue import Catalogue
from tests.capturing import ID, capturing
from tests.fix_postgres import Stage

pytestmark = pytest.mark.postgres
ROWS = 30


@pytest.fixture
def kept(stage16: Stage):
    """The folder of a finished snapshot of a server with some rows."""
    server = stage16.server("n1").start()
    server.write(ROWS)
    with capturing(stage16, server) as capture:
        capture.finished_cold()
        yield capture.folder


def test_snapshots_are_listed_and_shown_from_their_folder(splitguard, kept):
    listed = splitguard("snapshots", "list", "--dir", kept.parent)
    assert (listed.code, listed.words) == (0, "")
    assert listed.out.splitlines()[1].startswith(f"{ID}  n1    -     complete")
    shown = splitguard("snapshots", "show", ID, "--dir", kept.parent, "-o", "json")
    found = json.loads(shown.out)
    assert (found["id"], found["grade"], found["closed"]) == (ID, "complete", True)
    assert found["reason"] == "a test"


def test_a_folder_that_is_no_snapshot_is_named_beside_the_list(splitguard, kept):
    (kept.parent / "n1-torn").mkdir()
    listed = splitguard("snapshots", "list", "--dir", kept.parent)
    assert listed.code == 0
    assert "n1-torn is no snapshot" in listed.words


def test_a_whole_snapshot_verifies_and_a_changed_one_does_not(
    splitguard, kept, stage16
):
    bin_dir = stage16.programs.bin_dir
    good = splitguard("snapshots", "verify", kept, "--bin-dir", bin_dir)
    assert good.code == 0
    assert f"{ID}: whole; grade complete" in good.out
    (kept / "data" / "PG_VERSION").write_text("99\n")
    bad = splitguard("snapshots", "verify", ID, "--dir", kept.parent, "-o", "json")
    assert bad.code == 1
    [problem] = json.loads(bad.out)["problems"]
    assert "data/PG_VERSION" in problem


def test_a_snapshot_is_proven_by_opening_it(splitguard, kept, stage16, tmp_path):
    look = ("snapshots", "verify", kept, "--bin-dir", stage16.programs.bin_dir)
    opened = splitguard(*look, "--open", "-o", "json")
    assert opened.code == 0, opened.words
    found = json.loads(opened.out)
    assert found["grade"] == "opened"
    assert "databases answer" in found["notes"][-1]
    assert kept.stat().st_uid == os.geteuid()
    assert Catalogue(kept.parent).show(ID).grade.value == "opened"
    file = tmp_path / "it.tar"
    ran = splitguard("snapshots", "archive", ID, "--dir", kept.parent, "-f", file)
    assert ran.code == 0
    elsewhere = splitguard(
        "snapshots", "verify", file, "--open",
        "--bin-dir", stage16.programs.bin_dir, "-o", "json",
    )  # fmt: skip
    assert json.loads(elsewhere.out)["grade"] == "opened"
    (kept / "data" / "PG_VERSION").write_text("99\n")
    assert splitguard(*look, "--open").code == 1


def test_a_command_runs_in_an_opened_clone(spawned, kept, stage16):
    bin_dir = stage16.programs.bin_dir
    psql = shutil.which("psql", path=str(bin_dir))
    opened = ("snapshots", "open", kept, "--bin-dir", bin_dir, "--")
    ran = spawned(*opened, psql, "-XAtc", "SELECT count(*) FROM kept")
    assert (ran.code, ran.out) == (0, f"{ROWS}\n"), ran.words
    assert spawned(*opened, psql, "-Xc", "SELECT nothing").code == 1
    missing = spawned(*opened, "no-such-program")
    assert "there is no program no-such-program" in missing.words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_opened_clone_can_be_asked_until_the_command_ends(
    spawned, kept, stage16, number
):
    running = spawned.start(
        "snapshots", "open", kept, "-o", "jsonl", "--bin-dir", stage16.programs.bin_dir
    )
    try:
        line = running.stdout.readline()
        assert line, running.stderr.read()
        opened = json.loads(line)
        with psycopg.connect(opened["dsn"]) as session:
            row = session.execute("SELECT count(*) FROM kept").fetchone()
            assert row == (ROWS,)
        running.send_signal(number)
        assert running.wait(30) == 0
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(opened["dsn"])
    finally:
        running.kill()
        running.communicate()


def test_an_archive_holds_the_snapshot_and_verifies_by_itself(
    splitguard, spawned, kept, tmp_path
):
    file = tmp_path / "n1.tar"
    ran = splitguard("snapshots", "archive", ID, "--dir", kept.parent, "-f", file)
    assert ran.code == 0
    with tarfile.open(file) as archive:
        assert "manifest.json" in archive.getnames()
    assert splitguard("snapshots", "verify", file).code == 0
    poured = subprocess.run(
        [*spawned.program, "snapshots", "archive", ID, "--dir", str(kept.parent)],
        capture_output=True, check=True, env=spawned.plain(),
    )  # fmt: skip
    assert len(poured.stdout) == file.stat().st_size
    nowhere = splitguard(
        "snapshots", "archive", ID, "--dir", kept.parent, "-f", "/nonexistent/x.tar"
    )
    assert nowhere.code == 1
    assert "/nonexistent/x.tar: No such file or directory" in nowhere.words
