"""What it takes to say what was lost, beside a dump of the database.

Both sides of a pgbench database write about 9 MB of WAL past the fork. The losing side
is read where it runs: opening a clone of its snapshot is a cost of its own, told by the
bench of captures. Reading the row files back and the winner's log are part of it.
"""

import contextlib
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.postgres.owner import give, unprivileged
from tests.bench.filled import FILLING, LASTING, seconds
from tests.bench.table import Table
from tests.fix_postgres import Server, Stage, template_of
from tests.parted import Parted, script

VERSION = "16"
SCALE_A_GIB = 70
TRANSACTIONS = 550
RUNS = 3
ROWS = 1_000_000

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1800)]


@contextlib.contextmanager
def stage_on_disk(home: Path) -> Iterator[Stage]:
    """Where servers lie on a real disk."""
    programs, template = template_of(VERSION, home)
    with tempfile.TemporaryDirectory(prefix="sgb-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        give(folder, unprivileged())
        stage = Stage(folder, template, programs)
        try:
            yield stage
        finally:
            stage.close()


def copied(stage: Stage, primary: Server) -> Server:
    """Return a standby that is a cold copy: replaying the filling takes minutes."""
    primary.stop()
    primary.configure(**LASTING)
    primary.start()  # what was logged with less is no beginning for a standby
    primary.stop()
    standby = stage.server("n2", LASTING)
    shutil.rmtree(standby.data_dir)
    seconds("cp", "-a", "--reflink=auto", primary.data_dir, standby.data_dir)
    primary.start()
    standby.configure(unix_socket_directories=str(standby.socket_dir), **LASTING)
    standby.follow(primary)
    standby.start()
    return standby


def pgbench(stage: Stage, server: Server, *options: str) -> None:
    """Fill the database, or write to it."""
    run(stage, server, "pgbench", "-n", *options, "postgres")


def run(stage: Stage, server: Server, program: str, *options: str) -> float:
    """Run a program against a server; return the seconds."""
    began = time.monotonic()
    where = ("-h", str(server.socket_dir), "-p", str(server.port), "-U", "postgres")
    command = (program, *where, *options)
    stage.programs.run(command, as_owner_of=stage.folder, timeout_s=900)
    return time.monotonic() - began


def measured(gib: int, home: Path) -> tuple[list[float], list[float], float]:
    """Return our seconds and pg_dump's, and the MB of WAL that the loser wrote."""
    with stage_on_disk(home) as stage:
        loser = stage.primary(**FILLING)
        pgbench(stage, loser, "-i", "-q", "-s", str(SCALE_A_GIB * gib))
        winner = copied(stage, loser)
        parted = Parted.part(stage, loser, winner)
        winner.query("CHECKPOINT")
        pgbench(stage, loser, "-t", str(TRANSACTIONS))
        pgbench(stage, winner, "-t", str(TRANSACTIONS))
        wal_mb = (loser.lsn - parted.fork.lsn) / 1e6
        ours, theirs = [], []
        for number in range(RUNS):
            began = time.monotonic()
            comparison = parted.compared(parted.extraction())
            ours.append(time.monotonic() - began)
            lost = [one.counts for one in comparison.tables]
            assert sum(sum(counts.values()) for counts in lost) >= 2 * TRANSACTIONS
            target = str(stage.folder / f"dump{number}")
            options = ("-Fc", "-f", target, "postgres")
            theirs.append(run(stage, loser, "pg_dump", *options))
        return ours, theirs, wal_mb


def test_a_loss_report_beside_a_dump(found: Table, postgres_home: Path) -> None:
    small, dumps, wal_mb = measured(1, postgres_home)
    large, *_ = measured(4, postgres_home)
    took = statistics.median(small)
    what = f"rows of the losing side kept and compared, 1 GiB, {wal_mb:.0f} MB of WAL"
    found.compare(what, took, (statistics.median(dumps), "pg_dump -Fc"), 0.3)
    found.compare(
        "the same in 4 GiB", statistics.median(large), (took, "in 1 GiB"), 1.3
    )


COMMON = """
    CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500000) g;
"""
LOSER = """
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(600001, 1100000) g;
    UPDATE t SET v = 'x' || v WHERE id <= 500000;
"""
WINNER = """
    INSERT INTO t SELECT g, 'w' || g FROM generate_series(900001, 1000000) g;
    UPDATE t SET v = 'y' || v WHERE id <= 100000;
"""


def test_the_memory_for_a_million_rows(found: Table, postgres_home: Path) -> None:
    with stage_on_disk(postgres_home) as stage:
        parted = Parted.make(stage, COMMON, max_wal_size="4GB")
        script(parted.loser, LOSER)
        script(parted.winner, WINNER)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            differing, mib = pool.apply(worked, (bare(parted),))
    assert differing == ROWS
    found.add(f"memory to keep and compare {ROWS} rows that differ", mib, "MiB", 256)


def bare(parted: Parted) -> Parted:
    """Return it without the servers' processes, which cannot be handed over."""
    loser = replace(parted.loser, process=None)
    winner = replace(parted.winner, process=None)
    stage = replace(parted.stage, servers=[])
    return replace(parted, loser=loser, winner=winner, stage=stage)


def worked(parted: Parted) -> tuple[int, float]:
    """Do all of it in a process of its own; return the rows and its memory in MiB."""
    comparison = parted.compared(parted.extraction())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return sum(table.differing for table in comparison.tables), used
