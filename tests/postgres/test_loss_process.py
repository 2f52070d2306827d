"""The process that makes a loss report: real servers, the real child, its real end."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.core.lineage import Fork
from agent.daemon.losschild import LossChild
from agent.daemon.lossmaker import loss_of
from agent.divergence import report as reports
from agent.divergence import shelf
from agent.divergence.job import Job, Opponent, Outcome
from agent.divergence.report import Report
from agent.postgres import postmaster
from agent.postgres.history import read_switches
from tests.capturing import capturing
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres
WITHIN_S = 60.0


@dataclass
class Lost:
    """A losing side that was captured and stopped, and the winner beside it."""

    stage: Stage
    winner: Server
    folder: Path
    fork: Fork

    def job(self, **changes) -> Job:
        scratch = self.stage.folder / f"scratch-{time.monotonic_ns()}"
        scratch.mkdir(mode=0o711)
        made = Job(
            folder=str(self.folder),
            scratch=str(scratch),
            fork=self.fork,
            made_wall_s=1_800_000_000.0,
            bin_dir=str(self.stage.programs.bin_dir),
            winner=Opponent("n2", self.winner.dsn),
            redact=("*.*.secret*",),
            statement_timeout_s=30.0,
        )
        return replace(made, **changes)

    def made(self, job: Job) -> Outcome:
        """Have the report made; return how that ended."""
        child = LossChild(job)
        try:
            eventually("it ends", lambda: child.outcome, WITHIN_S)
            outcome = child.outcome
        finally:
            child.end(5.0)
        assert outcome is not None
        assert not any(Path(job.scratch).iterdir())
        return outcome

    @property
    def report(self) -> Report:
        found = reports.load(shelf.folder_of(self.folder))
        assert found is not None
        return found


@pytest.fixture
def lost(stage16: Stage) -> Iterator[Lost]:
    loser, winner = stage16.pair()
    with loser.session() as session:
        session.execute("CREATE TABLE kept_apart (id int PRIMARY KEY, secret text)")
        session.execute("INSERT INTO kept_apart VALUES (1, 'common')")
    winner.caught_up(loser)
    winner.promote()
    with loser.session() as session:
        session.execute("INSERT INTO kept_apart VALUES (2, 'lost'), (3, 'mine')")
        session.execute("UPDATE kept_apart SET secret = 'changed' WHERE id = 1")
    with winner.session() as session:
        session.execute("INSERT INTO kept_apart VALUES (3, 'theirs')")
    with capturing(stage16, loser) as capture:
        manifest = capture.finished_cold()
        assert manifest.complete
        fork = Fork(1, read_switches(winner.data_dir / "pg_wal", 2)[-1].lsn)
        yield Lost(stage16, winner, capture.folder, fork)


def test_it_reads_compares_and_keeps_the_report(lost: Lost):
    assert lost.made(lost.job()) == Outcome()
    report = lost.report
    (table,) = report.tables
    assert table.name == "public.kept_apart"
    counts = table.counts
    assert (counts.lost, counts.changed, counts.collisions) == (1, 1, 1)
    assert "'mine'" not in repr(report)
    loss = loss_of(report)
    assert (loss.transactions, loss.rows, loss.winner) == (2, 3, "n2")


def test_without_a_winner_it_says_what_was_written(lost: Lost):
    assert lost.made(lost.job(winner=None)) == Outcome()
    loss = loss_of(lost.report)
    assert (loss.transactions, loss.rows, loss.winner) == (2, 3, "")


def test_a_winner_that_is_down_is_a_gap_and_no_failure(lost: Lost):
    lost.winner.stop()
    assert lost.made(lost.job()) == Outcome()
    report = lost.report
    assert report.winner is None
    assert [one.what for one in report.gaps if one.what == "n2"] == ["n2"]


def test_what_is_no_losing_side_fails_with_its_reason(lost: Lost):
    end = Fork(1, type(lost.fork.lsn)(int(lost.fork.lsn) + (1 << 30)))
    outcome = lost.made(lost.job(fork=end))
    assert "holds nothing that a losing side wrote" in outcome.message
    assert outcome.hint


def test_when_the_agent_is_gone_it_ends_with_its_server_and_its_clone(lost: Lost):
    job = lost.job()
    child = LossChild(job)
    scratch = Path(job.scratch)

    def opened() -> Path | None:
        return next(scratch.glob("*/data/postmaster.pid"), None)

    data = eventually("its private server starts", opened, WITHIN_S).parent
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
    child._process.stdin.close()  # type: ignore[union-attr] # as when the agent dies
    eventually("it ends", lambda: child.outcome, WITHIN_S)
    assert postmaster.running(data) is None
    assert not any(scratch.iterdir())
