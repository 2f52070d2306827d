"""The process that makes a loss report: real servers, the real child, its real end."""

import os
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.daemon.losschild import LossChild
from agent.daemon.lossmaker import loss_of
from agent.daemon.storytelling import StoryTelling
from agent.divergence import compared, shelf
from agent.divergence import report as reports
from agent.divergence.job import AgentThere, Job, Opponent, Outcome
from agent.divergence.report import Report
from agent.errors import DivergenceError
from agent.postgres import postmaster
from agent.postgres.history import read_switches
from tests.capturing import capturing
from tests.core import given
from tests.fix_desk import PEER_TOKEN, healthy, listening, serve
from tests.fix_losses import read_story_lines
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
    (reason,) = [one.reason for one in report.gaps if one.what == "n2"]
    assert "cannot connect to n2" in reason


def test_what_is_no_losing_side_fails_with_its_reason(lost: Lost):
    end = Fork(1, Lsn(int(lost.fork.lsn) + (1 << 30)))
    outcome = lost.made(lost.job(fork=end))
    assert "holds nothing that a losing side wrote" in outcome.message
    assert outcome.hint


def telling(lost: Lost, **more) -> StoryTelling:
    facts = given.facts(wal_segment_bytes=1 << 24)
    there = replace(facts, data_dir=str(lost.winner.data_dir))
    return StoryTelling(lambda: there, lost.stage.programs.bin_dir, **more)


def test_the_winners_agent_tells_what_became_of_rows_that_are_gone(lost: Lost):
    with lost.winner.session() as session:
        session.execute("DELETE FROM kept_apart WHERE id = 1")
    served = serve(healthy(), changes=telling(lost))
    with listening(served) as url:
        there = AgentThere(url, PEER_TOKEN)
        winner = Opponent("n2", lost.winner.dsn, there)
        assert lost.made(lost.job(winner=winner)) == Outcome()
    comparison = compared.load(shelf.folder_of(lost.folder))
    assert comparison is not None
    assert comparison.against.by_log
    assert comparison.winner_committed == 2
    (table,) = lost.report.tables
    assert (table.counts.conflicts, table.counts.changed) == (1, 0)


def test_an_agent_that_tells_nothing_costs_precision_and_no_report(lost: Lost):
    served = serve(healthy(), changes=telling(lost))
    with listening(served) as url:
        winner = Opponent("n2", lost.winner.dsn, AgentThere(url, "a wrong token"))
        assert lost.made(lost.job(winner=winner)) == Outcome()
    comparison = compared.load(shelf.folder_of(lost.folder))
    assert comparison is not None
    assert not comparison.against.by_log


def asked(lost: Lost, told: StoryTelling) -> Generator[bytes, None, None]:
    lsn = lost.winner.lsn
    return told.told(2, lost.fork.lsn, lsn, {"5": "3:9999:"})


def test_one_story_is_told_at_a_time_and_a_listener_that_leaves_ends_it(lost: Lost):
    told = telling(lost)
    first = asked(lost, told)
    next(first)
    with pytest.raises(DivergenceError, match="already"):
        next(asked(lost, told))
    first.close()
    assert read_story_lines(b"".join(asked(lost, told)).splitlines()).ended


def test_what_the_log_does_not_have_any_more_is_told_as_such(lost: Lost):
    told = telling(lost)
    with pytest.raises(DivergenceError) as refused:
        next(told.told(2, Lsn(0x28), lost.winner.lsn, {}))
    assert refused.value.message
    with pytest.raises(DivergenceError, match="a snapshot is"):
        next(told.told(2, lost.fork.lsn, lost.winner.lsn, {"5": "nonsense"}))


def test_a_story_that_takes_too_long_is_ended(lost: Lost):
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    told = telling(lost, limit_s=0.2, command=command)
    with pytest.raises(DivergenceError, match="taken too long"):
        next(asked(lost, told))


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
