"""Would the next split be survived: tried beforehand, on real servers."""

import os
from dataclasses import replace
from typing import Any

import pytest

from agent.snapshot.outlook import Outlook
from agent.snapshot.settings import EngineSettings
from tests.capturing import GRANTS, ROLE, capturing, settings_for
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres


def settings(stage: Stage, server: Server, **more: Any) -> EngineSettings:
    folder = stage.folder / "captures"
    folder.mkdir(exist_ok=True)
    return replace(settings_for(server, folder, user=ROLE), **more)


def test_a_server_with_grants_and_room_is_ready(stage: Stage):
    primary = stage.primary()
    for grant in GRANTS:
        primary.query(grant)
    found = Outlook(settings(stage, primary)).look()
    assert found.obstacles == ()
    assert found.no_pin == ""
    base = sum(f.stat().st_size for f in (primary.data_dir / "base").rglob("*"))
    assert found.free_bytes > found.needed_bytes > base
    assert found.opened_wall_s is None


def test_what_reading_rows_lacks_is_told_and_is_no_obstacle(stage16: Stage):
    primary = stage16.primary()
    for grant in GRANTS:
        primary.query(grant)
    primary.query("CREATE DATABASE closed")
    primary.query("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    found = Outlook(settings(stage16, primary)).look()
    assert found.obstacles == ()
    for lacking in ("connect to every database", "read every table", "row security"):
        assert lacking in found.no_rows
    assert f"no rows: role {ROLE} may not" in found.copy_line
    primary.query(f"GRANT CONNECT ON DATABASE closed TO {ROLE}")
    primary.query(f"GRANT pg_read_all_data TO {ROLE}")
    primary.query(f"ALTER ROLE {ROLE} BYPASSRLS")
    assert Outlook(settings(stage16, primary)).look().no_rows == ""


def test_what_it_foretells_is_what_a_copy_then_takes(stage16: Stage):
    primary = stage16.primary()
    with capturing(stage16, primary) as capture:
        capture.capture_dir.mkdir(exist_ok=True)
        found = Outlook(settings_for(primary, capture.capture_dir)).look()
        capture.order()
        capture.until_complete()
        data = [f for f in capture.close().files if f.path.startswith("data/")]
        assert sum(f.size for f in data) == pytest.approx(found.needed_bytes, rel=0.05)


def test_everything_that_is_missing_is_named_at_once(stage16: Stage):
    primary = stage16.primary()
    primary.query(GRANTS[0])
    no_programs = stage16.folder / "nothing"
    no_programs.mkdir()
    found = Outlook(settings(stage16, primary, bin_dir=no_programs)).look()
    programs, grants = found.obstacles
    assert str(no_programs) in programs.reason
    assert grants.reason == f"role {ROLE} may not start and stop a backup"
    assert "splitguard grants" in grants.hint


def test_a_role_that_cannot_connect_is_an_obstacle_only_while_the_server_runs(
    stage16: Stage,
):
    primary = stage16.primary()
    looked = Outlook(settings(stage16, primary))
    (refused,) = looked.look().obstacles
    assert ROLE in refused.reason
    nobody = Outlook(settings(stage16, primary, find_dsn=lambda: None))
    (unknown,) = nobody.look().obstacles
    assert "local.dsn" in unknown.hint
    primary.stop()
    assert looked.look().obstacles == ()


def test_a_copy_for_which_there_is_no_room_names_the_bytes(stage16: Stage):
    primary = stage16.primary()
    primary.stop()
    # A sparse file: the copy would need more than any disk has.
    huge = primary.data_dir / "base" / "1" / "99999"
    huge.touch()
    os.truncate(huge, 1 << 50)
    found = Outlook(settings(stage16, primary)).look()
    (room,) = found.obstacles
    assert "bytes are missing" in room.reason
    assert found.needed_bytes > 1 << 50


def test_a_limit_makes_the_forecast_longer(stage16: Stage):
    primary = stage16.primary()
    slow = Outlook(settings(stage16, primary, max_bytes_s=2.0 * (1 << 20))).look()
    assert slow.seconds == pytest.approx(slow.needed_bytes / (1 << 20))


def test_a_snapshot_program_is_asked_whether_it_could(stage16: Stage):
    primary = stage16.primary()
    program = stage16.folder / "program.sh"
    program.write_text(f'#!/bin/sh\necho "$*" >{stage16.folder}/called\n')
    program.chmod(0o755)
    found = Outlook(settings(stage16, primary, snapshot_program=program)).look()
    assert found.method == "frozen copy"
    assert "full copy (frozen copy) about" in found.copy_line
    called = (stage16.folder / "called").read_text()
    assert called == f"check {primary.data_dir}\n"
    program.write_text('#!/bin/sh\necho "the volume group is full" >&2\nexit 5\n')
    refused = Outlook(settings(stage16, primary, snapshot_program=program)).look()
    assert refused.method in {"copy", "reflink"}
    assert "with 5: the volume group is full" in refused.reasons
    assert "capture.exec" in refused.obstacles[-1].hint
    primary.stop()  # what stands still is copied as it is
    assert (
        Outlook(settings(stage16, primary, snapshot_program=program)).look().obstacles
        == ()
    )
