"""The server beside this agent: found when it runs, read and captured from disk.

Theory of operation. The configuration may name the data directory; else it is
looked for among the running servers, anew with each reading until it is found, so
an agent that starts before its server needs no restart. What is found is remembered
in the state folder: an agent that is restarted beside a stopped loser, which is just
when it is needed, finds the folder again. The capture engine is made with the
first order; the core orders nothing before the folder was read. PostgreSQL 9.5 and
9.6 are read and never copied: that is an obstacle, and why a capture of them fails.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from agent.config import Settings
from agent.core.capture import CaptureOrder, CaptureStatus, Phase
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import ReadFailure, ServerFacts
from agent.core.prints import Printed
from agent.core.readiness import Obstacle, Readiness
from agent.divergence.live import LiveRows
from agent.errors import PostgresError
from agent.postgres.discovery import find_data_dir, local_dsn, port_of
from agent.postgres.programs import read_release
from agent.postgres.reader import DiskReader
from agent.snapshot.engine import Engine
from agent.snapshot.outlook import Outlook
from agent.snapshot.room import MAX_WAL_BYTES, measure, server_paths
from agent.snapshot.settings import EngineSettings, MakesWay

log = logging.getLogger(__name__)

MIB = 1 << 20
OLDEST_COPIED = 100000
"""The first version whose data directory the capture engine knows."""
MEMORY = "pgdata"
"""The file in the state folder that names the data directory found last."""


class ServerBeside:
    """Implements ports.ServerReader and ports.CaptureEngine for one node."""

    def __init__(
        self,
        settings: Settings,
        moment: Callable[[], Moment],
        on_status: Callable[[CaptureStatus], None],
        crash: Callable[[str], None],
        makes_way: MakesWay,
        printed: Printed | None = None,
    ) -> None:
        self._settings = settings
        self._moment = moment
        self._on_status = on_status
        self._crash = crash
        self._data_dir = settings.local.data_dir
        self._memory = settings.state_dir / MEMORY
        self._makes_way = makes_way
        self._printed = printed
        self._reader: DiskReader | None = None
        self._engine: Engine | None = None

    def read(self, pages: tuple[Lsn, ...] = ()) -> ServerFacts | ReadFailure:
        """Read the server's disk; a folder that is not found is a failure too."""
        try:
            data_dir = self._found()
        except PostgresError as error:
            return ReadFailure(error.message, error.hint)
        if self._reader is None:
            bin_dir = self._settings.local.bin_dir
            self._reader = DiskReader(data_dir, bin_dir, self._printed)
        return self._reader.read(pages)

    def run(self, order: CaptureOrder) -> None:
        """Start the capture, or widen the running one. Returns at once.

        A server that is not found is the capture's trouble, not the agent's end.
        """
        try:
            engine = self._made()
        except PostgresError as error:
            log.warning("capture %s: %s", order.capture_id, error)
            self._on_status(_not_begun(order, error))
            return
        engine.run(order)

    def finish(self, capture_id: str) -> None:
        """Stop following and write the final manifest. Returns at once."""
        try:
            self._made().finish(capture_id)
        except PostgresError as error:
            log.warning("capture %s stays open: %s", capture_id, error)

    def outlook(self) -> Readiness:
        """Try what a full copy would need, and hold the reserve where there is room.

        Raises PostgresError without a PGDATA.
        """
        data_dir = self._found()
        too_old = _not_copied(data_dir)
        if too_old is not None:
            obstacle = Obstacle(too_old.message, too_old.hint)
            return Readiness(0, 0, 0.0, "", None, obstacles=(obstacle,))
        settings = self._engine_settings()
        self._hold_reserve(settings.data_dir)
        return Outlook(settings).look()

    def _hold_reserve(self, data_dir: Path) -> None:
        folder = self._settings.capture_dir
        try:
            room = measure(folder, server_paths(data_dir), MAX_WAL_BYTES)
            self._makes_way.reserve.make(room.floor_bytes)
        except OSError as error:
            log.warning("the reserve in %s: %s", folder, error.strerror)

    def stop(self) -> None:
        """Stop all threads within 3 s, because the agent ends; files stay."""
        if self._engine is not None:
            self._engine.stop()

    def _found(self) -> Path:
        """Return PGDATA: configured, found running, or remembered from then."""
        if self._data_dir is not None:
            return self._data_dir
        dsn = self._settings.node_settings(self._settings.me).postgres
        try:
            self._data_dir = find_data_dir(port_of(dsn) if dsn else None)
        except PostgresError:
            remembered = self._recalled()
            if remembered is None:
                raise
            self._data_dir = remembered
        else:
            self._remember(self._data_dir)
        log.info("PGDATA is %s", self._data_dir)
        return self._data_dir

    def _recalled(self) -> Path | None:
        try:
            named = self._memory.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return Path(named) if named else None

    def _remember(self, data_dir: Path) -> None:
        try:
            self._memory.write_text(f"{data_dir}\n")
        except OSError as error:
            log.warning("%s: %s", self._memory, error.strerror)

    def _made(self) -> Engine:
        too_old = _not_copied(self._found())
        if too_old is not None:
            raise too_old
        if self._engine is None:
            self._engine = Engine(
                self._engine_settings(), self._moment, self._on_status, self._crash
            )
        return self._engine

    def _engine_settings(self) -> EngineSettings:
        return EngineSettings(
            capture_dir=self._settings.capture_dir,
            data_dir=self._found(),
            bin_dir=self._settings.local.bin_dir,
            find_dsn=self._dsn,
            node=self._settings.me,
            cluster=self._settings.cluster,
            max_bytes_s=self._settings.capture.max_mib_s * MIB,
            snapshot_program=self._settings.capture.exec,
            snapshot_timeout_s=self._settings.capture.exec_timeout_s,
            makes_way=self._makes_way,
            rows=LiveRows(),
        )

    def _dsn(self) -> str | None:
        """Return how splitguard_local connects now; None when nobody knows."""
        local = self._settings.local
        if local.dsn is not None or self._data_dir is None:
            return local.dsn
        return local_dsn(self._data_dir, local.socket_dir, "splitguard_local")


def _not_copied(data_dir: Path) -> PostgresError | None:
    """Return why nothing of this server is copied; None when it can be."""
    version = read_release(data_dir)
    if version >= OLDEST_COPIED:
        return None
    return PostgresError(
        f"PostgreSQL 9.{version // 100 % 100} is watched and not copied",
        "copy its data directory by hand before anything resyncs it, or upgrade it to"
        " 10 or later",
    )


def _not_begun(order: CaptureOrder, error: PostgresError) -> CaptureStatus:
    """Return what is told of a capture that found no server."""
    reason = f"{error.message}; {error.hint}"
    return CaptureStatus.nothing_kept(order.capture_id, Phase.FAILED, reason)
