"""An engine that is killed in the middle goes on from what is on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.capture import Phase
from agent.errors import SnapshotError
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.verify import verify_folder
from tests.capture_victim import DIED
from tests.capturing import ID, Capturing, Client, capturing
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).resolve().parent.parent.parent


def run_until_killed(stage: Stage, server: Server, point: str, after: int = 0) -> None:
    given = {
        "capture_dir": str(stage.folder / "captures"),
        "data_dir": str(server.data_dir),
        "bin_dir": str(stage.programs.bin_dir),
        "dsn": server.dsn,
        "id": ID,
        "after": after,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture_victim", json.dumps(given), point],
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == DIED


def finish_and_count(capture: Capturing, client: Client) -> None:
    """Stop the server, go through the gate, look for every acknowledged row."""
    capture.server.stop()
    client.end()
    capture.take_the_rest()
    assert capture.ids() >= client.acknowledged
    capture.close()
    result = verify_folder(capture.folder, programs=capture.stage.programs)
    assert result.problems == ()
    left = {path.name for path in capture.folder.iterdir()}
    assert left == {"manifest.json", "data", "state", "wal"}


@pytest.mark.parametrize(
    ("point", "after"),
    [("during-tail", 0), ("during-copy", 300), ("before-rename", 0), ("-", 0)],
)
def test_a_killed_engine_goes_on_and_lists_no_half_copy(
    stage16: Stage, point: str, after: int
):
    primary = stage16.primary()
    with Client(primary) as client:
        run_until_killed(stage16, primary, point, after)
        for manifest in Catalogue(stage16.folder / "captures").list():
            assert manifest.has_copy == (point == "-")
        client.go_on()
        with capturing(stage16, primary) as capture:
            capture.order()
            capture.until_complete()
            finish_and_count(capture, client)


def test_a_server_that_stopped_while_the_agent_was_dead_is_still_kept(stage16: Stage):
    primary = stage16.primary()
    with Client(primary) as client:
        run_until_killed(stage16, primary, "-")
        client.go_on()
        with capturing(stage16, primary) as capture:
            finish_and_count(capture, client)
            assert capture.manifest.method == "copy"


def test_a_closed_capture_stays_as_it_is_when_it_is_ordered_again(stage16: Stage):
    primary = stage16.primary()
    with Client(primary) as client, capturing(stage16, primary) as capture:
        capture.order()
        capture.until_complete()
        before = capture.close()
        client.go_on()
        capture.order()
        capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        assert capture.manifest == before


def test_a_capture_of_a_dead_agent_can_be_closed_by_the_next_one(stage16: Stage):
    primary = stage16.primary()
    with Client(primary):
        run_until_killed(stage16, primary, "-")
        with capturing(stage16, primary) as capture:
            manifest = capture.close()
            assert manifest.closed
            assert manifest.reason == "a test"
            assert all(entry.sha256 for entry in manifest.files)
            assert verify_folder(capture.folder, programs=stage16.programs).good


def test_closing_what_never_was_leaves_nothing(stage16: Stage):
    primary = stage16.primary()
    with capturing(stage16, primary) as capture:
        capture.engine.finish(ID)
        capture.until("it is closed", lambda s: s.phase is Phase.CLOSED)
        with pytest.raises(SnapshotError):
            capture.catalogue.folder(ID)
        assert capture.catalogue.unusable() == ()
