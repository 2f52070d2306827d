"""A capture's run against a folder, a disk and a server that are not as hoped."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.capture import CaptureOrder, CaptureStatus, Level, Phase
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.snapshot import manifest as manifests
from agent.snapshot.engine import Engine, no_crash
from agent.snapshot.record import Identity
from agent.snapshot.run import CaptureRun
from agent.snapshot.settings import EngineSettings

WITHIN_S = 30.0
ID = "n1-1"


class Told:
    """What an engine tells, to be waited for."""

    def __init__(self) -> None:
        self.statuses: list[CaptureStatus] = []
        self._news = threading.Condition()

    def __call__(self, status: CaptureStatus) -> None:
        with self._news:
            self.statuses.append(status)
            self._news.notify_all()

    def until(self, phase: Phase) -> CaptureStatus:
        with self._news:
            assert self._news.wait_for(
                lambda: bool(self.statuses) and self.statuses[-1].phase is phase,
                WITHIN_S,
            ), self.statuses
            return self.statuses[-1]


def now() -> Moment:
    return Moment(time.monotonic(), time.time())


def settings(tmp_path: Path) -> EngineSettings:
    (tmp_path / "pg").mkdir()
    return EngineSettings(
        tmp_path / "cap", tmp_path / "pg", None, lambda: None, "n1", "c"
    )


def order(*levels: Level) -> CaptureOrder:
    return CaptureOrder(ID, "n1", levels or tuple(Level), ("inc-1",), "", None, None)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def engine(tmp_path: Path, told: Told) -> Iterator[Engine]:
    made = Engine(settings(tmp_path), now, told)
    yield made
    made.stop()


def only_copy(tmp_path: Path, manifest: str) -> set[Path]:
    """Write a capture's folder and return all that is in it."""
    folder = tmp_path / "cap" / ID
    for path in ("data/base/1259", "wal/000000010000000000000001", "copy.old/data/x"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"the only copy of the lost rows")
    (folder / "manifest.json").write_text(manifest)
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    "manifest",
    ['{"format": 2, "id": "n1-1", "closed": false}', '{"format": 1, "id', ""],
    ids=["of a newer version", "cut off", "empty"],
)
@pytest.mark.parametrize("closing", [False, True], ids=["ordered", "closed"])
def test_what_an_unreadable_manifest_speaks_of_is_left_alone(
    tmp_path: Path, engine: Engine, told: Told, manifest: str, closing: bool
):
    before = only_copy(tmp_path, manifest)
    if closing:
        engine.finish(ID)
    else:
        engine.run(order())
    failed = told.until(Phase.FAILED)
    assert "manifest.json" in failed.reason
    assert "nothing of it is touched" in failed.reason
    engine.stop()
    folder = tmp_path / "cap" / ID
    assert set(folder.rglob("*")) == before
    assert (folder / "manifest.json").read_text() == manifest


def test_a_manifest_that_cannot_be_opened_is_no_missing_one(
    tmp_path: Path, engine: Engine, told: Told
):
    before = only_copy(tmp_path, "")
    manifest = tmp_path / "cap" / ID / "manifest.json"
    manifest.unlink()
    manifest.symlink_to(manifest.name)  # ELOOP for everybody, root too
    engine.run(order())
    told.until(Phase.FAILED)
    engine.finish(ID)
    engine.stop()
    assert set((tmp_path / "cap" / ID).rglob("*")) == before


def test_a_folder_without_a_manifest_promises_nothing(
    tmp_path: Path, engine: Engine, told: Told
):
    only_copy(tmp_path, "")
    (tmp_path / "cap" / ID / "manifest.json").unlink()
    engine.finish(ID)
    told.until(Phase.CLOSED)
    assert not (tmp_path / "cap" / ID).exists()


def followed(folder: Path, told: Told, tmp_path: Path) -> CaptureRun:
    """Return a run with a tail, as an earlier round has left it."""
    folder.mkdir(parents=True)
    run = CaptureRun(settings(tmp_path), order(Level.TAIL), now, told, no_crash)
    record = run._record
    record.identity = Identity("1", 160000, 16 << 20, "1:2:3")
    record.lineage, record.timeline = Lineage("1", 1, (), ()), 1
    record.start_lsn, record.tail_lsn = Lsn(1), Lsn(2)
    run._opened = True
    return run


def test_a_capture_is_closed_only_once_its_last_manifest_is_written(
    tmp_path: Path, told: Told
):
    folder = tmp_path / "cap" / ID
    run = followed(folder, told, tmp_path)
    (folder / "manifest.json").mkdir()  # nothing can be written over a folder
    run.close()
    run.start()
    try:
        failed = told.until(Phase.FAILED)
        assert "manifest.json" in failed.reason
        assert all(status.phase is not Phase.CLOSED for status in told.statuses)
        (folder / "manifest.json").rmdir()
        assert told.until(Phase.CLOSED).reason == ""
        assert manifests.read(folder).closed
    finally:
        run.stop()
        run.join(WITHIN_S)


def test_runs_that_have_ended_are_forgotten(engine: Engine, told: Told):
    for number in range(20):
        told.statuses.clear()
        engine.finish(f"n1-{number}")
        told.until(Phase.CLOSED)
        for thread in threading.enumerate():
            if thread.name == f"capture-n1-{number}":
                thread.join(WITHIN_S)
    assert len(engine._runs) == 1
