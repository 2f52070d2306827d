"""Reading PostgreSQL's files when they are whole, torn, damaged or absurd."""

import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.lineage import Switch
from agent.core.lsn import Lsn, wal_file_name
from agent.core.observation import ReadFailure
from agent.errors import PostgresError
from agent.postgres import control, history, postmaster, records, wal
from agent.postgres.crc import crc32c
from agent.postgres.reader import DiskReader

MB = 1024 * 1024


def control_bytes(version: int = 1300, **changes: int) -> bytes:
    """A control file as a server of this version would write it."""
    values = {
        "system_id": 7711141944307159180, "pg_control_version": version, "state": 6,
        "checkpoint": 0x3000028, "redo": 0x3000028, "timeline": 1, "prev_timeline": 1,
        "next_xid": 740, "wal_level": 1, "max_connections": 100,
        "wal_block_bytes": 8192, "wal_segment_bytes": 16 * MB,
    } | changes  # fmt: skip
    raw = bytearray(8192)
    layout = control._LAYOUTS.get(version, control._SINCE_12)
    for name, value in values.items():
        code, offset = layout[name]
        struct.pack_into("=" + code, raw, offset, value)
    at = control.CRC_OFFSETS.get(version, 288)
    struct.pack_into("=I", raw, at, crc32c(bytes(raw[:at])))
    return bytes(raw)


def data_dir_with(folder: Path, raw: bytes) -> Path:
    (folder / "global").mkdir(exist_ok=True)
    (folder / "global/pg_control").write_bytes(raw)
    return folder


def test_the_checksum_is_castagnoli():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("version", list(control.CRC_OFFSETS))
def test_a_control_file_of_each_version_is_read(tmp_path: Path, version: int):
    found = control.read_control(data_dir_with(tmp_path, control_bytes(version)))
    assert found.system_id == "7711141944307159180"
    assert found.state == "in production"
    assert str(found.checkpoint_lsn) == "0/3000028"
    assert found.wal_segment_bytes == 16 * MB
    assert found.wal_level == ("archive" if version == 942 else "replica")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": 9}, "unknown"),
        ({"timeline": 0}, "timeline 0"),
        ({"wal_segment_bytes": 3 * MB}, "segments of 3145728"),
        ({"wal_segment_bytes": 4096}, "segments of 4096"),
        ({"wal_block_bytes": 5}, "blocks of 5"),
        ({"redo": 0x3000030}, "redo past"),
    ],
)
def test_absurd_values_are_named(tmp_path: Path, changes: dict[str, int], words: str):
    with pytest.raises(PostgresError, match=words):
        control.read_control(data_dir_with(tmp_path, control_bytes(**changes)))


def test_a_reading_that_was_torn_is_tried_again(tmp_path: Path):
    whole = control_bytes()
    path = data_dir_with(tmp_path, whole[:40] + b"\xff" + whole[41:])
    mended = threading.Timer(0.015, data_dir_with, (tmp_path, whole))
    mended.start()
    try:
        assert control.read_control(path).state == "in production"
    finally:
        mended.join()


def test_a_damaged_control_file_says_so(tmp_path: Path):
    whole = control_bytes()
    path = data_dir_with(tmp_path, whole[:100] + b"\xff" + whole[101:])
    with pytest.raises(PostgresError, match="damaged"):
        control.read_control(path)


@pytest.mark.parametrize("raw", [b"", b"x" * 100])
def test_a_control_file_that_was_cut_off_says_so(tmp_path: Path, raw: bytes):
    with pytest.raises(PostgresError, match="too short"):
        control.read_control(data_dir_with(tmp_path, raw))


def test_an_unknown_version_needs_the_program(tmp_path: Path):
    raw = control_bytes(2200)
    with pytest.raises(PostgresError, match="2200"):
        control.read_control(data_dir_with(tmp_path, raw))


def test_the_other_byte_order_is_named(tmp_path: Path):
    raw = bytearray(control_bytes())
    raw[8:12] = raw[8:12][::-1]
    with pytest.raises(PostgresError, match="byte order"):
        control.read_control(data_dir_with(tmp_path, bytes(raw)))


def test_a_missing_control_file_has_a_hint(tmp_path: Path):
    with pytest.raises(PostgresError, match=r"local\.data_dir"):
        control.read_control(tmp_path)


def only_postgres_errors(read: Callable[[], object]) -> None:
    with contextlib.suppress(PostgresError):
        read()


@given(st.binary(max_size=400), st.sampled_from(list(control.CRC_OFFSETS)))
def test_any_bytes_with_a_right_checksum_are_read_or_refused(raw: bytes, version: int):
    whole = bytearray(raw.ljust(400, b"\0"))
    struct.pack_into("=I", whole, 8, version)
    at = control.CRC_OFFSETS[version]
    struct.pack_into("=I", whole, at, crc32c(bytes(whole[:at])))
    path = Path("global/pg_control")
    only_postgres_errors(
        lambda: control._plausible(control._decode(bytes(whole), version), path)
    )


@given(st.text(max_size=300))
def test_any_words_of_pg_controldata_are_read_or_refused(text: str):
    only_postgres_errors(lambda: control.parse_controldata(text))


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 1 << 40)), min_size=0, max_size=9
    )
)
def test_a_history_is_read_back_as_written(steps: list[tuple[int, int]]):
    timeline, lsn, switches = 0, 0, []
    for more, further in steps:
        timeline, lsn = timeline + more, lsn + further
        switches.append(Switch(timeline, Lsn(lsn)))
    assert history.parse(history.render(tuple(switches))) == tuple(switches)


