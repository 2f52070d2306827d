"""The operator's own program that freezes a file system: `capture.exec`.

Theory of operation. LVM, ZFS and btrfs take a snapshot of a whole volume in one
instant, each with commands, rights and names of its own; so that is left to a program.
It is told what to freeze and says where the frozen state can be read:

    PROGRAM check DIR...      could a snapshot be taken? takes none
    PROGRAM create ID DIR...  prints one absolute path a line, as many as DIRs, in
                              their order: where each can be read as it was
    PROGRAM remove ID         takes it away; 0 also when there is none

The first DIR is the data directory, then come a pg_wal and tablespaces that lie
elsewhere. Exit code 0 is success; the last line on stderr says what went wrong. It runs
as the agent's user in /, with PATH and LC_ALL only, nothing on stdin, and a timeout;
then it and all that it started is ended. Whatever it does, it only ever costs the
time that it took: nothing it says is believed before it was checked (see `frozen`). A
file in the capture's folder says that a snapshot may be there, until it was removed.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from agent.errors import CaptureError
from agent.snapshot.files import write_atomically

TERM_S = 2.0
"""From being told to end to being killed."""
OUTPUT_BYTES_MAX = 64 << 10
"""More output than this on stdout or stderr fails the call."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "exec.left"
"""The file in a capture's folder that says that its snapshot may still be there."""
_SLICE_S = 0.1
_DRAIN_S = 1.0
_LINE_CHARS = 300
_HINT = "run it by hand as the agent's user; deploy/README.md says how it is called"


class ProgramError(CaptureError):
    """The program could not freeze anything, or said what cannot be so."""


class StoppedEarlyError(ProgramError):
    """It was ended because nobody wants the result any more."""


class SnapshotProgram:
    """Calls the program, for one thread. `stopped` ends whatever it is doing."""

    def __init__(
        self,
        program: Path,
        stopped: threading.Event,
        timeout_s: float,
    ) -> None:
        self._program = program
        self._stopped = stopped
        self._timeout_s = timeout_s

    def check(self, folders: Sequence[Path]) -> None:
        """Ask whether it could take a snapshot now. Raises ProgramError."""
        self._call("check", *map(str, folders))

    def create(self, name: str, folders: Sequence[Path], keep: Path) -> list[Path]:
        """Take the snapshot `name`; return where each folder can be read.

        The mark is put into the folder `keep` first. Raises ProgramError, OSError.
        """
        write_atomically(keep / MARK, f"{name}\n".encode())
        printed = self._call("create", name, *map(str, folders))
        lines = [line for line in printed.splitlines() if line.strip()]
        if len(lines) != len(folders):
            raise ProgramError(
                f"{self._program} create printed {len(lines)} paths for"
                f" {len(folders)} folders",
                "it has to cover the data directory, a pg_wal and every tablespace"
                " elsewhere, and to print one path for each",
            )
        for line in lines:
            if not line.startswith("/") or "\0" in line:
                raise ProgramError(
                    f"{self._program} create printed no absolute path: {line!r:.200}",
                    _HINT,
                )
        return [Path(line) for line in lines]

    def remove(self, name: str, keep: Path) -> None:
        """Take the snapshot away, if it is there, and then its mark.

        Not cut short by `stopped`: it is quick, and what is left takes up room. Raises
        ProgramError, OSError.
        """
        self._call("remove", name, to_its_end=True)
        (keep / MARK).unlink(missing_ok=True)

    def _call(self, verb: str, *words: str, to_its_end: bool = False) -> str:
        """Run it to its end and return its stdout. Raises ProgramError."""
        what = f"{self._program} {verb}"
        try:
            process = subprocess.Popen(
                [self._program, verb, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": PATH, "LC_ALL": "C"},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ProgramError(f"{what} cannot be run: {reason}", _HINT) from error
        said, complained = _Listener(process.stdout), _Listener(process.stderr)
        try:
            self._wait(process, what, (said, complained), to_its_end=to_its_end)
        finally:
            _end(process)
            for listener in (said, complained):
                listener.join(_DRAIN_S)
                listener.close()
        if process.returncode:
            reason = complained.last_line or said.last_line or "it said nothing"
            raise ProgramError(
                f"{what} ended with {process.returncode}: {reason}", _HINT
            )
        return said.text

    def _wait(
        self,
        process: "subprocess.Popen[bytes]",
        what: str,
        listeners: "tuple[_Listener, _Listener]",
        *,
        to_its_end: bool,
    ) -> None:
        for _ in range(max(1, round(self._timeout_s / _SLICE_S))):
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SLICE_S)
                for listener in listeners:
                    listener.join(_DRAIN_S)
                return
            if any(listener.flooded for listener in listeners):
                raise ProgramError(f"{what} printed more than {OUTPUT_BYTES_MAX} bytes")
            if self._stopped.is_set() and not to_its_end:
                raise StoppedEarlyError(f"{what} was ended: nobody waits for it")
        raise ProgramError(f"{what} did not end within {self._timeout_s:g} s", _HINT)


class _Listener(threading.Thread):
    """Reads one stream of the program, no more than OUTPUT_BYTES_MAX."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._heard = b""
        self.flooded = False
        self.start()

    def run(self) -> None:
        while self._stream is not None and not self.flooded:
            with suppress(OSError, ValueError):
                block = os.read(self._stream.fileno(), 1 << 13)
                if block:
                    self._heard += block
                    self.flooded = len(self._heard) > OUTPUT_BYTES_MAX
                    continue
            return

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    @property
    def text(self) -> str:
        return os.fsdecode(self._heard)

    @property
    def last_line(self) -> str:
        lines = self._heard.decode("utf-8", "replace").split("\n")
        told = [line.strip() for line in lines if line.strip()]
        return told[-1][:_LINE_CHARS] if told else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the program, and whatever it started and left behind.

    One that became another user, as sudo does, may outlive it: it cannot be killed.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if number is signal.SIGKILL or process.poll() is None:
            _signal(process, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERM_S)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
