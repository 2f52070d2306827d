"""Copying in two stages: what is read back is what was read, or the copy fails."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from agent.errors import CaptureError
from agent.snapshot.copying import HUGE_BYTES, Copier, Hooks, How
from agent.snapshot.files import nothing
from agent.snapshot.manifest import DATA
from agent.snapshot.plan import Plan, make_plan

SIZES = {"huge": HUGE_BYTES + 12345, "large": 5 << 20, "small": 700, "empty": 0}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is laid out like a data directory; nothing in it repeats."""
    home = tmp_path / "pg"
    (home / "base").mkdir(parents=True)
    (home / "pg_tblspc").mkdir()
    for name, size in SIZES.items():
        (home / "base" / name).write_bytes(os.urandom(size))
    return home


def planned(source: Path) -> Plan:
    return make_plan(source, hot=False)


def copier(plan: Plan, root: Path, copied=nothing, read_back=nothing) -> Copier:
    root.mkdir()
    hooks = Hooks(copied, read_back, lambda _: None)
    return Copier(plan, root, hooks, How(gentle=False, still=True))


def test_every_file_is_copied_and_has_the_hash_of_its_source(source, tmp_path):
    work = copier(planned(source), tmp_path / "copy")
    found = work.settle(work.copy())
    work.close()
    hashes = {Path(entry.path).name: entry.sha256 for entry in found.files}
    for name in SIZES:
        content = (source / "base" / name).read_bytes()
        assert hashes[name] == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "copy" / DATA / "base" / name).read_bytes() == content


@pytest.mark.parametrize("name", ["huge", "large", "small"])
def test_a_copy_that_changes_on_the_disk_is_no_copy(source, tmp_path, name):
    work = copier(planned(source), tmp_path / "copy")
    held = threading.Event()
    work._second.submit(held.wait)  # what is read back has to wait for the change
    for _ in range(3):
        work._second.submit(held.wait)
    contents = work.copy()
    with (tmp_path / "copy" / DATA / "base" / name).open("r+b") as file:
        file.seek(300)
        file.write(b"another byte")
    held.set()
    with pytest.raises(CaptureError, match="does not read back as it was written"):
        work.settle(contents)
    work.close()


@pytest.mark.parametrize("stage", ["copied", "read_back"])
def test_an_end_in_the_middle_of_a_huge_file_ends_all_threads(source, tmp_path, stage):
    seen = 0

    def end(size: int) -> None:
        nonlocal seen
        seen += size
        if seen > HUGE_BYTES // 2:
            raise CaptureError("it is to end")

    work = copier(planned(source), tmp_path / "copy", **{stage: end})
    with pytest.raises(CaptureError, match="it is to end"):
        work.settle(work.copy())
    work.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("splitguard-")]