@given(st.text(alphabet="0123456789ABCDEFabcdef/\t \n#xyz-", max_size=200))
def test_any_history_is_read_or_refused(text: str):
    only_postgres_errors(lambda: history.parse(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0/3000000 ok\nnonsense", "line 2"),
        ("2 0/3000000\n1 0/4000000", "timeline 1 follows 2"),
        ("1 0/3000000\n2 0/2000000", "lies before"),
        ("0 0/3000000", "timeline 0"),
        ("1", "line 1"),
    ],
)
def test_a_malformed_history_names_its_line(text: str, words: str):
    with pytest.raises(PostgresError, match=words):
        history.parse(text)


def test_a_comment_and_an_empty_line_in_a_history_are_left_aside():
    text = "# by hand\n\n1\t0/3000148\tno recovery target specified\n"
    assert history.parse(text) == (Switch(1, Lsn(0x3000148)),)


def test_a_history_that_is_too_large_or_its_own_ancestor_is_refused(tmp_path: Path):
    path = tmp_path / "00000002.history"
    path.write_text("#" * (history.FILE_BYTES_MAX + 1))
    with pytest.raises(PostgresError, match="larger"):
        history.read_switches(tmp_path, 2)
    path.write_text("2 0/3000000\n")
    with pytest.raises(PostgresError, match="ancestor"):
        history.read_switches(tmp_path, 2)
    with pytest.raises(PostgresError, match="cannot be read"):
        history.read_switches(tmp_path, 3)


@given(st.text(max_size=200))
def test_any_pid_file_is_read_or_nothing(text: str):
    found = postmaster.parse(text)
    assert found is None or found.pid > 0


def test_a_single_user_server_is_a_running_one():
    found = postmaster.parse("-77\n/data\n1700000000\n0\n\n")
    assert found is not None
    assert (found.pid, found.status) == (77, "single")


def test_a_pid_that_went_to_another_program_is_not_running(tmp_path: Path):
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n1\n5432\n")
    assert postmaster.running(tmp_path) is None


def test_a_process_whose_name_is_no_text_is_no_server(tmp_path: Path):
    (tmp_path / "PG_VERSION").write_text("16\n")
    named = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'caf\\xe9', 0, 0, 0);"
        " print('named', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", named],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        (tmp_path / "postmaster.pid").write_text(f"{process.pid}\n{tmp_path}\n")
        assert postmaster.running(tmp_path) is None
        assert isinstance(DiskReader(tmp_path).read(), ReadFailure)
        process.communicate()


def test_a_reading_never_raises(tmp_path: Path):
    """Not even where nobody foresaw what lies there: here no path at all."""
    failure = DiskReader(tmp_path / "not\0a path").read()
    assert isinstance(failure, ReadFailure)
    assert "internal error: ValueError" in failure.reason


def page(lsn: int, rest: int = 0) -> bytes:
    """A page's short header."""
    return struct.pack("=HHIQIxxxx", 0xD110, 1 if rest else 0, 1, lsn, rest)


@given(st.integers(0, 4 * MB), st.integers(0, 100_000))
def test_record_bytes_run_on_over_page_headers(start: int, length: int):
    segments = records.Segments(lambda _: None, MB)
    start = start // 8 * 8
    position = start
    for _ in range(length):
        if position % 8192 == 0:
            position += 40 if position % MB == 0 else 24
        position += 1
    if length:
        assert segments.after(start, length) == position


@given(st.binary(max_size=20_000), st.integers(0, 20_000))
def test_any_bytes_are_a_record_or_none(tmp_path_factory, raw: bytes, offset: int):
    path = tmp_path_factory.getbasetemp() / "segment"
    path.write_bytes(raw)
    segments = records.Segments(lambda number: path if number == 0 else None, MB)
    found = segments.record(offset // 8 * 8, data_bytes_max=4096)
    assert found is None or found.end > found.start >= offset // 8 * 8
    segments.last_end_before(min(len(raw), offset), 0)


def test_a_fingerprint_of_damaged_wal_is_none(tmp_path: Path):
    lsn = Lsn(MB + 4096)
    path = tmp_path / wal_file_name(2, lsn, MB)
    path.write_bytes(page(MB) + os.urandom(16 * 1024))
    assert wal.fingerprint(tmp_path, 2, lsn, segment_bytes=MB) is None
    assert wal.fingerprint(tmp_path, 3, lsn, segment_bytes=MB) is None


def test_segment_files_are_told_from_what_else_lies_there(tmp_path: Path):
    for name in (
        "000000010000000000000002",
        "000000010000000100000003",
        "000000020000000000000002.partial",
        "00000002.history",
        "000000010000000000000002.00000028.backup",
        "archive_status",
    ):
        (tmp_path / name).write_bytes(b"")
    found = wal.list_segments(tmp_path, 16 * MB)
    assert [(file.timeline, file.number, file.partial) for file in found] == [
        (1, 2, False),
        (1, 256 + 3, False),
        (2, 2, True),
    ]


def test_a_folder_without_wal_has_no_segment_size(tmp_path: Path):
    with pytest.raises(PostgresError, match="no readable WAL segment"):
        wal.segment_bytes_of(tmp_path)
    with pytest.raises(PostgresError, match="cannot be read"):
        wal.segment_bytes_of(tmp_path / "missing")
