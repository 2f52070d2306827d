"""A private server on a scratch copy: nobody reaches it, and it reaches nobody.

Theory of operation. A copied data directory carries the habits of its origin: it
would archive, restore, replicate, subscribe and run what it was told to preload. Its
own postgresql.conf can be replaced, but postgresql.auto.conf still wins over that;
only settings given on the command line beat both. So a private server has its
configuration, hba and ident files in a folder of its own, and every setting that
can reach out or make it fail is given there (`settings.overrides`). It has no TCP port;
its unix socket lies in a folder that only its user may enter.

Opening a copy changes it: the folder has to be a scratch copy that `prepare` has
made safe. Until recovery is over the server refuses connections; the first
connection that succeeds means that it is open.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.connect import connect, fetch_one, quoted
from agent.postgres.control import ControlData, read_control
from agent.postgres.owner import Owner, check_reachable, give, make_folder, owner_of
from agent.postgres.programs import Programs, last_lines
from agent.postgres.scratch import RUN_PREFIX, prepare, stop_leftover
from agent.postgres.settings import overrides, recovery_file
from agent.postgres.wal import created_tablespaces, record_end

__all__ = ["PrivateServer", "prepare", "stop_leftover"]

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 5.0
_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.25
_LABEL_BYTES_MAX = 65_536
_LOG_BYTES_MAX = 64 * 1024 * 1024
_REFUSED = "FATAL:  the database system is "
_LOG_TAIL_LINES = 7
_LOG_TAIL_BYTES = 16_384
_SOCKET_PATH_MAX = 107
"""Of sun_path in struct sockaddr_un, without the final zero."""
_PORT = 5432
_NO_ROLE = re.compile(r'role ".*" does not exist')
_SINGLE_ROLE = re.compile(r'rolname = "([^"]+)"')
_LABEL_TIMELINE = re.compile(r"^START TIMELINE: ([0-9]{1,10})$", re.MULTILINE)
_LABEL_START = re.compile(
    r"^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) \(file ([0-9A-F]{8})",
    re.MULTILINE,
)
_REDO_DONE = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
_HBA = "local all all trust\n"


class PrivateServer:
    """A server on a prepared scratch folder, for the length of a `with`.

    Entering starts it and returns when it is out of recovery; raises PostgresError
    with the log's last lines when it does not get there within `start_timeout_s`.
    `tip_timeline` is the timeline on which the copy's WAL ends; where the copy's
    checkpoint is on another one, recovery is told to go there, and ends on a new
    timeline of the copy's own. `settings` are given last and win over ours.
    Sessions are read-only unless they say otherwise; fsync is off. A `standby` stays in
    recovery: entering returns when it takes connections.
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        *,
        tip_timeline: int | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        standby: bool = False,
    ) -> None:
        self._folder = folder.absolute()
        self._programs = programs
        self._tip_timeline = tip_timeline
        self._settings = dict(settings or {})
        self._timeout_s = start_timeout_s
        self._standby = standby
        self._run_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._user = ""
        self._given: dict[str, str] = {}
        self._recovered: Lsn | None = None
        self._log_at_stop = ""

    @property
    def folder(self) -> Path:
        """The scratch folder."""
        return self._folder

    @property
    def dsn(self) -> str:
        """The connection string to database template1, which every cluster has."""
        return self.dsn_for("template1")

    def dsn_for(self, dbname: str) -> str:
        """Return the connection string to one database."""
        return (
            f"host={quoted(str(self._directory()))} port={_PORT} "
            f"user={quoted(self._user)} dbname={quoted(dbname)}"
        )

    def _directory(self) -> Path:
        if self._run_dir is None:
            raise PostgresError(f"no private server runs on {self._folder}")
        return self._run_dir

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises PostgresError when it does not run."""
        if self._process is None:
            raise PostgresError(f"no private server runs on {self._folder}")
        return self._process.pid

    @property
    def log_tail(self) -> str:
        """The last lines of the server's log, on one line; also after it stopped."""
        if self._run_dir is None:
            return self._log_at_stop
        lines = _tail(self._directory() / "log").splitlines()
        # Our own attempts to connect leave a line each.
        kept = [line for line in lines if _REFUSED not in line]
        return last_lines("\n".join(kept), _LOG_TAIL_LINES)

    def start(self) -> None:
        """Start and wait until it is out of recovery. Raises PostgresError."""
        if self._process is not None:
            raise PostgresError(f"a private server already runs on {self._folder}")
        owner = owner_of(self._folder)
        control = read_control(self._folder, self._programs)
        check_reachable(self._folder, owner)
        self._run_dir = _make_run_dir(owner)
        tip = self._tip_timeline
        if tip == (_label(self._folder).timeline or control.timeline):
            tip = None
        self._given = {
            **overrides(control, self._programs.major, self._directory(), tip),
            **self._settings,
        }
        before = self._record_end(control, control.checkpoint_lsn)
        try:
            self._refuse_created_tablespaces(control)
            if tip is not None:
                name, text = recovery_file(self._programs.major, tip)
                signal_file = self._folder / name
                signal_file.touch(0o600)
                signal_file.write_text(text, "ascii")
                give(signal_file, owner)
            self._launch()
            self._wait()
            self._recovered = self._redo_end() or before
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> None:
        command: list[str | Path] = ["postgres", "-D", self._folder]
        for name, value in self._given.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory() / "log").open("ab") as log:
            self._process = self._programs.spawn(
                command, as_owner_of=self._folder, log=log
            )

    @property
    def recovered_lsn(self) -> Lsn:
        """The end of the last record that recovery replayed.

        Of a cleanly stopped copy, which needs no recovery, the end of its last
        checkpoint. Raises PostgresError before `start`.
        """
        if self._recovered is None:
            raise PostgresError(f"the copy in {self._folder} was not opened yet")
        return self._recovered

    def _refuse_created_tablespaces(self, control: ControlData) -> None:
        """Raise when replay would write outside, where CREATE TABLESPACE points."""
        found = created_tablespaces(
            self._programs,
            self._folder / "pg_wal",
            self._timeline(control),
            _label(self._folder).start_lsn or control.redo_lsn,
            control.wal_segment_bytes,
        )
        if found:
            raise PostgresError(
                f"the WAL of {self._folder} creates a tablespace at {found[0]}: "
                "replaying it would write there, and that may be the original",
                "open this copy on a machine where that location holds nothing",
            )

    def _redo_end(self) -> Lsn | None:
        """Return the end of the record that the log calls the last one replayed."""
        with (self._directory() / "log").open("rb") as file:
            text = file.read(_LOG_BYTES_MAX).decode("utf-8", "replace")
        found = _REDO_DONE.search(text)
        if found is None:
            return None
        control = read_control(self._folder, self._programs)
        last = Lsn.parse(found[1])
        return self._record_end(control, last) or last

    def _timeline(self, control: ControlData) -> int:
        return max(control.timeline, self._tip_timeline or 0)

    def _record_end(self, control: ControlData, start: Lsn) -> Lsn | None:
        return record_end(
            self._folder / "pg_wal",
            self._timeline(control),
            start,
            control.wal_segment_bytes,
        )

    def _wait(self) -> None:
        """Return when a session can be opened; raise when that does not come."""
        waited = 0.0
        users = self._users()
        user = next(users)
        while waited < self._timeout_s:
            pause = min(_PAUSE_MAX_S, _PAUSE_S + waited / 10)
            self._raise_if_ended(pause)
            waited += pause
            try:
                self._user = self._superuser(user)
            except PostgresError as error:
                if _NO_ROLE.search(error.message):
                    user = next(users)
                continue
            return
        raise PostgresError(
            f"the private server on {self._folder} did not open within "
            f"{self._timeout_s:g} s: {self.log_tail}",
            "recovery of much WAL takes long: allow more time",
        )

    def _raise_if_ended(self, pause_s: float) -> None:
        process = self._process
        if process is None:
            raise PostgresError(f"the private server on {self._folder} is stopped")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(pause_s)
            raise PostgresError(
                f"the private server on {self._folder} ended while it started: "
                f"{self.log_tail or 'it gave no reason'}",
                "the copy is incomplete or damaged where its log says so",
            )

    def _users(self) -> Iterator[str]:
        """Yield roles that may exist, the likely ones first."""
        yield "postgres"
        yield owner_of(self._folder).name
        yield self._bootstrap_role()
        raise PostgresError(f"no role can open a session on {self._folder}")

    def _superuser(self, user: str) -> str:
        """Open a session as `user`; return the name of the oldest superuser."""
        self._user = user
        with connect(self.dsn) as session:
            (recovering, name) = fetch_one(
                session,
                "SELECT pg_is_in_recovery(), (SELECT rolname FROM pg_roles"
                " WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1)",
            )
        if recovering and not self._standby:
            raise PostgresError(f"the private server on {self._folder} still recovers")
        return str(name or user)

    def _bootstrap_role(self) -> str:
        """Ask the cluster itself, in single-user mode, how its first role is called."""
        self._stop_process()
        command: list[str | Path] = ["postgres", "--single", "-D", self._folder]
        for name, value in self._given.items():
            command += ["-c", f"{name}={value}"]
        answer = self._programs.run(
            [*command, "template1"],
            as_owner_of=self._folder,
            input_text="SELECT rolname FROM pg_catalog.pg_authid WHERE oid = 10\n",
        )
        found = _SINGLE_ROLE.search(answer.stdout)
        if found is None:
            raise PostgresError(
                f"the first role of {self._folder} is not to be had: "
                f"{answer.last_lines}"
            )
        self._launch()
        return found[1]

    def stop(self) -> None:
        """Stop fast, at once if that takes too long. May be called twice."""
        try:
            self._stop_process()
        finally:
            if self._run_dir is not None:
                self._log_at_stop = self.log_tail
                shutil.rmtree(self._run_dir, ignore_errors=True)
                self._run_dir = None

    def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for signum, timeout_s in (
            (signal.SIGINT, STOP_TIMEOUT_S),
            (signal.SIGQUIT, KILL_TIMEOUT_S),
            (signal.SIGKILL, KILL_TIMEOUT_S),
        ):
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
                return
        raise PostgresError(f"process {process.pid} on {self._folder} does not end")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _make_run_dir(owner: Owner) -> Path:
    """Make the folder for configuration, log and socket, closed to others.

    In /tmp when the usual place for temporary files makes the socket's path longer
    than a socket address holds. Raises PostgresError.
    """
    name = f".s.PGSQL.{_PORT}"
    try:
        folder = make_folder(owner, RUN_PREFIX)
        if len(os.fsencode(folder / name)) > _SOCKET_PATH_MAX:
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir="/tmp"))
        (folder / "postgresql.conf").write_text(
            "# Everything is on the command line.\n"
        )
        (folder / "pg_hba.conf").write_text(_HBA)
        (folder / "pg_ident.conf").write_text("")
    except OSError as error:
        raise PostgresError(
            f"no folder for a private server can be made: {error.strerror}",
            "free space in the folder for temporary files (TMPDIR)",
        ) from error
    give(folder, owner)
    return folder


@dataclass(frozen=True, slots=True)
class _Label:
    """What backup_label says; None where there is no such file."""

    timeline: int | None
    start_lsn: Lsn | None


def _label(folder: Path) -> _Label:
    try:
        with (folder / "backup_label").open("rb") as file:
            text = file.read(_LABEL_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return _Label(None, None)
    timeline = _LABEL_TIMELINE.search(text)
    start = _LABEL_START.search(text)
    if start is None:
        return _Label(None, None)
    # Version 10 names the timeline in the file's name only.
    number = int(start[2], 16) if timeline is None else int(timeline[1])
    return _Label(number, Lsn.parse(start[1]))


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read(_LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
