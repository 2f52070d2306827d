"""Small disks that fill up while a real server runs: it never suffers for a copy."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest

from agent.core.capture import CaptureStatus, Level, Phase
from agent.core.state import State
from agent.daemon.upkeep import Upkeep
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.fullcopy import PARTIAL
from agent.snapshot.marks import Kept
from agent.snapshot.outlook import Outlook
from agent.snapshot.removal import RECORD
from agent.snapshot.reserve import Reserve
from agent.snapshot.retention import Limits
from agent.snapshot.room import MAX_WAL_BYTES, SPARE_BYTES, floor_bytes
from agent.snapshot.settings import MakesWay
from agent.store.memory import MemoryJournal
from tests.capturing import ID, Gate, capturing, ids_in, settings_for
from tests.fix_apart import MIB, fill, free_bytes
from tests.fix_postgres import Server, Stage
from tests.shell.test_runtime import running
from tests.shell.test_scheduled import kept

pytestmark = [pytest.mark.postgres, pytest.mark.system]
IN_HAND_BYTES = 24 * MIB
"""A segment of the server, and what two threads write between two looks."""


@pytest.fixture
def cramped(stage16: Stage, small_disk: Path) -> Stage:
    """Servers that live on the small file system."""
    return replace(stage16, folder=small_disk)


@dataclass
class Lowest:
    """Looks at the free space of a volume, again and again."""

    folder: Path
    found_bytes: int = 1 << 62
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._end.wait(0.002):
            self.found_bytes = min(self.found_bytes, free_bytes(self.folder))

    def __exit__(self, *_: object) -> None:
        self._end.set()
        assert self._thread is not None
        self._thread.join(5)


def floor_of(folder: Path) -> int:
    return floor_bytes(shutil.disk_usage(folder).total, MAX_WAL_BYTES)


def grow(server: Server, mib: int) -> None:
    """Give a server so much more to copy, and no WAL of it."""
    ballast = server.data_dir / "base" / "1" / "ballast"
    ballast.write_bytes(os.urandom(MIB) * mib)
    found = server.data_dir.stat()
    os.chown(ballast, found.st_uid, found.st_gid)


def refused(status: CaptureStatus) -> bool:
    return status.phase is Phase.FAILED


@pytest.mark.apart(small="512m")
def test_a_copy_that_does_not_fit_is_refused_before_anything_moves(
    cramped: Stage, small_disk: Path
):
    primary = cramped.primary()
    grow(primary, 200)
    with Lowest(small_disk) as lowest, capturing(cramped, primary) as capture:
        capture.order()
        failed = capture.until("it is refused", refused)
        assert "no room for the full copy" in failed.reason
        assert f"{failed.missing_bytes} bytes are missing" in failed.reason
        assert failed.missing_bytes > 0
        primary.write(50)
        capture.until_kept(primary.lsn)
        assert not any(s.bytes_done for s in capture.statuses)
    assert lowest.found_bytes > floor_of(small_disk)


@pytest.mark.apart(small="448m")
def test_a_disk_that_somebody_fills_ends_the_copy_and_not_the_server(
    cramped: Stage, stage16: Stage, small_disk: Path
):
    primary = cramped.primary()
    grow(primary, 60)
    gate = Gate("during-copy")
    floor = floor_of(small_disk)
    primary.write(50)
    limit = 16.0 * MIB
    with capturing(cramped, primary, crash=gate, max_bytes_s=limit) as capture:
        capture.order()
        assert gate.reached.wait(20)
        fill(small_disk, floor + 32 * MIB)
        with Lowest(small_disk) as lowest:
            gate.opened.set()
            failed = capture.until("it is given up", refused)
            assert "no room for the rest of the full copy" in failed.reason
            assert failed.bytes_done > 0
            primary.write(50)
            capture.until_kept(primary.lsn)
        assert lowest.found_bytes > floor - IN_HAND_BYTES
        assert not (capture.folder / PARTIAL).exists()
        assert free_bytes(small_disk) > floor  # what the copy had taken is given back
        (small_disk / "of-somebody-else").unlink()
        capture.order(confirmed=primary.lsn)
        capture.until_complete()
        primary.write(50)
        primary.stop()
        capture.take_the_rest()
        assert len(ids_in(capture.folder, stage16)) == 150


@pytest.mark.apart(other="640m")
def test_the_tail_gets_the_reserve_and_it_is_made_again(
    stage16: Stage, other_disk: Path
):
    primary = stage16.primary()
    primary.write(10)
    reserve = Reserve(other_disk, 64 * MIB)
    assert reserve.wanted_bytes == shutil.disk_usage(other_disk).total // 20
    assert reserve.make(SPARE_BYTES)
    held = reserve.held_bytes
    way = MakesWay(reserve)
    with capturing(stage16, primary, folder=other_disk, makes_way=way) as capture:
        capture.order(Level.TAIL)
        capture.until_kept(primary.lsn)
        filled = fill(other_disk, SPARE_BYTES // 2 + MIB)
        primary.query("SELECT pg_switch_wal()")
        primary.write(2000, "x" * 1000)
        capture.until_kept(primary.lsn)
        assert reserve.held_bytes == 0
        assert reserve.owed_bytes == held
        assert not reserve.make(SPARE_BYTES)  # the disk is as full as before
        looked = Outlook(settings_for(primary, other_disk, makes_way=way)).look()
        assert looked.reserve_bytes == 0
        assert "reserve 0 B of" in looked.copy_line
        filled.unlink()
        assert reserve.make(SPARE_BYTES)
        assert reserve.held_bytes == held
        looked = Outlook(settings_for(primary, other_disk, makes_way=way)).look()
        assert looked.reserve_bytes == held
        primary.stop()
        capture.until_kept(capture.end_of_stopped())


@pytest.mark.apart(other="320m")
def test_without_any_room_the_newest_wal_is_named_as_missing_and_goes_first(
    stage16: Stage, other_disk: Path
):
    primary = stage16.primary()
    for _ in range(5):
        primary.write(5)
        primary.query("SELECT pg_switch_wal()")
    confirmed = primary.lsn
    primary.write(20)
    fill(other_disk, SPARE_BYTES // 2 + 24 * MIB)  # for one segment, and not for all
    with capturing(stage16, primary, folder=other_disk) as capture:
        capture.order(Level.TAIL, confirmed=confirmed)
        failed = capture.until("it says so", lambda s: s.missing_bytes > 0)
        assert "no room for the WAL tail" in failed.reason
        capture.until_kept(primary.lsn)
        primary.write(20)
        capture.until_kept(primary.lsn)
        assert capture.statuses[-1].start_lsn == confirmed
        (other_disk / "of-somebody-else").unlink()
        done = capture.until("all of it is kept", lambda s: s.phase is Phase.FOLLOWING)
        assert done.missing_bytes == 0
        assert done.start_lsn is not None
        assert done.start_lsn < confirmed


def shelve(folder: Path, name: str, created: float, mib: int, **changes: object):
    """Keep a snapshot of that size."""
    kept(folder, name, created, size_bytes=mib * MIB, closed=True, **changes)
    (folder / name / "data").write_bytes(bytes(mib * MIB))


def shelved(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


async def with_upkeep(folder: Path, body: Callable[[MakesWay], None]) -> None:
    """Run the body while an agent's upkeep can make way."""
    async with running(MemoryJournal(), State()) as (runtime, _):
        upkeep = Upkeep(runtime, Catalogue(folder), Limits(scheduled=100))
        way = MakesWay(Reserve(folder, 0), upkeep)
        await asyncio.to_thread(body, way)


