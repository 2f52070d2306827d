"""The lab's processes: none outlives its parent, leftovers are found and ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import LabError
from agent.lab.account import Account, server_account
from agent.lab.binaries import find_binaries
from agent.lab.handle import down
from agent.lab.plan import Layout
from agent.lab.processes import kill_leftovers, leftovers, record, started_at
from agent.lab.setup import claim

ME = Account(os.geteuid(), os.getegid())
FAMILY = """
import asyncio, os, sys
from pathlib import Path
from agent.lab.plan import Layout
from agent.lab.processes import Launch, launch

async def main() -> None:
    folder = Path(sys.argv[1])
    child = await launch(Layout(folder), Launch(
        argv=["/bin/sleep", "600"], cwd=folder, log=folder / "log", env=os.environ))
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return claim(tmp_path / "lab")


def gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while started_at(pid) is not None and time.monotonic() < until:
        time.sleep(0.01)
    return started_at(pid) is None


def test_a_child_ends_when_its_parent_is_killed(layout):
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY, str(layout.state_dir)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert started_at(child) is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(child)


def test_recorded_processes_are_found_and_killed(layout):
    with subprocess.Popen(["/bin/sleep", "600"]) as stray:
        record(layout, stray.pid)
        assert leftovers(layout) == {stray.pid}
        assert kill_leftovers(layout) == 1
        assert stray.wait() == -signal.SIGKILL
    assert not leftovers(layout)


def test_a_process_that_took_over_a_recorded_number_is_left_alone(layout):
    with subprocess.Popen(["/bin/sleep", "600"]) as bystander:
        (layout.pids / str(bystander.pid)).write_text("12345")
        assert kill_leftovers(layout) == 0
        assert bystander.poll() is None
        bystander.kill()


def test_a_folder_with_other_things_in_it_is_not_taken(tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(LabError, match="neither empty nor a lab's"):
        claim(tmp_path)
    assert down(tmp_path) is False
    assert (tmp_path / "diary.txt").exists()


def test_a_folder_behind_a_link_is_not_taken(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lab").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabError, match="belongs to somebody else"):
        claim(tmp_path / "lab")


def test_a_folder_too_deep_for_sockets_is_refused(tmp_path):
    with pytest.raises(LabError, match="too long for unix sockets"):
        claim(tmp_path / ("d" * 90))


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabError, match="no PostgreSQL server at --pg '/nowhere'"):
        find_binaries("/nowhere", ME, tmp_path)


@pytest.mark.fact("wheel-servers", "wheel-libraries")
def test_programs_that_the_servers_user_cannot_reach_are_copied(tmp_path):
    account = server_account()
    found = find_binaries("16", account, tmp_path / "unused")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    package = found.bin_dir.parent.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (hidden / folder.name).symlink_to(folder)
    hidden.chmod(0o700)
    tmp_path.chmod(0o755)
    wanted = hidden / package.name / found.bin_dir.parent.name
    copied = find_binaries(str(wanted), account, tmp_path / "copy")
    assert copied.version_num == found.version_num
    assert account.may("-x", copied.bin_dir / "postgres")
