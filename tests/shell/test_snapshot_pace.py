"""A copy gives way: its bytes are spread over time, its threads come second."""

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.snapshot.pace import NICE, Pace, step_back


class Hands:
    """A clock that stands still until it is moved."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_each_block_is_paid_for_by_waiting():
    clock = Hands()
    pace = Pace(1000, clock)
    assert pace.delay_s(500) == pytest.approx(0.5)
    clock.now_s += 0.5
    assert pace.delay_s(250) == pytest.approx(0.25)


def test_several_threads_share_one_limit():
    pace = Pace(1000, Hands())
    assert [pace.delay_s(1000) for _ in range(3)] == pytest.approx([1.0, 2.0, 3.0])


def test_a_pause_is_not_made_up_for_by_a_burst():
    clock = Hands()
    pace = Pace(1000, clock)
    pace.delay_s(1000)
    clock.now_s += 60
    assert pace.delay_s(1000) == pytest.approx(1.0)


def test_no_limit_means_no_waiting():
    pace = Pace(0, Hands())
    assert [pace.delay_s(1 << 40) for _ in range(2)] == [0.0, 0.0]


def niceness(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


def test_only_the_copying_thread_steps_back():
    before = niceness(threading.get_native_id())
    with ThreadPoolExecutor(1, initializer=step_back) as pool:
        thread = pool.submit(threading.get_native_id).result()
        assert niceness(thread) == max(before, NICE)
        asked = ["ionice", "-p", str(thread)]
        told = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == "best-effort: prio 7"
    assert niceness(threading.get_native_id()) == before
