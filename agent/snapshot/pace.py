"""How a copy of a running server gives way to the server.

Theory of operation. Two things hold a copy back. A limit in bytes per second, if one
is configured: every block that was read or written is paid for by waiting, so that
the rate holds over any second or so, and a pause is not made up for afterwards by a
burst. And the priority of the copying threads, always: the kernel serves others first,
for the processor as well as for the disk where its I/O scheduler knows priorities.
A stopped server has nobody to give way to, and somebody waits for its copy, so
neither is done then.
"""

import ctypes
import os
import platform
import threading
from collections.abc import Callable

NICE = 10
"""The least niceness of a copying thread; 0 is what the server has."""
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""The system call's number. Source: the kernel's unistd.h of each architecture."""
_THIS_THREAD = (1, 0)
"""IOPRIO_WHO_PROCESS and 0, which Linux takes for the calling thread."""
_LOWEST_BEST_EFFORT = 2 << 13 | 7
"""Not the idle class: below a busy server a copy would then never end."""


class Pace:
    """Spreads bytes over time. For several threads at once."""

    def __init__(self, bytes_s: float, now_s: Callable[[], float]) -> None:
        """`bytes_s` of 0 means no limit; `now_s` reads a monotonic clock."""
        self._bytes_s = bytes_s
        self._now_s = now_s
        self._paid_until_s = -1.0
        self._lock = threading.Lock()

    def delay_s(self, size: int) -> float:
        """Return for how long the caller has to wait after so many bytes."""
        if self._bytes_s <= 0:
            return 0.0
        with self._lock:
            now_s = self._now_s()
            begin_s = max(self._paid_until_s, now_s)
            self._paid_until_s = begin_s + size / self._bytes_s
            return self._paid_until_s - now_s


def step_back() -> None:
    """Lower the calling thread's priority, for good.

    What the system does not allow or know is left as it is: it is a courtesy, and a
    copy without it is a copy all the same.
    """
    thread = threading.get_native_id()
    try:
        niceness = max(NICE, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except OSError:
        return
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, *_THIS_THREAD, _LOWEST_BEST_EFFORT)
