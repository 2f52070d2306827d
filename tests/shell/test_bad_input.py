"""Whatever comes over the wire or off the disk: an answer, or one typed failure."""

import contextlib
import hashlib
import json
import struct
import tempfile
from pathlib import Path

from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from agent import codec
from agent.cli.rerun import Rerun
from agent.core.lsn import Lsn
from agent.core.observation import Outcome, ReadFailure, Report, ServerFacts
from agent.core.plausible import impossible_report, impossible_sight
from agent.core.state import Knowledge
from agent.daemon.clock import SystemClock
from agent.errors import CodecError, JournalError, PostgresError
from agent.postgres import control, history, postmaster, records
from agent.postgres.crc import crc32c
from agent.postgres.reader import DiskReader
from agent.probe import manager, refusal
from agent.probe.peer import PeerProbe
from agent.probe.postgres import PostgresProbe
from agent.probe.result import REASON_LIMIT, Result
from agent.probe.target import ProbeSettings
from agent.store import entries
from agent.store.entries import Kind
from agent.store.field import FieldJournal
from agent.transport import Answer, HttpClient
from tests import strategies
from tests.core import given
from tests.fix_rounds import RecordedCluster

RECORDED = Path(__file__).parents[1] / "recorded"
FORMER = json.loads((RECORDED / "report-format-1.json").read_text("utf-8"))
REPORT = {
    **json.loads(codec.to_json(given.report("n2"))),
    **{key: value for key, value in FORMER.items() if key != "format"},
}
OLD = json.loads((RECORDED / "postgres-9.6.json").read_text("utf-8"))


def is_typed(result: Result) -> None:
    """A failure is one bounded line without anything that a terminal obeys."""
    if result.outcome is Outcome.ANSWERED:
        assert result.reason == ""
        return
    assert result.reason
    assert result.reason.isprintable()
    assert len(result.reason) <= REASON_LIMIT
    assert (result.report, result.postgres, result.manager) == (None, None, None)


# --- over the wire ------------------------------------------------------------


def judged(body: bytes) -> Result:
    probe = PeerProbe("n2", "http://n2", ProbeSettings("test", "n1"), HttpClient())
    return probe._judge(Answer(200, {}, body))


@over(strategies.texts_of(REPORT))
@settings(max_examples=200)
def test_every_report_is_believed_whole_or_fails_with_a_reason(body):
    result = judged(body)
    is_typed(result)
    if result.report is not None:
        assert impossible_report(result.report) == ""
        assert codec.from_json(codec.to_json(result.report), Report) == result.report


@over(strategies.damaged({**REPORT, "format": 3}))
@settings(max_examples=100)
def test_a_newer_report_is_no_way_around(plain):
    result = judged(json.dumps(plain).encode("utf-8", "surrogatepass"))
    is_typed(result)
    if result.report is not None:
        assert impossible_report(result.report) == ""


ROW = {
    "granted": True, "role": "r", "waits": ["1 x"], "archive": None,
    "sight": json.loads(codec.to_json(given.sight())),
}  # fmt: skip


@over(
    st.one_of(
        strategies.texts_of(ROW),
        strategies.texts_of(json.loads(OLD["healthy"]["n2"]["answer"])),
    )
)
@settings(max_examples=200)
def test_every_row_of_a_server_is_believed_whole_or_fails_with_a_reason(body):
    probe = PostgresProbe("", 1.0, 10, SystemClock())
    result = probe._read(body.decode("utf-8", "replace"))
    is_typed(result)
    if result.postgres is not None:
        assert impossible_sight(result.postgres) == ""
        codec.to_json(result.postgres)


@over(
    st.sampled_from([200, 400, 401, 404, 500, 999]),
    strategies.texts_of({"version": "7.0.5", "error_code": "not_cluster_master"}),
)
@settings(max_examples=150)
def test_every_answer_of_a_manager_is_one_of_the_known_kinds(status, body):
    result = manager.judge(Answer(status, {}, body))
    is_typed(result)
    codec.to_json(result.manager).encode("utf-8")


