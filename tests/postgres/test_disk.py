"""Reading control files, histories and WAL of real servers."""

import dataclasses
import os
import signal
import time

import pytest

from agent.core.lsn import Lsn, wal_file_name
from agent.core.observation import ReadFailure, ServerFacts
from agent.postgres import postmaster, wal
from agent.postgres.control import parse_controldata, read_control
from agent.postgres.history import read_lineage
from agent.postgres.reader import DiskReader
from agent.postgres.records import named_size
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres


def facts(server: Server) -> ServerFacts:
    found = DiskReader(server.data_dir, server.programs.bin_dir).read()
    assert isinstance(found, ServerFacts), found
    return found


def test_our_reading_of_the_control_file_equals_pg_controldata(stage: Stage):
    primary, standby = stage.pair(max_prepared_transactions="7", wal_level="logical")
    standby.stop()
    for server in (primary, standby):
        printed = server.programs.run(
            ["pg_controldata", "-D", server.data_dir], as_owner_of=server.data_dir
        ).stdout
        assert read_control(server.data_dir) == parse_controldata(printed)
    control = read_control(primary.data_dir)
    assert control.state == "in production"
    assert control.max_prepared_transactions == 7
    assert control.wal_level == "logical"
    assert control.system_id == primary.value(
        "SELECT system_identifier::text FROM pg_control_system()"
    )


@pytest.mark.fact("checkpoint-start")
def test_the_end_of_a_cleanly_stopped_primary_is_the_end_of_its_checkpoint(
    stage: Stage,
):
    primary = stage.primary()
    primary.write(10)
    running = facts(primary)
    assert running.running
    assert running.end_lsn is None
    assert running.lineage.timeline == 1
    assert not running.standby_signal
    assert running.version_num // 10000 == stage.programs.major
    primary.stop()
    found = facts(primary)
    assert not found.running
    assert found.control_state == "shut down"
    assert found.end_lsn is not None
    assert 0 < found.end_lsn - found.checkpoint_lsn < 8192


def test_the_end_of_a_crashed_primary_is_what_it_had_flushed(stage: Stage):
    primary = stage.primary()
    primary.write(100)
    flushed = primary.lsn
    primary.crash()
    eventually("its children ended", lambda: not postmaster.orphans(primary.data_dir))
    assert facts(primary).end_lsn == flushed


def test_a_stale_pid_file_is_no_running_server(stage16: Stage):
    primary = stage16.primary()
    found = postmaster.running(primary.data_dir)
    assert found is not None
    assert primary.process is not None
    assert found.pid == primary.process.pid
    assert found.port == primary.port
    assert found.socket_dir == primary.socket_dir
    assert found.status == "ready"
    primary.crash()
    assert (primary.data_dir / "postmaster.pid").exists()
    assert postmaster.running(primary.data_dir) is None


def test_children_of_a_killed_postmaster_still_count_as_running(stage16: Stage):
    primary = stage16.primary()
    with primary.session() as session:
        backend = session.info.backend_pid
        postmaster_pid = primary.process
        assert postmaster_pid is not None
        os.kill(backend, signal.SIGSTOP)
        primary.crash()
        assert backend in postmaster.orphans(primary.data_dir)
        assert facts(primary).running
        os.kill(backend, signal.SIGKILL)
    eventually("it ended", lambda: not postmaster.orphans(primary.data_dir))
    assert not facts(primary).running


@pytest.mark.fact("control-lags")
def test_a_promotion_shows_before_the_control_file_knows_it(stage: Stage):
    _, new = stage.split(rows=5)
    found = facts(new)
    assert found.lineage.timeline == 2
    assert found.lineage.switches[0].timeline == 1
    assert [f.timeline for f in found.lineage.fingerprints] == [2]
    new.crash()
    eventually("its children ended", lambda: not postmaster.orphans(new.data_dir))
    stopped = facts(new)
    assert stopped.lineage == found.lineage
    assert stopped.end_lsn is not None
    assert stopped.end_lsn > found.lineage.switches[0].lsn


def test_a_history_that_lies_there_without_wal_moves_nobody(stage16: Stage):
    old, new = stage16.split(rows=3)
    history = (new.data_dir / "pg_wal/00000002.history").read_text()
    old.write_file("pg_wal/00000002.history", history)
    assert facts(old).lineage.timeline == 1


def test_a_reading_of_what_is_known_costs_a_fraction_of_the_first(stage16: Stage):
    _, new = stage16.split(rows=3)
    reader = DiskReader(new.data_dir, new.programs.bin_dir)
    spent = []
    for _ in range(21):
        begin = time.perf_counter()
        reader.read()
        spent.append(time.perf_counter() - begin)
    assert sorted(spent[1:])[10] < spent[0] / 3


def test_a_folder_that_is_no_data_directory_is_a_failure_with_a_hint(stage16: Stage):
    for folder in (stage16.folder, stage16.folder / "missing"):
        found = DiskReader(folder).read()
        assert isinstance(found, ReadFailure)
        assert str(folder) in found.reason
        assert found.hint


