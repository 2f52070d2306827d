"""One resync at a time: the lock, what still copies, a server that came back."""

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.call import Call
from agent.cli.resync_job import AgentGate
from agent.cli.shelf import ends_on_sigterm
from agent.errors import GuardError
from agent.guard import resync_alone
from agent.postgres.owner import Owner
from tests.fix_desk import isolated, split_brain


def test_a_second_run_is_refused_until_the_first_ends(tmp_path: Path):
    held = (tmp_path / "state/resync", Owner(os.geteuid(), os.getegid()))
    with resync_alone.alone(*held):
        with (
            pytest.raises(GuardError, match="another `splitguard resync` is at work"),
            resync_alone.alone(*held),
        ):
            pytest.fail("two runs at once")
        assert held[0].stat().st_mode & 0o777 == 0o700
        lock = held[0] / resync_alone.LOCK
        assert lock.stat().st_mode & 0o777 == 0o600
    with resync_alone.alone(*held):
        pass


@pytest.mark.parametrize(
    ("command", "copies"),
    [
        ("/usr/lib/postgresql/16/bin/pg_basebackup --pgdata=DATA --dbname=x", True),
        ("/bin/sh /opt/bin/pg_basebackup -D DATA/", True),
        ("pg_rewind -D DATA --source-server x", True),
        ("pg_rewind --target-pgdata=DATA", True),
        ("pg_rewind -D DATA --dry-run", False),
        ("pg_basebackup --pgdata=DATA2", False),
        ("vim DATA/pg_rewind", False),
        ("grep -r x DATA pg_rewind", False),
    ],
)
def test_what_still_copies_into_the_folder_is_waited_for(
    tmp_path: Path, command: str, copies: bool
):
    data = tmp_path / "data"
    process = tmp_path / "root/proc/100"
    process.mkdir(parents=True)
    words = command.replace("DATA", str(data)).split()
    (process / "cmdline").write_text("\0".join(words) + "\0")
    assert resync_alone.copiers(data, tmp_path / "root") == ((100,) if copies else ())
    if copies:
        with pytest.raises(GuardError, match="process 100 still copies"):
            resync_alone.refuse_copiers(data, tmp_path / "root")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_terminal_ends_the_work_as_ctrl_c_does(number: int):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ends_on_sigterm():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_below_nohup_a_lost_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ends_on_sigterm():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def server(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that is called postgres and works in a folder."""
    program = tmp_path / "postgres"
    shutil.copy2(shutil.which("cat") or "", program)
    data = tmp_path / "data"
    data.mkdir()
    with subprocess.Popen([program], stdin=subprocess.PIPE, cwd=data) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("pid_file", [True, False])
def test_a_server_that_was_started_again_is_seen_even_without_its_pid_file(
    tmp_path: Path, server: "subprocess.Popen[bytes]", pid_file: bool
):
    data = tmp_path / "data"
    if pid_file:
        (data / "postmaster.pid").write_text(f"{server.pid}\n{data}\n")
    seconds = itertools.count(step=resync_alone.ENDING_S)
    with pytest.raises(GuardError, match=r"a server was started on .* again"):
        resync_alone.refuse_others(data, lambda: next(seconds))
    server.kill()
    server.wait()
    resync_alone.refuse_others(data, lambda: 0.0)


def test_beside_an_agent_that_is_cut_off_nothing_is_resynced(agent_for):
    """Nobody there can know who is to be followed, whatever is forced."""
    for forced in (None, "I know better"):
        gate = AgentGate(Call(socket=agent_for(isolated()).socket), "n1", forced)
        with pytest.raises(GuardError, match="the agent here is isolated") as refused:
            gate.standing()
        assert "it misses n2" in refused.value.message
        assert refused.value.hint.startswith("mend the network first")
        assert "force" not in refused.value.hint
    gate = AgentGate(Call(socket=agent_for(split_brain()).socket), "n1", None)
    assert gate.standing().line == ("n2",)