@over(st.text(max_size=200) | st.just("connection to server failed: FATAL:  "))
@settings(max_examples=100)
def test_every_complaint_of_a_server_is_a_failure(text):
    is_typed(refusal.of_connect(text))
    is_typed(refusal.of_connect(f"connection failed: FATAL:  {text}"))
    is_typed(refusal.of_state(text[:5], text))


# --- off the disk -------------------------------------------------------------

LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}\t{}\tno recovery target specified".format,
            st.sampled_from([0, 1, 2, 3, 2**31, 2**32, 2**40, -1]),
            st.sampled_from(["0/0", "0/1000", "FFFFFFFF/FFFFFFFF", "0/", "x", "1/2/3"]),
        ),
    ),
    max_size=6,
).map("\n".join)


@over(LINES)
@settings(max_examples=150)
def test_every_history_ascends_or_is_refused(text):
    try:
        switches = history.parse(text)
    except PostgresError:
        return
    numbers = [switch.timeline for switch in switches]
    assert numbers == sorted(set(numbers))
    assert [s.lsn for s in switches] == sorted(s.lsn for s in switches)
    assert history.parse(history.render(switches)) == switches


@over(st.text(max_size=20))
@settings(max_examples=100)
def test_every_lsn_is_one_that_postgresql_prints_or_no_lsn(text):
    try:
        found = Lsn.parse(text)
    except ValueError:
        return
    assert 0 <= found < 1 << 64
    assert Lsn.parse(str(found)) == found


@st.composite
def control_files(draw: st.DrawFn) -> bytes:
    """Bytes of each known version with any content under a right checksum."""
    version = draw(st.sampled_from([*control.CRC_OFFSETS, 0, 941, 2200, 1 << 16]))
    at = control.CRC_OFFSETS.get(version, 288)
    raw = bytearray(bytes.fromhex(OLD["split"]["n2"]["pg_control"]).ljust(8192, b"\0"))
    struct.pack_into("=I", raw, 8, version)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, at - 1))
        piece = draw(st.binary(min_size=1, max_size=8))
        raw[start : start + len(piece)] = piece
    struct.pack_into("=I", raw, at, crc32c(bytes(raw[:at])))
    return bytes(raw[: draw(st.sampled_from([8192, 8192, 8192, 296, 200, 0]))])


RECORDED_PAGES = {
    name: bytes.fromhex(page) for name, page in OLD["beginning"]["pages"].items()
}
PAGES = st.binary(max_size=64) | st.sampled_from(sorted(RECORDED_PAGES))
"""A page's first bytes, or the name of a recorded one."""


def wal_of(pages: list[bytes | str]) -> bytes:
    found = (RECORDED_PAGES.get(p, b"") if isinstance(p, str) else p for p in pages)
    return b"".join(page.ljust(8192, b"\0") for page in found)


NAMES = st.sampled_from(
    [
        "000000010000000000000003", "000000020000000000000003", "00000002.history",
        "00000003.history", "000000020000000000000003.partial", "FFFFFFFF.history",
        "FFFFFFFFFFFFFFFFFFFFFFFF", "archive_status", "x",
    ]
)  # fmt: skip


