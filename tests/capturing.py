"""A capture engine on a test's server, and a client that notes acknowledgements."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg

from agent.core.capture import CaptureOrder, CaptureStatus, Level, Phase
from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import ServerFacts
from agent.divergence.live import LiveRows
from agent.postgres.reader import DiskReader
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.engine import Engine, no_crash
from agent.snapshot.manifest import Manifest
from agent.snapshot.opening import open_copy
from agent.snapshot.settings import EngineSettings, MakesWay
from tests.fix_postgres import Server, Stage, eventually

ID = f"n1-{os.getpid():08x}"
"""Its own in each process: what freezes a file system knows a snapshot by name only."""
WITHIN_S = 30.0
PROGRAM_S = 3.0
"""What a snapshot program gets; some are made to hang."""


ROLE = "splitguard_local"
GRANTS = (
    f"CREATE ROLE {ROLE} LOGIN",
    f"GRANT pg_monitor TO {ROLE}",
    f"GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO {ROLE}",
    f"GRANT EXECUTE ON FUNCTION pg_backup_stop(boolean) TO {ROLE}",
)


def moment() -> Moment:
    return Moment(time.monotonic(), time.time())


def settings_for(
    server: Server,
    capture_dir: Path,
    *,
    sql: bool = True,
    user: str = "postgres",
    max_bytes_s: float = 0.0,
    makes_way: MakesWay | None = None,
    program: Path | None = None,
) -> EngineSettings:
    dsn = server.dsn.replace("user=postgres", f"user={user}") if sql else None
    return EngineSettings(
        capture_dir=capture_dir,
        data_dir=server.data_dir,
        bin_dir=server.programs.bin_dir,
        find_dsn=lambda: dsn,
        node="n1",
        cluster="test",
        max_bytes_s=max_bytes_s,
        makes_way=makes_way,
        snapshot_program=program,
        snapshot_timeout_s=PROGRAM_S,
        rows=LiveRows(),
    )


@dataclass
class Capturing:
    """An engine whose statuses can be waited for."""

    stage: Stage
    server: Server
    capture_dir: Path
    sql: bool = True
    user: str = "postgres"
    crash: Callable[[str], None] = no_crash
    max_bytes_s: float = 0.0
    makes_way: MakesWay | None = None
    program: Path | None = None
    statuses: list[CaptureStatus] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)
    engine: Engine = field(init=False)
    ordered: CaptureOrder | None = None

    def __post_init__(self) -> None:
        settings = settings_for(
            self.server,
            self.capture_dir,
            sql=self.sql,
            user=self.user,
            max_bytes_s=self.max_bytes_s,
            makes_way=self.makes_way,
            program=self.program,
        )
        self.engine = Engine(settings, moment, self.take, self.crash)

    def take(self, status: CaptureStatus) -> None:
        with self.news:
            self.statuses.append(status)
            self.news.notify_all()

    def order(
        self,
        *levels: Level,
        confirmed: Lsn | None = None,
        final: Lsn | None = None,
        fork: Fork | None = None,
    ) -> None:
        wanted = levels or tuple(Level)
        self.ordered = CaptureOrder(
            ID, "n1", wanted, ("inc-1",), "a test", confirmed, final, fork
        )
        self.engine.run(self.ordered)

    def until(
        self, what: str, condition: Callable[[CaptureStatus], bool]
    ) -> CaptureStatus:
        """Wait until the latest status is so, and return it."""

        def so() -> bool:
            return bool(self.statuses) and condition(self.statuses[-1])

        with self.news:
            assert self.news.wait_for(so, WITHIN_S), (what, self.statuses[-5:])
            return self.statuses[-1]

    def until_complete(self) -> CaptureStatus:
        return self.until(
            "the copy is complete",
            lambda s: s.reached_lsn is not None and s.phase is Phase.FOLLOWING,
        )

    def until_kept(self, lsn: Lsn) -> CaptureStatus:
        return self.until(
            f"the tail reaches {lsn}",
            lambda s: s.tail_lsn is not None and s.tail_lsn >= lsn,
        )

    def end_of_stopped(self) -> Lsn:
        """Return where the stopped server's WAL ends, as the core learns it."""
        reader = DiskReader(self.server.data_dir, self.server.programs.bin_dir)

        def end() -> Lsn | None:
            facts = reader.read()
            return facts.end_lsn if isinstance(facts, ServerFacts) else None

        found: Lsn = eventually("the server stands still", end)
        return found

    def take_the_rest(self) -> CaptureStatus:
        """What the gate does: order up to the final LSN and wait until it is there."""
        final = self.end_of_stopped()
        self.order(Level.TAIL, Level.FULL, final=final)
        return self.until(
            f"the copy reaches {final}",
            lambda s: s.reached_lsn is not None and s.reached_lsn >= final,
        )

    def finished_cold(self) -> Manifest:
        """A whole capture: copied while it runs, then stopped, completed and closed."""
        self.order()
        self.until_complete()
        self.server.stop()
        self.take_the_rest()
        return self.close()

    def close(self) -> Manifest:
        self.engine.finish(ID)
        self.until("the capture is closed", lambda s: s.phase is Phase.CLOSED)
        return self.manifest

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.capture_dir)

    @property
    def folder(self) -> Path:
        return self.catalogue.folder(ID)

    @property
    def manifest(self) -> Manifest:
        return self.catalogue.show(ID)

    def ids(self) -> set[int]:
        """Open the copy and return the keys of the rows in it."""
        return ids_in(self.folder, self.stage)


def ids_in(snapshot: Path, stage: Stage) -> set[int]:
    with (
        open_copy(snapshot, stage.folder, stage.programs) as opened,
        psycopg.connect(opened.dsn_for("postgres")) as session,
    ):
        rows = session.execute("SELECT id FROM kept").fetchall()
    return {row[0] for row in rows}


@contextlib.contextmanager
def capturing(
    stage: Stage,
    server: Server,
    *,
    sql: bool = True,
    user: str = "postgres",
    crash: Callable[[str], None] = no_crash,
    max_bytes_s: float = 0.0,
    folder: Path | None = None,
    makes_way: MakesWay | None = None,
    program: Path | None = None,
) -> Iterator[Capturing]:
    folder = folder or stage.folder / "captures"
    made = Capturing(
        stage, server, folder, sql, user, crash, max_bytes_s, makes_way, program
    )
    try:
        yield made
    finally:
        made.engine.stop()


@dataclass
class Client:
    """Commits rows one by one until the server goes away or it is told to end."""

    server: Server
    acknowledged: set[int] = field(default_factory=set)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.server.write(10)
        self.acknowledged |= {
            row[0] for row in self.server.query("SELECT id FROM kept")
        }
        self._thread = threading.Thread(target=self._commit, daemon=True)
        self._thread.start()
        return self

    def _commit(self) -> None:
        with contextlib.suppress(psycopg.Error), self.server.session() as session:
            while not self._end.is_set():
                row = session.execute(
                    "INSERT INTO kept (mark) VALUES (repeat('x', 500)) RETURNING id"
                ).fetchone()
                assert row is not None
                self.acknowledged.add(row[0])

    def go_on(self, rows: int = 50) -> None:
        """Wait until this many more rows were acknowledged."""
        target = len(self.acknowledged) + rows
        eventually("rows are committed", lambda: len(self.acknowledged) >= target)

    def end(self) -> None:
        self._end.set()
        assert self._thread is not None
        self._thread.join(10)

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass
class Gate:
    """A crash hook that holds the engine at a point until it is let through."""

    point: str
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.reached.set()
            assert self.opened.wait(WITHIN_S)
