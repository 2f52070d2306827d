"""Full copies on the other versions, 10 to 14 and 17, opened by what is in the archive.

These servers come without pg_waldump, so nothing here proves the WAL of a copy: the
capture has to say that, and must not be called complete. What was acknowledged is in
the copy all the same, which opening it by hand shows.
"""

import subprocess

import pytest

from agent.core.capture import Grade, Level, Phase
from tests.capturing import ID, Capturing, Client, capturing
from tests.fix_postgres import Stage
from tests.postgres.test_capture_archive import commands, packed, rows_by
from tests.postgres.test_versions import grant

pytestmark = pytest.mark.postgres


def rows_in_archive(capture: Capturing) -> int:
    """Open the capture's archive by the commands in its README; count the rows."""
    place = capture.stage.folder / "stranger"
    place.mkdir()
    archive = packed(capture, place / f"{ID}.tar")
    readme = subprocess.check_output(["tar", "-xOf", archive, "README.txt"], text=True)
    return rows_by(commands(readme), capture.stage, place)


def until_captured(capture: Capturing) -> None:
    told = capture.until("it says why not", lambda s: s.phase is Phase.FAILED)
    assert "pg_waldump is not in" in told.reason
    assert (told.grade, told.reached_lsn) == (Grade.CAPTURED, None)
    assert capture.manifest.end_lsn is None


def test_a_running_primary_is_copied_and_opened_by_its_archive(other: Stage):
    primary = other.primary()
    grant(primary)
    with (
        Client(primary) as client,
        capturing(other, primary, user="splitguard_local") as capture,
    ):
        capture.order()
        until_captured(capture)
        assert capture.manifest.method == "copy"
        client.go_on()
        client.end()
        capture.until_kept(primary.lsn)
        assert not capture.close().end_lsn
        primary.crash()
        assert rows_in_archive(capture) == len(client.acknowledged)


def test_a_standby_is_copied_and_its_copy_follows_nobody(other: Stage):
    primary, standby = other.pair()
    grant(primary)
    primary.write(50)
    standby.caught_up(primary)
    with capturing(other, standby, user="splitguard_local") as capture:
        capture.order(Level.TAIL, Level.FULL)
        until_captured(capture)
        primary.write(20)
        standby.caught_up(primary)
        capture.until_kept(standby.lsn)
        capture.close()
        standby.stop()
        primary.write(9)
        assert rows_in_archive(capture) == 70


def test_a_stopped_server_whose_end_nobody_knows_is_refused_with_the_reason(
    newer: Stage,
):
    primary = newer.primary()
    primary.write(30)
    primary.stop()
    with capturing(newer, primary) as capture:
        capture.order(Level.TAIL, Level.FULL)
        told = capture.until("it says why not", lambda s: s.phase is Phase.FAILED)
    assert "pg_waldump is not in" in told.reason
    assert "install the complete server package" in told.reason
    assert (told.grade, told.tail_lsn) == (Grade.NONE, None)