@over(
    control_files(),
    st.dictionaries(NAMES, LINES | st.lists(PAGES, max_size=3), max_size=4),
    st.sampled_from(["16", "9.6", "9.5\n", "", "x", "999.999", "\xff"]),
    st.sampled_from(["", "-1\n", "1\n/\n9e9\n", "99999999999999999999\n", "\0"]),
)
@settings(max_examples=40)
def test_every_data_directory_is_read_or_is_a_failure(
    tmp_path_factory, raw, files, version, pid
):
    home = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    (home / "global").mkdir()
    (home / "pg_wal").mkdir()
    (home / "global/pg_control").write_bytes(raw)
    (home / "PG_VERSION").write_text(version, "utf-8")
    (home / "postmaster.pid").write_text(pid)
    for name, content in files.items():
        data = wal_of(content) if isinstance(content, list) else content.encode()
        (home / "pg_wal" / name).write_bytes(data)
    found = DiskReader(home).read()
    assert isinstance(found, ServerFacts | ReadFailure)
    if isinstance(found, ReadFailure):
        assert "internal error" not in found.reason, found.reason
        assert found.hint
    else:
        codec.to_json(found)


@over(st.lists(PAGES, max_size=3), st.sampled_from([0, 40, 8192, 98816, 1 << 24]))
@settings(max_examples=100)
def test_every_page_of_wal_is_read_to_an_end(tmp_path_factory, pages, at):
    folder = tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp())
    path = Path(folder) / "000000020000000000000003"
    path.write_bytes(wal_of(pages))
    size = 1 << 24
    segments = records.Segments(lambda number: path if number == 3 else None, size)
    start = 3 * size + at
    with contextlib.suppress(PostgresError):
        record = segments.record(start, data_bytes_max=1 << 20)
        assert record is None or record.end > start
        end = segments.last_end_before(start + 8192, 3 * size)
        assert end is None or end <= start + 8192
        records.fingerprint(path.parent, 2, Lsn(start), segment_bytes=size)
    named = records.named_size(path)
    assert named is None or named >= records.SEGMENT_BYTES_MIN


@over(st.text(max_size=60))
@settings(max_examples=100)
def test_every_pid_file_names_a_process_or_none(text):
    found = postmaster.parse(text)
    assert found is None or found.pid > 0


# --- out of the journal -------------------------------------------------------

BODIES = {
    Kind.INCIDENT: json.loads(entries.to_body(given.incident())),
    Kind.CAPTURE: json.loads(entries.to_body(given.capture())),
    Kind.OCCURRENCE: 3,
}


@over(
    st.sampled_from(list(BODIES)).flatmap(
        lambda kind: st.tuples(st.just(kind), strategies.texts_of([BODIES[kind]]))
    )
)
@settings(max_examples=150)
def test_every_row_of_the_journal_is_read_or_refused(row):
    kind, body = row
    text = body.decode("utf-8", "replace").strip("[] ")
    with contextlib.suppress(CodecError):
        entries.joined([(kind, "name", text)])
    with contextlib.suppress(CodecError):
        codec.from_json(body, Knowledge)


def short_journal() -> list[bytes]:
    """The lines of a field journal: header, start, some events, without its end."""
    cluster = RecordedCluster()
    cluster.run(2)
    cluster.cut("n1")
    cluster.run(2)
    return cluster.export().splitlines()[:-1]


JOURNAL = short_journal()


@over(st.data())
@settings(max_examples=60)
def test_every_forged_journal_is_judged_or_refused_at_a_line(tmp_path_factory, data):
    at = data.draw(st.integers(0, len(JOURNAL) - 1) | st.just(1))
    line = data.draw(strategies.texts_of(json.loads(JOURNAL[at])))
    lines = [*JOURNAL[:at], line.replace(b"\n", b" "), *JOURNAL[at + 1 :]]
    body = b"".join(one + b"\n" for one in lines)
    count = data.draw(st.just(len(lines) - 1) | strategies.ODD)
    digest = hashlib.sha256(body).hexdigest()
    end = json.dumps({"end": {"lines": count, "sha256": digest}})
    path = tmp_path_factory.getbasetemp() / "forged.jsonl"
    path.write_bytes(body + end.encode() + b"\n")
    refused = None
    try:
        Rerun().run(FieldJournal(path))
    except JournalError as error:
        refused = error
    if refused is not None:
        assert str(path) in refused.message or "line " in refused.message
        assert refused.hint
