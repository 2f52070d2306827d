"""`splitguard vnfm snapshots kept`: what is on the shelf, without agent and manager."""

import hashlib
import json
import subprocess
from pathlib import Path

from agent.vnfm.kept import Kept
from agent.vnfm.shelf import Shelf
from tests.fix_cli import SPLITGUARD

CONTENT = b"PK and so on"


def filled(folder: Path) -> Shelf:
    """A shelf with one snapshot."""
    shelf = Shelf(folder)
    digest = hashlib.sha256(CONTENT).hexdigest()
    kept = Kept(
        "sg-n1-20260302T023000Z", "n1", "10.0.0.1:443", "4.5.5", "legacy", "schedule",
        True, (), "", "e-1", 1_772_418_600.0, 1_772_418_660.0, len(CONTENT), digest,
        "sg-n1-20260302T023000Z.zip", len(CONTENT), digest, False, 14,
        {"deployments": 3}, problems=("certificates: none of the folders is there",),
    )  # fmt: skip
    (shelf.begin(kept.id) / kept.file).write_bytes(CONTENT)
    shelf.put(kept)
    return shelf


def ran(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SPLITGUARD, "vnfm", "snapshots", "kept", "--dir", folder, *more],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_lists_what_is_kept_and_what_is_not_in_it(tmp_path: Path):
    shelf = filled(tmp_path / "kept")
    told = ran(shelf.place)
    assert told.returncode == 0
    assert "sg-n1-20260302T023000Z" in told.stdout
    assert "none of the folders is there" in told.stdout
    found = json.loads(ran(shelf.place, "--output", "json").stdout)["snapshots"]
    assert [(one["created"], one["whole"]) for one in found] == [
        ("2026-03-02T02:30:00Z", None)
    ]


def test_verify_finds_a_byte_that_changed_and_exits_1(tmp_path: Path):
    shelf = filled(tmp_path / "kept")
    assert ran(shelf.place, "--verify").returncode == 0
    path = shelf.archive("sg-n1-20260302T023000Z")
    path.write_bytes(CONTENT[:-1] + b"!")
    told = ran(shelf.place, "--verify")
    assert told.returncode == 1
    assert "is not what was kept" in told.stdout


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path):
    told = ran(tmp_path)
    assert (told.returncode, told.stdout.strip()) == (
        0, f"No manager's snapshot is kept in {tmp_path}.",
    )  # fmt: skip
