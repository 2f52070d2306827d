"""Would the next split be survived: what a full copy needs, tried beforehand.

Theory of operation. Nothing is copied and nothing stays: the same functions that a
capture uses look for the programs, connect as the role that may start a backup, ask
whether it may, list what would be copied, find the method (a file is made without a
name, to see whether blocks can be shared; the snapshot program is asked whether it
could), and measure the room. What fails on the way is an obstacle with what to do
about it, and the rest is looked at all the same, so that one look names everything.
Listing a large data directory takes a second or so: the caller decides how often.
"""

import math
import os
import threading
from contextlib import suppress
from pathlib import Path

from agent.core.capture import Grade
from agent.core.readiness import LeftPin, Obstacle, Readiness
from agent.errors import CatalogueError, PostgresError, SplitguardError
from agent.postgres.connect import Session, session
from agent.postgres.postmaster import running
from agent.postgres.programs import find_programs
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.frozen import folders_of
from agent.snapshot.pin import closed, left_behind
from agent.snapshot.plan import Plan, make_plan
from agent.snapshot.program import SnapshotProgram
from agent.snapshot.record import COLD, COLD_SHARED, FROZEN, HOT, HOT_SHARED
from agent.snapshot.room import MAX_WAL_BYTES, Room, measure, server_paths
from agent.snapshot.settings import EngineSettings
from agent.snapshot.sharing import GROWS_BY, why_not

BYTES_S = 200 << 20
"""How fast a copy is assumed to go, hashing and reading back included: about what two
cores and one disk did with a warm cache. Only for the forecast."""
ANSWER_S = 5
CHECK_S = 5.0
"""A look that nobody can end early must not hold up the agent's end."""
EXEC_HINT = (
    "mend it, or take capture.exec out of the configuration; until then the server is"
    " copied without it"
)
LOGIN_HINT = "apply what `splitguard grants` prints, with its lines for pg_hba.conf"
HINT = "give capture.dir to the agent's user; or is its file system read-only?"
_MAY = """
SELECT pg_size_bytes(current_setting('max_wal_size')), current_user,
  coalesce(bool_and(has_function_privilege(wanted, 'EXECUTE')), false)
FROM unnest(ARRAY[
  coalesce(to_regprocedure('pg_backup_start(text,boolean)'),
           to_regprocedure('pg_start_backup(text,boolean,boolean)')),
  coalesce(to_regprocedure('pg_backup_stop(boolean)'),
           to_regprocedure('pg_stop_backup(boolean,boolean)'))]) AS wanted
"""
_READS = """
SELECT current_user, rolsuper OR rolbypassrls,
  (SELECT bool_and(has_database_privilege(oid, 'CONNECT'))
     FROM pg_database WHERE datallowconn),
  rolsuper
  OR EXISTS (SELECT FROM pg_roles AS wanted
    WHERE wanted.rolname = 'pg_read_all_data' AND pg_has_role(wanted.oid, 'USAGE'))
  OR (current_setting('server_version_num')::int < 140000 AND NOT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_'
      AND nspname <> 'information_schema'
      AND NOT has_table_privilege(pg_class.oid, 'SELECT')))
FROM pg_roles WHERE rolname = current_user
"""
"""What reading a losing side's rows takes; before 14 as far as one database shows."""


