"""A losing side that was promoted itself: its rows begin where it left its primary."""

import pytest

from agent.core.lineage import Fork
from agent.divergence.losses import Task, examine
from agent.postgres.history import read_switches
from tests.capturing import capturing
from tests.fix_postgres import Stage

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("switched", [False, True], ids=["same segment", "later one"])
def test_it_is_read_from_there_though_its_last_checkpoint_came_later(
    stage16: Stage, switched: bool
):
    primary, loser = stage16.pair(wal_keep_size="256MB")
    with primary.session() as session:
        session.execute("CREATE TABLE held (id int PRIMARY KEY)")
    loser.caught_up(primary)
    loser.promote()
    with loser.session() as session:
        session.execute("INSERT INTO held VALUES (1)")
        if switched:
            session.execute("SELECT pg_switch_wal()")
        session.execute("CHECKPOINT")
        session.execute("INSERT INTO held VALUES (2), (3)")
    fork = Fork(1, read_switches(loser.data_dir / "pg_wal", 2)[-1].lsn)
    with capturing(stage16, loser) as capture:
        manifest = capture.finished_cold()
        assert manifest.start_lsn == fork.lsn
        task = Task(capture.folder, fork, 0.0, programs=stage16.programs)
        extraction, _ = examine(task, None)
    (table,) = extraction.databases[0].tables
    assert (table.born, table.changed, table.gone) == (3, 0, 0)


def test_without_the_log_from_there_on_it_is_kept_as_before(stage16: Stage):
    primary, loser = stage16.pair(wal_keep_size="0")
    primary.write(1)
    loser.caught_up(primary)
    loser.promote()
    left = read_switches(loser.data_dir / "pg_wal", 2)[-1].lsn
    for _ in range(3):
        loser.write(5)
        loser.query("SELECT pg_switch_wal()")
        loser.query("CHECKPOINT")
    with capturing(stage16, loser) as capture:
        manifest = capture.finished_cold()
    assert manifest.complete
    assert manifest.start_lsn > left
