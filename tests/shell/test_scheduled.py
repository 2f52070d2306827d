"""One scheduled snapshot per cluster, and never more of them than were asked for."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.action import RunCapture
from agent.core.capture import Grade, Level
from agent.core.event import ServerRead
from agent.core.lsn import Lsn
from agent.core.state import State
from agent.daemon.calendar import Calendar, next_after
from agent.daemon.scheduled import ScheduledSnapshots
from agent.daemon.upkeep import Upkeep
from agent.snapshot import manifest as manifests
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import remove_tree
from agent.snapshot.manifest import Manifest
from agent.snapshot.removal import RECORD
from agent.snapshot.retention import Limits
from agent.store.memory import MemoryJournal
from tests.core import given
from tests.shell.test_runtime import read, running

DAY_S = 86_400.0
PRIMARY = {"n1/postgres": given.postgres("n1", given.sight(), 1)}
STANDBY = {"n1/postgres": given.postgres("n1", given.sight(in_recovery=True), 1)}


def kept(folder: Path, name: str, created: float, **changes) -> None:
    """Put a snapshot with nothing but a manifest into the catalogue."""
    (folder / name).mkdir()
    made = replace(
        Manifest(
            id=name,
            cluster="test",
            node="n1",
            system_id=given.SYSTEM,
            timeline=1,
            lineage=given.lineage(),
            incident_ids=(),
            reason="schedule",
            created_wall_s=created,
            updated_wall_s=created,
            version_num=160014,
            wal_segment_bytes=1 << 24,
            levels=(Level.TAIL, Level.FULL),
            method="copy",
            grade=Grade.COMPLETE,
            start_lsn=Lsn(1),
            tail_lsn=Lsn(2),
            copy_lsn=Lsn(1),
            end_lsn=Lsn(2),
            has_backup_label=True,
            copy_timeline=1,
            wal_link="",
            needed_lsn=None,
            incarnation="",
            closed=True,
            size_bytes=0,
            files=(),
            folders=(),
            links=(),
        ),
        **changes,
    )
    manifests.write(folder / name, made)


def nightly(runtime, folder: Path) -> ScheduledSnapshots:
    """The job, with two scheduled snapshots to keep."""
    catalogue = Catalogue(folder)
    upkeep = Upkeep(runtime, catalogue, Limits(scheduled=2))
    return ScheduledSnapshots(runtime, upkeep, catalogue, "30 2 * * *")


def seeing(latest) -> State:
    state = State()
    return replace(state, view=replace(state.view, latest=latest))


async def test_the_agent_beside_the_primary_orders_a_full_copy(tmp_path):
    async with running(MemoryJournal(), seeing(PRIMARY)) as (runtime, done):
        await runtime.submit(read(runtime))
        await nightly(runtime, tmp_path).run()
        (action,) = done.actions
        assert isinstance(action, RunCapture)
        assert action.order.capture_id.startswith("n1-scheduled-")
        assert Level.FULL in action.order.levels


async def test_the_agent_beside_a_standby_orders_nothing(tmp_path):
    async with running(MemoryJournal(), seeing(STANDBY)) as (runtime, done):
        await runtime.submit(read(runtime))
        await nightly(runtime, tmp_path).run()
        assert done.actions == []


async def test_what_the_limits_are_against_goes_before_a_new_one_is_ordered(tmp_path):
    for number in range(4):
        kept(tmp_path, f"n1-scheduled-{number}", float(number))
    async with running(MemoryJournal(), seeing(PRIMARY)) as (runtime, _):
        await runtime.submit(read(runtime))
        await nightly(runtime, tmp_path).run()
    left = {path.name for path in tmp_path.iterdir()} - {RECORD}
    assert left == {"n1-scheduled-3", "n1-scheduled-2"}


async def test_a_missed_snapshot_is_made_up_once(tmp_path):
    async with running(MemoryJournal(), seeing(PRIMARY)) as (runtime, done):
        await runtime.submit(read(runtime))
        job = nightly(runtime, tmp_path)
        await job.make_up()
        assert done.actions == [], "nothing says that one was ever due"
        now_s = runtime.now().wall_s
        kept(tmp_path, "n1-scheduled-today", now_s)
        await job.make_up()
        assert done.actions == []
        remove_tree(tmp_path / "n1-scheduled-today")
        kept(tmp_path, "n1-scheduled-old", now_s - 3 * DAY_S)
        await job.make_up()
        await job.make_up()
    orders = [one for one in done.actions if isinstance(one, RunCapture)]
    assert len(orders) == 1


async def test_no_scheduled_snapshot_goes_onto_the_disk_of_the_data_directory(
    tmp_path, caplog
):
    facts = replace(given.facts(), data_dir=str(tmp_path))
    async with running(MemoryJournal(), seeing(PRIMARY)) as (runtime, done):
        await runtime.submit(ServerRead(runtime.now(), facts))
        await nightly(runtime, tmp_path).run()
    assert done.actions == []
    assert "set capture.dir apart" in caplog.text


def test_the_next_due_time_is_after_an_instant_that_is_one_itself():
    at = datetime(2026, 11, 23, 2, 30, tzinfo=UTC).timestamp()
    assert next_after("30 2 * * *", at) == at + DAY_S
    assert next_after("30 2 * * *", at - 1.5) == at
    assert next_after("0 0 31 2 *", at) is None


async def ignored() -> None:
    """A job that does nothing."""


@pytest.mark.parametrize("cron", ["30 2", "61 2 * * *", "now", ""])
async def test_a_wrong_cron_expression_is_refused(cron):
    with pytest.raises(ValueError, match=r".+"):
        Calendar().every("snapshot", cron, ignored)