class Outlook:
    """Looks for one server. Blocking; not for several threads at once."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._max_wal_bytes = MAX_WAL_BYTES
        self._obstacles: list[Obstacle] = []
        self._plan = Plan()
        self._no_rows = ""

    def look(self) -> Readiness:
        """Try everything once. Never raises what a server or a disk can do."""
        self._obstacles, self._plan, self._no_rows = [], Plan(), ""
        settings = self._settings
        self._try_programs()
        self._try_grants()
        self._try_reading()
        method = self._try_methods()
        shared = method in (HOT_SHARED, COLD_SHARED)
        size = self._plan.size_bytes
        needed = round(size * GROWS_BY) if shared else size
        held, lacking = self._reserve()
        pace = min(settings.max_bytes_s or math.inf, 2 * BYTES_S)
        return Readiness(
            method=method,
            needed_bytes=needed,
            free_bytes=self._try_room(needed),
            seconds=size * (1 if shared else 2) / pace,
            no_pin=_no_pin(settings.data_dir),
            opened_wall_s=self._newest_opened(),
            obstacles=tuple(self._obstacles),
            yielding_bytes=self._yielding(),
            reserve_bytes=held,
            reserve_lacks=lacking,
            pins=self._left_pins(),
            no_rows=self._no_rows,
        )

    def _left_pins(self) -> tuple[LeftPin, ...]:
        """Return the pins that nobody will release by himself."""
        catalogue = Catalogue(self._settings.capture_dir)
        found: list[LeftPin] = []
        with suppress(CatalogueError, OSError):
            for one in catalogue.list():
                if one.closed and not one.complete:
                    farms = left_behind(catalogue.folder(one.id))
                    found += [LeftPin(one.id, str(farm)) for farm in farms[:1]]
        return tuple(found)

    def _reserve(self) -> tuple[int | None, int]:
        """Return how large the reserve is, and what it lacks."""
        reserve = self._settings.reserve
        if reserve is None:
            return None, 0
        with suppress(OSError):  # what is wrong with the folder is an obstacle already
            if reserve.wanted_bytes > 0:
                return reserve.held_bytes, reserve.owed_bytes
        return None, 0

    def _yielding(self) -> int:
        """Return how many bytes of snapshots would make way for a split's capture."""
        shelf = self._settings.shelf
        return shelf.could_give(None) if shelf is not None else 0

    def _object(self, reason: str, hint: str) -> None:
        self._obstacles.append(Obstacle(reason, hint))

    def _try_programs(self) -> None:
        try:
            find_programs(self._settings.bin_dir, self._settings.data_dir)
        except PostgresError as error:
            self._object(error.message, error.hint)

    def _try_grants(self) -> None:
        """See that a backup of the running server could be started."""
        found = running(self._settings.data_dir)
        if found is None or found.status not in {"ready", "standby"}:
            return  # stopped, it is copied without being asked; or it is coming up
        dsn = self._settings.find_dsn()
        if dsn is None:
            reason = "there is no way to connect to the running server"
            self._object(reason, "set local.dsn, or local.socket_dir")
            return
        try:
            with session(dsn, connect_timeout_s=ANSWER_S) as asked:
                self._max_wal_bytes, role, may = asked.execute(_MAY).fetchall()[0]
                self._no_rows = _why_no_rows(asked)
        except PostgresError as error:
            self._object(error.message, error.hint or LOGIN_HINT)
        else:
            if not may:
                hint = "grant what `splitguard grants` prints"
                self._object(f"role {role} may not start and stop a backup", hint)

    def _try_reading(self) -> None:
        """List what would be copied."""
        try:
            self._plan = make_plan(self._settings.data_dir, hot=True)
        except SplitguardError as error:
            self._object(error.message, error.hint)

    def _try_methods(self) -> str:
        """Return how a full copy would be made now."""
        runs = running(self._settings.data_dir) is not None
        if runs and self._settings.snapshot_program and self._can_freeze():
            return FROZEN
        if not why_not(self._plan.samples, self._settings.capture_dir):
            return HOT_SHARED if runs else COLD_SHARED
        return HOT if runs else COLD

    def _can_freeze(self) -> bool:
        named = self._settings.snapshot_program
        if named is None:
            return False
        limit_s = min(self._settings.snapshot_timeout_s, CHECK_S)
        program = SnapshotProgram(named, threading.Event(), limit_s)
        try:
            program.check(folders_of(self._settings.data_dir))
        except (SplitguardError, OSError) as error:
            reason = error.message if isinstance(error, SplitguardError) else error
            self._object(f"capture.exec would give nothing: {reason}", EXEC_HINT)
            return False
        return True

    def _try_room(self, needed: int) -> int:
        """See that so much fits; return how many bytes a copy may use."""
        folder = self._settings.capture_dir
        free = 0
        try:
            room = self._measure()
            free = room.left_bytes
            room.check(needed - self._yielding(), "a full copy")
        except SplitguardError as error:
            self._object(error.message, error.hint)
        except OSError as error:
            self._object(f"{error.filename or folder}: {error.strerror}", HINT)
            return 0
        if not os.access(folder, os.W_OK | os.X_OK):
            self._object(f"{folder} cannot be written to", HINT)
        return free

    def _measure(self) -> Room:
        folder, reserve = self._settings.capture_dir, self._settings.reserve
        paths = server_paths(self._settings.data_dir)
        return measure(folder, paths, self._max_wal_bytes, reserve)

    def _newest_opened(self) -> float | None:
        try:
            manifests = Catalogue(self._settings.capture_dir).list()
        except CatalogueError:
            return None  # what is wrong with the folder is an obstacle already
        opened = [
            one.updated_wall_s
            for one in manifests
            if one.node == self._settings.node and one.grade is Grade.OPENED
        ]
        return max(opened, default=None)


def _why_no_rows(asked: Session) -> str:
    """Return why the role cannot read every row; empty when it can."""
    role, past_security, connects, reads = asked.execute(_READS).fetchall()[0]
    lacking = [
        what
        for has, what in (
            (connects, "connect to every database"),
            (reads, "read every table"),
            (past_security, "see past row security"),
        )
        if not has
    ]
    if not lacking:
        return ""
    told = " and ".join(lacking)
    return f"role {role} may not {told}: grant what `splitguard grants` prints"


def _no_pin(data_dir: Path) -> str:
    home = data_dir.resolve()
    if home.is_mount():
        return "PGDATA is a mount point"
    with suppress(OSError):
        why = closed(home.parent)
        return f"{home.parent} is {why}" if why else ""
    return f"{home.parent} cannot be looked at"
