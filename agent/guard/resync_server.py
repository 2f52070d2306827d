"""Stopping and starting the server that is resynced.

Theory of operation. By the configured commands, or by pg_ctl as the owner of the data
directory. A fast stop waits until every standby that streams has confirmed the last
WAL; one behind a mute link makes it wait for wal_sender_timeout, a minute by default.
What they lack is in the folder and will be kept, so their walsenders are ended when the
stop has waited for a while. A server that crashed is brought to a clean stop on a
private socket: it archives nothing, follows nobody, keeps all its WAL, and nobody
reaches it.
"""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.core.lsn import Lsn
from agent.errors import GuardError, PostgresError
from agent.postgres import standby
from agent.postgres.control import read_control
from agent.postgres.owner import Owner
from agent.postgres.postmaster import orphans, running
from agent.postgres.private import PrivateServer
from agent.postgres.programs import Programs, clean_environment, last_lines
from agent.postgres.scratch import RUN_PREFIX

PAUSE_S = 0.1
SENDERS_S = 5.0
"""After so long a stop that still waits no longer waits for standbys."""
SETTLE_S = 300.0
STILL_READINGS = 20
"""A standby whose replay stands still for so many readings has read all that it has."""
OUTPUT_BYTES_MAX = 64 * 1024
_OPTS_BYTES_MAX = 64 * 1024
SETTLED = {
    "fsync": "on",
    "hot_standby": "on",
    "restart_after_crash": "off",
    "max_wal_size": "1TB",
}
"""What a private server on real data is told, unlike one on a scratch copy."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Local:
    """The server on this machine, and how it is handled."""

    data_dir: Path
    programs: Programs
    owner: Owner
    log: Path
    """Where a server that pg_ctl starts writes until its own logging begins."""
    start_command: Sequence[str]
    stop_command: Sequence[str]
    wait_s: float

    @property
    def runs(self) -> bool:
        """Whether a server, or what is left of one, works in the folder."""
        if running(self.data_dir) is not None:
            return True
        # A clean stop removes the pid file: only a crash leaves something to find.
        left = (self.data_dir / "postmaster.pid").exists()
        return left and bool(orphans(self.data_dir))


def last_options(data_dir: Path) -> str:
    """Return the options with which the server was started last, for pg_ctl -o."""
    try:
        with (data_dir / "postmaster.opts").open("rb") as file:
            words = shlex.split(file.read(_OPTS_BYTES_MAX).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return ""
    kept: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word in ("-D", "--pgdata"):
            next(rest, None)
        elif not word.startswith(("-D", "--pgdata=")):
            kept.append(word)
    return shlex.join(kept)


def stop(local: Local, say: Say) -> None:
    """Stop the server and return when nothing of it is left. Raises GuardError."""
    leftover = running(local.data_dir)
    if leftover is None and not local.runs:
        return
    say("stopping the server")
    if leftover is not None and _private(leftover.socket_dir):
        with suppress(ProcessLookupError):
            os.kill(leftover.pid, signal.SIGINT)
    elif local.stop_command:
        _run_command(local, local.stop_command, "resync.stop_command")
    else:
        local.programs.run(
            ["pg_ctl", "-D", local.data_dir, "-m", "fast", "-W", "stop"],
            as_owner_of=local.data_dir,
        )
    _until_stopped(local, say)


def _private(socket_dir: Path | None) -> bool:
    """Whether it is a private server that an interrupted run left."""
    return socket_dir is not None and socket_dir.name.startswith(RUN_PREFIX)


def _until_stopped(local: Local, say: Say) -> None:
    told = False
    for count in range(int(local.wait_s / PAUSE_S)):
        if not local.runs:
            return
        if count * PAUSE_S >= SENDERS_S:
            if not told:
                say("it waits for standbys that do not answer: their links are cut")
                told = True
            _end_senders(local.data_dir)
        time.sleep(PAUSE_S)
    raise GuardError(
        f"the server did not stop within {local.wait_s:g} s (resync.wait_s)",
        "see its log; stop it by hand, and run this once more",
    )


def _end_senders(data_dir: Path) -> None:
    """End the walsenders of a server that is stopping: it takes no new ones."""
    server = running(data_dir)
    if server is None or server.status != "stopping":
        return
    for pid in orphans(data_dir):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if re.match(rb"postgres: .*\bwalsender\b", title):
                os.kill(pid, signal.SIGTERM)


def start(local: Local, options: str, say: Say) -> None:
    """Start the server; return when its postmaster runs. Raises GuardError."""
    say("starting the server")
    if local.start_command:
        _run_command(local, local.start_command, "resync.start_command")
    else:
        given = ["-o", options] if options else []
        local.programs.run(
            ["pg_ctl", "-D", local.data_dir, "-l", local.log, "-W", *given, "start"],
            as_owner_of=local.data_dir,
        )
    for _ in range(int(local.wait_s / PAUSE_S)):
        if running(local.data_dir) is not None:
            return
        time.sleep(PAUSE_S)
    raise GuardError(
        f"the server did not start within {local.wait_s:g} s (resync.wait_s)",
        f"see its log, and {local.log}; then start it by hand: it is configured to"
        " follow the source",
    )


def _run_command(local: Local, words: Sequence[str], key: str) -> None:
    """Run a configured command as whoever called. Raises GuardError."""
    with tempfile.TemporaryFile() as out:
        try:
            ran = subprocess.run(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean_environment(),
                cwd="/",
                timeout=local.wait_s,
                check=False,
            )
            code = ran.returncode
        except subprocess.TimeoutExpired as error:
            raise GuardError(
                f"{key} took longer than {local.wait_s:g} s (resync.wait_s)",
                "run it by hand, and then this once more",
            ) from error
        except OSError as error:
            raise GuardError(
                f"{key} cannot be run: {words[0]}: {error.strerror}",
                "give the program's whole path",
            ) from error
        out.seek(0)
        said = out.read(OUTPUT_BYTES_MAX).decode("utf-8", "replace")
    if code != 0:
        raise GuardError(
            f"{key} failed with exit code {code}: {last_lines(said) or 'no reason'}",
            "run it by hand, and then this once more",
        )


def settle(local: Local, end: Lsn | None, say: Say) -> None:
    """Bring a server that crashed to a clean stop, in isolation. Raises PostgresError.

    What it had written stays; its recovery writes a checkpoint behind it.
    """
    say("the server crashed: its recovery runs in isolation, to a clean stop")
    follows = (local.data_dir / "standby.signal").exists()
    control = read_control(local.data_dir, local.programs)
    # It would note in pg_control that it records no hints, and pg_rewind refuse.
    hints = "on" if control.wal_log_hints else "off"
    with PrivateServer(
        local.data_dir,
        local.programs,
        settings={**SETTLED, "wal_log_hints": hints},
        start_timeout_s=SETTLE_S,
        standby=follows,
    ) as server:
        if follows:
            _until_replayed(server, end)
    if not read_control(local.data_dir, local.programs).shut_down:
        raise PostgresError("the recovered server did not stop cleanly")


def _until_replayed(server: PrivateServer, end: Lsn | None) -> None:
    """Return when a standby without an upstream has replayed all that it has."""
    last, still = None, 0
    for _ in range(int(SETTLE_S / PAUSE_S)):
        replayed = standby.ask(server.dsn).replay_lsn
        still = still + 1 if replayed == last else 0
        last = replayed
        done = end is not None and replayed is not None and replayed >= end
        if done or still >= STILL_READINGS:
            return
        time.sleep(PAUSE_S)
