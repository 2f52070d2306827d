"""Full copies by shared blocks: real servers on XFS and btrfs made for the test.

Who may not mount runs the same tests on an ordinary folder: there the copy falls back
to reading, and says why.
"""

import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.core.capture import Level, Phase
from agent.snapshot.opening import check_opened
from agent.snapshot.outlook import Outlook
from agent.snapshot.verify import verify_folder
from tests.capturing import Client, Gate, capturing, settings_for
from tests.fix_postgres import Stage
from tests.fix_volumes import Volume

pytestmark = pytest.mark.postgres

FILL_MIB = 100
StageOn = Callable[..., Stage]


def fill(server, mib=FILL_MIB):
    """A table of this size, quickly: a wide row, many times."""
    with server.session() as session:
        session.execute("CREATE TABLE wide (filler text) WITH (fillfactor = 100)")
        session.execute("ALTER TABLE wide ALTER filler SET STORAGE plain")
        session.execute(
            "INSERT INTO wide SELECT repeat('x', 7900) FROM generate_series(1, %s)",
            [mib * 128],
        )


def largest_is_shared(capture) -> bool:
    """Whether the largest file of the copy shares its blocks with another one."""
    files = [path for path in (capture.folder / "data").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    told = subprocess.run(
        ["filefrag", "-v", largest], check=False, capture_output=True, text=True
    )
    return "shared" in told.stdout


def test_a_running_server_is_shared_read_back_and_opens(
    volume: Volume, stage_on: StageOn
):
    stage = stage_on(volume)
    primary = stage.primary()
    fill(primary)
    primary.query("CHECKPOINT")
    with Client(primary) as client, capturing(stage, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        told = capture.until_complete()
        assert told.method == ("reflink" if volume.shares else "copy")
        assert largest_is_shared(capture) == volume.shares
        client.go_on()
        primary.stop()
        client.end()
        capture.take_the_rest()
        assert capture.ids() >= client.acknowledged
        note = capture.close().method_note
        assert note == "" if volume.shares else "no blocks are shared" in note
        assert all(entry.sha256 for entry in capture.manifest.files)
        assert verify_folder(capture.folder, programs=stage.programs).good
        assert check_opened(capture.folder, stage.folder, stage.programs).good


def test_what_the_server_writes_later_is_not_in_the_shared_copy(
    volume: Volume, stage_on: StageOn
):
    stage = stage_on(volume)
    primary = stage.primary()
    primary.write(50, "before")
    with capturing(stage, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        # Every block of the server is written anew, in place.
        primary.query("UPDATE kept SET mark = 'after'")
        primary.query("VACUUM")
        primary.query("CHECKPOINT")
        assert verify_folder(capture.folder, programs=stage.programs).good


def test_a_stopped_server_is_shared_and_may_start_while_it_is_read_back(
    volume: Volume, stage_on: StageOn
):
    stage = stage_on(volume)
    primary = stage.primary()
    primary.write(50, "common")
    primary.stop()
    with capturing(stage, primary) as capture:
        told = capture.take_the_rest()
        expected = "cold reflink" if volume.shares else "cold copy"
        assert told.method == expected
        assert len(capture.ids()) == 50
        # A copy of a server that stood still is no longer enough once it went on.
        primary.start()
        primary.write(10, "more")
        primary.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 60
        assert capture.close().method == expected


def test_a_capture_folder_on_another_file_system_is_copied_to(
    volume: Volume, stage_on: StageOn, stage16: Stage
):
    stage = stage_on(volume)
    primary = stage.primary()
    primary.write(20)
    with capturing(replace(stage, folder=stage16.folder), primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method == "copy"
        assert capture.close().method_note.startswith("no blocks are shared: it")


def test_a_server_that_is_promoted_while_it_is_shared_is_shared_again(
    volume: Volume, stage_on: StageOn
):
    stage = stage_on(volume)
    primary, standby = stage.pair()
    primary.write(20, "common")
    gate = Gate("during-copy")
    with capturing(stage, standby, crash=gate) as capture:
        standby.caught_up(primary)
        capture.order(Level.TAIL, Level.FULL)
        assert gate.reached.wait(20)
        primary.stop()
        standby.promote()
        standby.write(30, "after")
        capture.until("the tail follows", lambda s: s.timeline == 2)
        gate.opened.set()
        assert capture.until_complete().timeline == 2
        assert capture.manifest.copy_timeline == 2
        standby.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 50


def test_the_outlook_names_the_method_that_a_capture_then_takes(
    volume: Volume, stage_on: StageOn
):
    stage = stage_on(volume)
    primary = stage.primary()
    with capturing(stage, primary) as capture:
        capture.capture_dir.mkdir(exist_ok=True)
        settings = settings_for(primary, capture.capture_dir)
        foretold = Outlook(settings).look().method
        assert list(capture.capture_dir.iterdir()) == []
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method == foretold
        assert capture.statuses[-1].phase is Phase.FOLLOWING
