"""A server that was lost before its first copy: its pin is told, kept, and removed."""

import json
import shutil
from pathlib import Path

import pytest

from agent.core.capture import Level, Phase
from agent.core.state import State
from agent.daemon.upkeep import Upkeep
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.outlook import Outlook
from agent.snapshot.removal import RECORD, remove
from agent.snapshot.retention import Limits
from agent.store.memory import MemoryJournal
from tests.capturing import ID, Capturing, capturing, settings_for
from tests.fix_postgres import Server, Stage, copy_tree
from tests.shell.test_runtime import running

pytestmark = pytest.mark.postgres


def lose(stage: Stage, primary: Server, capture: Capturing) -> Path:
    """Wipe the server and clone another into its place; return the pin of PGDATA."""
    capture.order(Level.TAIL, Level.PIN)
    capture.until("the pin is held", lambda s: s.pin == "held")
    primary.write(20)
    primary.crash()
    capture.until_kept(capture.end_of_stopped())
    shutil.rmtree(primary.data_dir)
    copy_tree(stage.template, primary.data_dir)
    (primary.data_dir / "PG_VERSION").touch()
    closed = capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
    farm = primary.data_dir.parent / f".splitguard-pin-{ID}@data"
    assert closed.pin == "held"
    assert f"only in the pin {farm}, which waits for a person" in closed.reason
    return farm


def test_a_pin_that_is_all_there_is_is_told_until_somebody_removes_its_snapshot(
    stage16: Stage,
):
    primary = stage16.primary()
    primary.write(30)
    with capturing(stage16, primary) as capture:
        farm = lose(stage16, primary, capture)
        outlook = Outlook(settings_for(primary, capture.capture_dir))
        (left,) = outlook.look().pins
        assert (left.capture, left.place) == (ID, str(farm))

        copy = stage16.folder / "n1" / "copy"
        copy_tree(farm, copy)  # what the next step says
        again = Server("n1", copy, primary.programs, primary.settings)
        stage16.servers.append(again)
        assert again.start().rows() == 50
        again.stop()

        remove(capture.catalogue, ID, "ann", "it was looked at", 1.0)
        assert not farm.exists()
        assert outlook.look().pins == ()
        line = json.loads((capture.capture_dir / RECORD).read_text())
        assert (line["who"], line["grade"]) == ("ann", "none")


def test_a_close_that_comes_before_the_next_look_leaves_the_pin(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    other = primary.data_dir.with_name("other")
    copy_tree(stage16.template, other)
    (other / "PG_VERSION").touch()
    with capturing(stage16, primary) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until("the pin is held", lambda s: s.pin == "held")
        primary.crash()
        capture.until_kept(capture.end_of_stopped())
        primary.data_dir.rename(primary.data_dir.with_name("wiped"))
        other.rename(primary.data_dir)
        capture.engine.finish(ID)
        closed = capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        assert closed.pin == "held"
        assert "which waits for a person" in closed.reason


async def test_upkeep_never_removes_the_last_that_is_left_of_a_server(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    with capturing(stage16, primary) as capture:
        farm = lose(stage16, primary, capture)
        # Its incident is settled, and nothing else holds it.
        marks.settle(capture.folder, frozenset({"inc-1"}))
        async with running(MemoryJournal(), State()) as (runtime, _):
            limits = Limits(scheduled=1, others=1, age_s=1e-9, size_bytes=0)
            upkeep = Upkeep(runtime, Catalogue(capture.capture_dir), limits)
            await upkeep.run()
            assert upkeep.could_give(None) == 0
            assert farm.exists()
            assert [one.id for one in capture.catalogue.list()] == [ID]
            shutil.rmtree(farm)
            await upkeep.run()
            assert capture.catalogue.list() == ()
