"""Has the story of the server beside this agent told, by a process that gives way.

Theory of operation. Whoever compares a losing side with this server asks what became of
its rows; `divergence.storyteller` reads that from the log. One at a time, bounded in
time and in size, and ended with the agent, or when the asker goes away.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from agent import codec
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.divergence.job import FAILED, Question
from agent.divergence.transfer import LINE_BYTES_MAX, STORY_BYTES_MAX
from agent.errors import DivergenceError

COMMAND = (sys.executable, "-m", "agent.divergence.storyteller")
LIMIT_S = 300.0
"""One story, reading and sending, takes no longer."""
PIECE_BYTES = 1 << 16
END_S = 2.0


class StoryTelling:
    """Implements api.ports.Changes; may be called from any thread."""

    def __init__(
        self,
        facts: Callable[[], ServerFacts | None],
        bin_dir: Path | None,
        *,
        limit_s: float = LIMIT_S,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """`facts` returns what was last read from the server's disk."""
        self._facts = facts
        self._bin_dir = bin_dir
        self._limit_s = limit_s
        self._command = command
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def told(
        self, timeline: int, fork_lsn: Lsn, lsn: Lsn, shown: Mapping[str, str]
    ) -> Generator[bytes, None, None]:
        """Yield the story in pieces. Raises DivergenceError before the first one."""
        facts = self._facts()
        if facts is None:
            raise DivergenceError("the server's files have not been read here yet")
        question = Question(
            data_dir=facts.data_dir,
            bin_dir=None if self._bin_dir is None else str(self._bin_dir),
            wal_segment_bytes=facts.wal_segment_bytes,
            timeline=timeline,
            fork_lsn=fork_lsn,
            lsn=lsn,
            shown=shown,
        )
        process = self._begin()
        killer = threading.Timer(self._limit_s, process.kill)
        killer.daemon = True
        killer.start()
        try:
            yield from self._read(process, question)
        finally:
            killer.cancel()
            _end(process)

    def stop(self) -> None:
        """End what is being told."""
        process = self._process
        if process is not None:
            process.kill()

    def _begin(self) -> "subprocess.Popen[bytes]":
        with self._turn:
            if self._process is not None and self._process.poll() is None:
                raise DivergenceError(
                    "this agent is telling its story to somebody already", "ask later"
                )
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise DivergenceError(
                    f"the log cannot be read here: {error.strerror}"
                ) from error
            self._process = process
            return process

    def _read(
        self, process: "subprocess.Popen[bytes]", question: Question
    ) -> Iterator[bytes]:
        given, out = process.stdin, process.stdout
        if given is None or out is None:
            raise DivergenceError("the log cannot be read here: no pipe")
        with suppress(OSError):
            given.write(codec.to_json(question).encode("ascii") + b"\n")
            given.flush()
        yield _first(out)
        size = 0
        while size < STORY_BYTES_MAX and (piece := out.read(PIECE_BYTES)):
            size += len(piece)
            yield piece


def _first(out: IO[bytes]) -> bytes:
    """Return the first line. Raises DivergenceError when it says that there is none."""
    line = out.readline(LINE_BYTES_MAX)
    if not line:
        raise DivergenceError(
            "the process that reads the log here ended by itself",
            "it may have taken too long; the agent's log has what it said",
        )
    if line.startswith(f'["{FAILED}"'.encode()):
        _, message, hint = json.loads(line)
        raise DivergenceError(str(message), str(hint))
    return line


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have a process end that nobody listens to any more."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
        return
    process.kill()
    process.wait()
