"""`lab up`, `status`, `down`: a cluster comes up, and nothing of it stays behind."""

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.fix_lab import until

pytestmark = pytest.mark.slow
SEED = 20261122


def test_two_labs_run_at_once_and_each_leaves_nothing(make_lab):
    first, second = make_lab(), make_lab()
    first.done("up", "--detach")
    second.done("up", "--detach", "--no-agents", "--pg", "18")
    found = first.status()
    assert [node["name"] for node in found["nodes"]] == ["n1", "n2", "n3"]
    assert [node["role"] for node in found["nodes"]] == ["primary", *["standby"] * 2]
    assert set(found["tokens"]) == {"read", "operate", "data"}
    assert found["receiver_url"].startswith("http://127.0.0.1:")
    for node in found["nodes"]:
        os.kill(node["pid"], 0)
        with psycopg.connect(node["postgres_dsn"]) as connection:
            assert connection.info.server_version // 10000 == 16
    with psycopg.connect(second.status()["nodes"][0]["postgres_dsn"]) as connection:
        assert connection.info.server_version // 10000 == 18
    again = first("up", "--detach")
    assert again.code == 1
    assert "a lab runs in" in again.words
    assert "splitguard lab down" in again.words
    second.done("down")
    second.until_nothing_is_left()
    assert first.status()["nodes"][0]["role"] == "primary"
    first.done("down")
    first.until_nothing_is_left()


def segments(lab):
    """The shared memory segments that the servers' pid files name, as key and id."""
    files = lab.state_dir.glob("n?/pgdata/postmaster.pid")
    return {tuple(map(int, f.read_text().splitlines()[6].split())) for f in files}


def segments_of_the_kernel():
    """Every shared memory segment there is, as key and id."""
    rows = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {tuple(map(int, row.split()[:2])) for row in rows}


def test_kill_9_of_the_supervisor_ends_all_and_the_next_lab_cleans_up(lab):
    with lab.start("up", "--no-agents") as supervisor:
        assert any("the lab is up" in line for line in supervisor.stderr)
        assert len(lab.processes()) > 10
        supervisor.kill()
        supervisor.communicate()
    until(10, lambda: not lab.processes() or None, lab.processes)
    assert lab.state_dir.exists()
    orphans = segments(lab)
    assert len(orphans) == 3
    assert orphans <= segments_of_the_kernel()
    ran = lab.done("up", "--detach", "--no-agents")
    assert "cleaning up after an earlier lab" in ran.words
    lab.done("down")
    lab.until_nothing_is_left()
    assert not orphans & segments_of_the_kernel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_any_moment_leaves_nothing(lab, number):
    dice = random.Random(SEED + number)
    for _ in range(4):
        with lab.start("up", "--no-agents") as command:
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(dice.uniform(0.3, 4.0))
            command.send_signal(number)
            command.communicate(timeout=30)
        lab.until_nothing_is_left()


def test_an_interrupted_story_leaves_nothing(lab):
    with lab.start("story", "split-brain") as story:
        for line in story.stderr:
            if "is cut off" in line:
                break
        story.send_signal(signal.SIGINT)
        story.communicate(timeout=30)
        assert story.returncode == 130
    lab.until_nothing_is_left()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("up", "--pg", "/nowhere"), "there is no PostgreSQL server at --pg"),
        (("status",), "no lab runs in"),
        (("partition", "n1"), "no lab runs in"),
        (("write",), "no lab runs in"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_message(lab, words, message):
    ran = lab(*words)
    assert ran.code == 1
    assert message in ran.words
    assert not lab.state_dir.exists()


def test_down_without_a_lab_says_so(lab):
    assert "no lab in" in lab.done("down").words