@pytest.mark.apart(other="320m")
async def test_the_least_worthy_snapshots_make_way_for_the_capture_of_a_split(
    stage16: Stage, other_disk: Path
):
    primary = stage16.primary()
    primary.write(30)
    grow(primary, 56)  # the copy alone is more than what is free
    shelve(other_disk, "n1-scheduled-1", 1.0, 80)
    shelve(other_disk, "n1-scheduled-2", 4.0, 1)
    shelve(other_disk, "n1-asked", 2.0, 60)
    shelve(other_disk, "n1-pinned", 0.0, 40)
    shelve(other_disk, "n1-unsettled", 0.0, 1, incident_ids=("inc-9",))
    marks.keep(other_disk / "n1-pinned", Kept("ann", "an audit", 1.0))

    def capture_it(way: MakesWay) -> None:
        with capturing(stage16, primary, folder=other_disk, makes_way=way) as capture:
            ready = Outlook(settings_for(primary, other_disk, makes_way=way)).look()
            assert ready.obstacles == ()
            assert ready.yielding_bytes == (80 + 60 + 1) * MIB
            capture.order()
            capture.until_complete()
            assert len(capture.ids()) == 30

    await with_upkeep(other_disk, capture_it)
    assert "n1-scheduled-1" not in shelved(other_disk)
    assert shelved(other_disk) >= {"n1-pinned", "n1-unsettled", "n1-scheduled-2", ID}
    lines = [
        json.loads(line) for line in (other_disk / RECORD).read_text().splitlines()
    ]
    assert lines[0]["id"] == "n1-scheduled-1"
    assert f"to make room for {ID}" in lines[0]["reason"]
    assert "bytes missing" in lines[0]["reason"]


@pytest.mark.apart(other="320m")
async def test_nothing_is_removed_where_all_of_it_would_not_be_enough(
    stage16: Stage, other_disk: Path
):
    primary = stage16.primary()
    primary.write(30)
    shelve(other_disk, "n1-small", 1.0, 2)
    shelve(other_disk, "n1-newest", 2.0, 2)

    def capture_it(way: MakesWay) -> None:
        fill(other_disk, SPARE_BYTES + 16 * MIB)
        with capturing(stage16, primary, folder=other_disk, makes_way=way) as capture:
            capture.order()
            failed = capture.until("it is refused", refused)
            assert failed.missing_bytes > 4 * MIB

    await with_upkeep(other_disk, capture_it)
    assert shelved(other_disk) == {"n1-small", "n1-newest", ID}
    assert not (other_disk / RECORD).exists()