def test_the_end_of_wal_is_found_after_a_segment_switch(stage: Stage):
    primary = stage.primary()
    control = read_control(primary.data_dir)
    primary.write(3)
    primary.query("SELECT pg_switch_wal()")
    flushed = primary.lsn
    end = wal.end_of_wal(
        primary.programs,
        primary.data_dir / "pg_wal",
        1,
        control.checkpoint_lsn,
        control.wal_segment_bytes,
    )
    assert end >= flushed


def test_a_fresh_segment_that_nothing_was_written_to_hides_no_end(stage: Stage):
    primary, standby = stage.pair()
    primary.write(3)
    primary.query("CHECKPOINT")
    primary.query("SELECT pg_switch_wal()")
    standby.caught_up(primary)
    standby.stop()
    segment = read_control(standby.data_dir).wal_segment_bytes
    wal_dir = standby.data_dir / "pg_wal"
    written = [one for one in wal.list_segments(wal_dir, segment)
               if named_size(one.path) == segment]  # fmt: skip
    # One is what a server leaves; of thirty, pg_waldump is sure to meet one first.
    for number in range(written[-1].number + 1, written[-1].number + 31):
        empty = wal_dir / wal_file_name(1, Lsn(number * segment), segment)
        empty.touch()
        os.truncate(empty, segment)
        os.chown(empty, written[-1].path.stat().st_uid, written[-1].path.stat().st_gid)
    found = facts(standby)
    assert found.end_unknown == ""
    assert found.end_lsn is not None
    assert found.end_lsn >= primary.lsn // segment * segment


def test_an_end_that_cannot_be_found_says_why(stage16: Stage):
    primary = stage16.primary()
    primary.stop()
    for one in (primary.data_dir / "pg_wal").glob("0*"):
        one.unlink()
    found = facts(primary)
    assert found.end_lsn is None
    assert str(found.checkpoint_lsn) in found.end_unknown


def test_wal_of_sixteen_megabytes_is_read_in_a_fraction_of_a_second(stage16: Stage):
    primary = stage16.primary()
    control = read_control(primary.data_dir)
    primary.query("CREATE TABLE big AS SELECT generate_series(1, 250000) AS id")
    flushed = primary.lsn
    assert flushed - control.checkpoint_lsn > 14_000_000
    begin = time.perf_counter()
    end = wal.end_of_wal(
        primary.programs,
        primary.data_dir / "pg_wal",
        1,
        control.checkpoint_lsn,
        control.wal_segment_bytes,
    )
    spent = time.perf_counter() - begin
    assert end >= flushed
    assert spent < 1.0


@pytest.mark.fact("walinspect")
def test_a_chain_over_a_switch_is_whole_and_a_gap_in_it_is_found(stage: Stage):
    primary = stage.primary()
    start = read_control(primary.data_dir).redo_lsn
    standby = stage.standby(primary)
    primary.query("SELECT pg_switch_wal()")
    primary.write(20)
    standby.caught_up(primary)
    primary.stop()
    standby.promote()
    standby.write(20)
    standby.query("SELECT pg_switch_wal()")
    standby.write(20)
    end = standby.lsn
    standby.crash()
    wal_dir = standby.data_dir / "pg_wal"
    lineage = facts(standby).lineage
    programs = standby.programs
    assert wal.check_chain(programs, wal_dir, lineage, start, end) == end
    size = wal.segment_bytes_of(wal_dir)
    last = wal_dir / wal_file(lineage.timeline, end, size)
    raw = bytearray(last.read_bytes())
    raw[end % size - 40] ^= 0xFF
    last.write_bytes(raw)
    damaged = wal.check_chain(programs, wal_dir, lineage, start, end)
    assert start < damaged < end
    last.unlink()
    reached = wal.check_chain(programs, wal_dir, lineage, start, end)
    assert reached == Lsn(end // size * size)
    (wal_dir / wal_file(1, start, size)).unlink()
    assert wal.check_chain(programs, wal_dir, lineage, start, end) == start


def test_a_segment_that_was_cut_off_ends_the_chain_at_its_last_record(stage: Stage):
    primary = stage.primary()
    start = read_control(primary.data_dir).redo_lsn
    primary.write(500)
    end = primary.lsn
    primary.stop()
    wal_dir = primary.data_dir / "pg_wal"
    size = wal.segment_bytes_of(wal_dir)
    lineage = facts(primary).lineage
    path = wal_dir / wal_file(1, start, size)
    path.write_bytes(path.read_bytes()[: end % size - 20_000])
    reached = wal.check_chain(primary.programs, wal_dir, lineage, start, end)
    assert end - 20_000 - 3 * 8192 < reached <= end - 20_000


def test_the_lineage_of_a_copy_is_read_without_a_server(stage16: Stage):
    _, new = stage16.split(rows=3)
    found = facts(new)
    new.stop()
    copy = stage16.scratch(new)
    system_id = found.lineage.system_id
    assert read_lineage(copy, 2, system_id) == found.lineage
    assert dataclasses.replace(found.lineage, switches=()) != found.lineage


def wal_file(timeline: int, lsn: int, size: int) -> str:
    return wal_file_name(timeline, Lsn(lsn), size)
