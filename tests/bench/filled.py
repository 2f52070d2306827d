"""Servers of a given size on a real disk, made quickly, and how they are timed."""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.capture import CaptureStatus, Grade, Level
from agent.core.lsn import Lsn
from agent.postgres.owner import give, unprivileged
from tests.capturing import GRANTS, Capturing, capturing
from tests.fix_postgres import Server, Stage, template_of

VERSION = "16"
PAGES_A_MIB = 128
# One row fills a page, and nothing is compressed or stored elsewhere.
ROWS = "SELECT repeat(md5(n::text), 246) FROM generate_series(1, {}) AS n"
LASTING = {
    "fsync": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "8GB",
    "wal_level": "replica",
    "max_wal_senders": "10",
}
# What is put into a table in the transaction that made it is not logged then.
FILLING = LASTING | {"wal_level": "minimal", "max_wal_senders": "0"}


@contextlib.contextmanager
def filled(mib: int, home: Path) -> Iterator[tuple[Stage, Server]]:
    """A running server whose database has a table of so many MiB."""
    programs, template = template_of(VERSION, home)
    with tempfile.TemporaryDirectory(prefix="sgb-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        give(folder, unprivileged())
        stage = Stage(folder, template, programs)
        try:
            server = stage.primary(**FILLING)
            with server.session() as session, session.transaction():
                session.execute("CREATE TABLE wide (filler text STORAGE plain)")
                session.execute(f"INSERT INTO wide {ROWS.format(mib * PAGES_A_MIB)}")
            server.stop()
            server.configure(**LASTING)
            server.start()
            for grant in GRANTS:
                server.query(grant)
            yield stage, server
        finally:
            stage.close()


def write_wal(server: Server, mib: int) -> None:
    """Commit so many MiB more, which the WAL then holds since the last checkpoint."""
    server.query(f"INSERT INTO wide {ROWS.format(mib * PAGES_A_MIB)}")


def at_rest(server: Server | None) -> None:
    """Have everything on the disk, so that nobody pays for what was before."""
    if server is not None:
        server.query("CHECKPOINT")
    os.sync()


@dataclass(frozen=True)
class Pair:
    """Our time and the peer's, from runs that took turns."""

    ours: list[float]
    peers: list[float]

    @property
    def ours_s(self) -> float:
        return statistics.median(self.ours)

    @property
    def peers_s(self) -> float:
        return statistics.median(self.peers)


def take_turns(runs: int, ours: Callable[[], float], peer: Callable[[], float]) -> Pair:
    """Run both so often, each of them first every other time."""
    pair = Pair([], [])
    for number in range(runs):
        turn = [(ours, pair.ours), (peer, pair.peers)]
        for run, times in turn if number % 2 else reversed(turn):
            times.append(run())
    return pair


def seconds(*command: str | Path, stage: Stage | None = None) -> float:
    """Run a program, as the servers' user with `stage`; return how long it took."""
    began = time.monotonic()
    if stage is None:
        subprocess.run(command, check=True, timeout=600, capture_output=True)
    else:
        stage.programs.run(command, as_owner_of=stage.folder, timeout_s=600)
    return time.monotonic() - began


@contextlib.contextmanager
def followed(stage: Stage, server: Server, name: str) -> Iterator[Capturing]:
    """A capture that has the WAL of the server; its folder is removed at the end."""
    folder = stage.folder / name
    with capturing(stage, server, folder=folder) as capture:
        capture.order(Level.TAIL)
        capture.until("WAL is kept", lambda s: s.tail_lsn is not None)
        yield capture
    shutil.rmtree(folder)


def copied(status: CaptureStatus) -> bool:
    """Whether the full copy was read back."""
    return status.grade.rank >= Grade.CAPTURED.rank


def until_copied(capture: Capturing, final: Lsn | None = None) -> float:
    """Order the full copy; return the seconds until it was read back."""
    began = time.monotonic()
    capture.order(Level.TAIL, Level.FULL, final=final)
    with capture.news:
        assert capture.news.wait_for(lambda: copied(capture.statuses[-1]), 600), (
            capture.statuses[-3:]
        )
    return time.monotonic() - began
