"""The process that makes one loss report, as the agent sees it.

Theory of operation. It gets its order as one line on its standard input, which stays
open as long as the agent wants the report: its end tells the process to stop, also when
the agent was killed. What it prints are lines of JSON (`divergence.job`), read by a
thread of ours; a line that is none is left aside. It has a session of its own, so that
no signal that is meant for the agent ends it half-way, and is asked to end before it is
made to: it then stops the private server that it has opened.
"""

import logging
import subprocess
import sys
import threading
from contextlib import suppress

from agent import codec
from agent.divergence.job import LINE_BYTES_MAX, Job, Line, Outcome, Progress
from agent.errors import CodecError

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "agent.divergence")
END_S = 15.0
"""Asked to end, it may take so long to stop its private server; then it is killed."""
DIED = "the process that makes the report ended by itself (exit code {})"
DIED_HINT = "the agent's log has what it said; was it killed for lack of memory?"


class LossChild:
    """One running process. Blocking, but for `progress` and `outcome`."""

    def __init__(self, job: Job, command: tuple[str, ...] | None = None) -> None:
        """Start it. Raises OSError."""
        self.progress = Progress("it begins")
        self._said: Outcome | None = None
        self._process = subprocess.Popen(
            command or COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._order = (codec.to_json(job) + "\n").encode("ascii")
        self._reader = threading.Thread(
            target=self._read, name="loss-child", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it works."""
        if self._process.poll() is None or self._reader.is_alive():
            return None
        if self._said is not None and self._process.returncode == 0:
            return self._said
        if self._said is not None and self._said.message:
            return self._said
        return Outcome(DIED.format(self._process.returncode), DIED_HINT)

    def end(self, timeout_s: float = END_S) -> None:
        """Have it end: asked first, then killed. Returns when it is gone."""
        self.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
            return
        self._process.kill()
        self._process.wait()

    def hang_up(self) -> None:
        """Ask it to end, and leave it to that."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(ProcessLookupError):
            self._process.terminate()

    def _read(self) -> None:
        """Hand the order over, then take in what it prints until it ends."""
        with suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.write(self._order)
                self._process.stdin.flush()
        self._order = b""
        out = self._process.stdout
        while out is not None and (text := out.readline(LINE_BYTES_MAX)):
            try:
                line = codec.from_json(text, Line)
            except CodecError:
                log.warning("the process that makes a loss report: %.300r", text)
                continue
            self.progress = line.progress or self.progress
            self._said = line.outcome or self._said
        if out is not None:
            out.close()
