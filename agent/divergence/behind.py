"""How a process works that an agent has started: behind everything else, and no longer.

Theory of operation. Its order is the first line of its standard input, which the agent
keeps open; the input's end, or SIGTERM, ends the process through every `with` and
`finally` that it is in. It yields to all others, for the processor and for the disk.
"""

import os
import signal
import sys
import threading
from types import FrameType

from agent.snapshot.pace import step_back

NICE = 19
READ_BYTES = 4096


def ordered(limit_bytes: int) -> bytes:
    """Step behind everything, and return the order; from then on the input is watched.

    Called once, on the main thread, before anything else.
    """
    signal.signal(signal.SIGTERM, _end)
    step_back()
    os.nice(NICE)
    line = sys.stdin.buffer.readline(limit_bytes)
    threading.Thread(target=_watch_input, daemon=True).start()
    return line


def _watch_input() -> None:
    """End when whoever has ordered the work is gone, or wants it no more."""
    # Not by sys.stdin: at the end of the process nobody may hold its lock.
    while os.read(sys.stdin.fileno(), READ_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(1)
