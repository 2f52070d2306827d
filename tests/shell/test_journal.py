"""One contract for both journals, and what the one on disk survives."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from agent.core.incident import Flip, Status
from agent.core.lsn import Lsn
from agent.core.notice import Notice, NoticeReason, notice_id
from agent.core.observation import Told
from agent.core.permit import Permit, PermitState
from agent.core.state import Knowledge, Ledger, PrimarySeen, ToldEntry
from agent.errors import JournalError
from agent.ports import OutboxCounts, OutboxRow, Rendered
from agent.store import sqlite as on_disk
from agent.store.memory import MemoryJournal
from agent.store.outbox import FAR_S
from agent.store.sqlite import SqliteJournal
from tests.core import given

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0


@pytest.fixture(params=["sqlite", "memory"])
def journal(request, tmp_path):
    """Each journal in turn, held to one contract."""
    made = (
        MemoryJournal()
        if request.param == "memory"
        else SqliteJournal(tmp_path / "journal.sqlite")
    )
    yield made
    made.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "journal.sqlite"


def incident(name: str = "inc-1", **more):
    return replace(given.incident(), id=name, **more)


def notice(
    incident_id: str = "inc-1", reason: NoticeReason = NoticeReason.FIRST
) -> Notice:
    return Notice(notice_id(incident_id, reason, 1), incident_id, reason, 1)


def rendered(
    *channels: str,
    incident_id: str = "inc-1",
    reason: NoticeReason = NoticeReason.FIRST,
) -> Rendered:
    return Rendered(notice(incident_id, reason), "{}", channels or ("on-call",))


def permit() -> Permit:
    return Permit(
        id="permit-1",
        node="n1",
        purpose="pg_rewind",
        state=PermitState.PENDING,
        reason="copying",
        asked_wall_s=NOW,
        asked_s=0.0,
        granted_s=None,
        system_id=given.SYSTEM,
        timeline=1,
        final_lsn=Lsn(0x2000),
        capture_id="n1-1",
        bytes_done=1,
        bytes_total=2,
        seconds_left=None,
        released_by=None,
    )


def whole_ledger() -> Ledger:
    flip = Flip(NOW, Status.OPEN, "split-brain", 501, "Two nodes are writable.")
    return Ledger(
        incidents=(incident("inc-2", history=(flip,)), incident("inc-1")),
        occurrences={"a/b/c/d": 3, "e": 1},
        captures=(given.capture(),),
        permits=(permit(),),
        told=(ToldEntry("msg-1", Told("inc-1", "first", 1, True), True, NOW),),
    )


def whole_knowledge() -> Knowledge:
    return Knowledge(
        lineages={"n1": given.lineage(2, (1, 0x3000))},
        primary=PrimarySeen("n1", 1, Lsn(0x1000), given.SYSTEM),
        confirmed_lsn=Lsn(0x1000),
        confirmed_xid=700,
    )


# --- the contract -------------------------------------------------------------


def test_a_new_journal_is_empty(journal):
    restored = journal.load()
    assert (restored.ledger, restored.knowledge) == (Ledger(), Knowledge())
    assert journal.due(NOW, 10) == ()
    assert journal.counts() == OutboxCounts(0, 0)


def test_what_was_committed_last_is_loaded(journal):
    journal.commit(Ledger(), Knowledge(confirmed_xid=1), (), NOW)
    journal.commit(whole_ledger(), whole_knowledge(), (), NOW)
    restored = journal.load()
    assert restored.ledger == whole_ledger()
    assert restored.knowledge == whole_knowledge()


def test_what_has_left_the_ledger_is_not_loaded(journal):
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    journal.commit(given.ledger(incidents=(incident("inc-1"),)), Knowledge(), (), NOW)
    assert journal.load().ledger == given.ledger(incidents=(incident("inc-1"),))


@drawn(
    st.lists(st.lists(st.integers(0, 5).map("inc-{}".format), unique=True), max_size=6)
)
def test_the_order_of_incidents_is_kept_however_it_changes(steps):
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.sqlite")
        for names in steps:
            ledger = given.ledger(incidents=tuple(incident(name) for name in names))
            journal.commit(ledger, Knowledge(), (), NOW)
            assert journal.load().ledger == ledger
        journal.close()


def test_a_notice_is_due_at_once_on_each_of_its_channels(journal):
    journal.commit(Ledger(), Knowledge(), (rendered("a", "b"),), NOW)
    rows = journal.due(NOW, 10)
    assert [(row.channel, row.incident_id, row.body) for row in rows] == [
        ("a", "inc-1", "{}"),
        ("b", "inc-1", "{}"),
    ]
    assert {row.notice_id for row in rows} == {notice().id}
    assert {(row.attempts, row.last_error) for row in rows} == {(0, "")}
    assert journal.counts() == OutboxCounts(undelivered=2, dead=0)


def test_a_notice_that_is_there_already_is_left_as_it_is(journal):
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    journal.delivered(notice().id, "on-call", NOW)
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    assert journal.due(NOW, 10) == ()
    assert journal.counts() == OutboxCounts(0, 0)


def test_a_notice_has_been_delivered_once_all_channels_have_it(journal):
    journal.commit(Ledger(), Knowledge(), (rendered("a", "b"),), NOW)
    assert journal.delivered(notice().id, "a", NOW) is True
    assert [row.channel for row in journal.due(NOW, 10)] == ["b"]
    assert journal.delivered(notice().id, "b", NOW) is True
    assert journal.delivered(notice().id, "b", NOW) is True
    assert journal.delivered("msg-unknown", "b", NOW) is False


def test_a_failed_attempt_waits_for_its_time(journal):
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    (row,) = journal.due(NOW, 10)
    journal.failed(row, "HTTP 500", NOW + 8)
    assert journal.due(NOW + 7, 10) == ()
    (again,) = journal.due(NOW + 8, 10)
    assert (again.attempts, again.last_error) == (1, "HTTP 500")


def test_a_dead_letter_is_counted_and_never_due(journal):
    journal.commit(Ledger(), Knowledge(), (rendered("a", "b"),), NOW)
    first, second = journal.due(NOW, 10)
    journal.failed(first, "HTTP 410", None)
    journal.delivered(second.notice_id, "b", NOW)
    assert journal.due(NOW + FAR_S / 2, 10) == ()
    assert journal.counts() == OutboxCounts(undelivered=0, dead=1)
    assert journal.delivered(second.notice_id, "b", NOW) is True


def test_a_failure_after_the_delivery_changes_nothing(journal):
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    (row,) = journal.due(NOW, 10)
    journal.delivered(row.notice_id, row.channel, NOW)
    journal.failed(row, "late", NOW)
    assert journal.due(NOW, 10) == ()


def test_the_end_of_an_incident_waits_for_its_beginning(journal):
    end = rendered("a", "b", reason=NoticeReason.RESOLVED)
    other = rendered("a", incident_id="inc-2")
    journal.commit(Ledger(), Knowledge(), (rendered("a", "b"), end, other), NOW)
    opened, resolved = notice().id, end.notice.id
    assert [(r.notice_id, r.channel) for r in journal.due(NOW, 10)] == [
        (opened, "a"),
        (opened, "b"),
        (other.notice.id, "a"),
    ]
    journal.failed(journal.due(NOW, 1)[0], "HTTP 500", NOW + 60)
    journal.delivered(opened, "b", NOW)
    assert [(r.notice_id, r.channel) for r in journal.due(NOW, 10)] == [
        (resolved, "b"),
        (other.notice.id, "a"),
    ]


def test_a_dead_beginning_does_not_hold_the_end_back(journal):
    end = rendered(reason=NoticeReason.RESOLVED)
    journal.commit(Ledger(), Knowledge(), (rendered(), end), NOW)
    journal.failed(journal.due(NOW, 1)[0], "HTTP 410", None)
    assert [row.notice_id for row in journal.due(NOW, 10)] == [end.notice.id]


def test_no_more_rows_are_returned_than_asked_for(journal):
    many = [rendered(incident_id=f"inc-{n}") for n in range(5)]
    journal.commit(Ledger(), Knowledge(), many, NOW)
    assert [row.incident_id for row in journal.due(NOW, 2)] == ["inc-0", "inc-1"]


def test_a_clock_that_was_set_back_keeps_no_message_waiting(journal):
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    (row,) = journal.due(NOW, 10)
    journal.failed(row, "HTTP 500", NOW + 60)
    a_day_earlier = NOW - 86_400
    assert len(journal.due(a_day_earlier, 10)) == 1


def test_every_thread_may_call(journal):
    """A pool's threads take turns; none of them owns the file."""
    failures: list[BaseException] = []

    def work(number):
        try:
            for step in range(20):
                made = rendered(incident_id=f"inc-{number}-{step}")
                journal.commit(Ledger(), Knowledge(), (made,), NOW)
                journal.due(NOW, 3)
        except BaseException as error:  # noqa: BLE001 - the test reports it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert journal.counts().undelivered == 80


# --- on disk ------------------------------------------------------------------


def test_everything_is_there_after_reopening(path):
    journal = SqliteJournal(path)
    journal.commit(whole_ledger(), whole_knowledge(), (rendered(),), NOW)
    journal.close()
    again = SqliteJournal(path)
    restored = again.load()
    assert (restored.ledger, restored.knowledge) == (whole_ledger(), whole_knowledge())
    assert len(again.due(NOW, 10)) == 1
    # And the next commit knows what it replaces.
    again.commit(given.ledger(permits=(permit(),)), Knowledge(), (), NOW)
    again.close()
    third = SqliteJournal(path)
    assert third.load().ledger == given.ledger(permits=(permit(),))
    third.close()


def test_only_the_agents_user_may_read_it(path):
    journal = SqliteJournal(path)
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    journal.close()
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_only_what_changed_is_written(path):
    journal = SqliteJournal(path)
    first, second = incident("inc-1"), incident("inc-2")
    journal.commit(given.ledger(incidents=(first, second)), Knowledge(), (), NOW)
    worse = replace(second, revision=2)
    journal.commit(given.ledger(incidents=(first, worse)), Knowledge(), (), NOW + 1)
    journal.close()
    rows = read(path, "SELECT id, changed_wall_s FROM entries ORDER BY id")
    assert rows == [("inc-1", NOW), ("inc-2", NOW + 1)]


def test_every_change_that_people_see_of_an_incident_is_kept(path):
    journal = SqliteJournal(path)
    steps = [
        incident(status=Status.PENDING),
        incident(status=Status.OPEN),
        incident(status=Status.OPEN, clear_since_s=5.0),  # nothing that people see
        incident(status=Status.OPEN, revision=2),
        incident(status=Status.RESOLVED, revision=3),
    ]
    for number, step in enumerate(steps):
        ledger = given.ledger(incidents=(step,))
        journal.commit(ledger, Knowledge(), (), NOW + number)
    journal.commit(Ledger(), Knowledge(), (), NOW + 9)
    journal.close()
    rows = read(path, "SELECT wall_s - ?, status, revision FROM flips", NOW)
    assert rows == [
        (0.0, "pending", 1),
        (1.0, "open", 1),
        (3.0, "open", 2),
        (4.0, "resolved", 3),
    ]
    assert read(path, "SELECT id, current FROM entries") == [("inc-1", 0)]


def test_what_is_kept_for_people_only_is_bounded(path, monkeypatch):
    monkeypatch.setattr(on_disk, "FLIPS_LIMIT", 5)
    monkeypatch.setattr(on_disk, "OLD_ENTRIES_LIMIT", 4)
    monkeypatch.setattr(on_disk, "ENDED_LIMIT", 3)
    monkeypatch.setattr(on_disk, "TIDY_EVERY", 1)
    journal = SqliteJournal(path)
    for number in range(12):
        name = f"inc-{number}"
        ledger = given.ledger(incidents=(incident(name),))
        made = rendered(incident_id=name)
        journal.commit(ledger, Knowledge(), (made,), NOW + number)
        journal.delivered(made.notice.id, "on-call", NOW)
    journal.commit(Ledger(), Knowledge(), (rendered(incident_id="last"),), NOW + 50)
    assert len(journal.due(NOW + 50, 10)) == 1
    journal.close()
    counts = [
        read(path, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("flips", "entries", "outbox")
    ]
    assert counts == [5, 4, 4]


def test_a_commit_that_fails_leaves_all_as_it_was(path, monkeypatch):
    journal = SqliteJournal(path)
    journal.commit(given.ledger(permits=(permit(),)), Knowledge(), (), NOW)
    broken = Rendered(notice(), "{}", ("a", None))  # type: ignore[arg-type] # no channel has no name
    with pytest.raises(JournalError):
        journal.commit(whole_ledger(), Knowledge(), (broken,), NOW)
    assert journal.load().ledger == given.ledger(permits=(permit(),))
    journal.commit(whole_ledger(), Knowledge(), (rendered(),), NOW)
    assert journal.load().ledger == whole_ledger()
    journal.close()


def read(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


# --- media and files that are not as they should be ---------------------------


def test_two_agents_cannot_have_one_journal(path):
    journal = SqliteJournal(path)
    with pytest.raises(JournalError, match=r"another agent.*state_dir of its own"):
        SqliteJournal(path)
    journal.close()
    SqliteJournal(path).close()


def test_a_file_that_is_no_journal_is_named(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(JournalError, match=r"journal\.sqlite.*move it away"):
        SqliteJournal(path)


def test_a_damaged_journal_is_named(path):
    journal = SqliteJournal(path)
    journal.commit(
        given.ledger(incidents=tuple(incident(f"inc-{n}") for n in range(200))),
        Knowledge(),
        (),
        NOW,
    )
    journal.close()
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="move it away"):
        SqliteJournal(path)


def test_a_journal_of_a_newer_version_is_left_alone(path):
    SqliteJournal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"format 99.*newer splitguard"):
        SqliteJournal(path)
    assert path.read_bytes() == before


def test_an_entry_that_cannot_be_read_is_named_and_the_lock_given_back(path):
    journal = SqliteJournal(path)
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    journal.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE entries SET body = '{}' WHERE kind = 'permit'")
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(JournalError, match="an entry cannot be read"):
            SqliteJournal(path)


def test_a_folder_in_the_journals_place_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match="folder in the journal's place"):
        SqliteJournal(path)


def test_a_file_in_the_place_of_the_folder_is_named(path):
    path.parent.write_text("")
    with pytest.raises(JournalError, match="state_dir must be a folder"):
        SqliteJournal(path)


def test_a_full_medium_is_named_and_survived(path):
    """A limit on file sizes stands for the full disk; SQLite calls both full."""
    journal = SqliteJournal(path)
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    many = tuple(incident(f"inc-{number}") for number in range(2000))
    try:
        size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        with pytest.raises(JournalError, match=r"room|disk"):
            journal.commit(given.ledger(incidents=many), Knowledge(), (), NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal.load().ledger == whole_ledger()
    journal.commit(given.ledger(incidents=many), Knowledge(), (), NOW)
    journal.close()


def test_a_closed_journal_says_so(path):
    journal = SqliteJournal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.counts()


COMMITTER = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from agent.core.state import Knowledge
    from agent.store.sqlite import SqliteJournal
    from tests.core import given
    from tests.shell.test_journal import NOW, incident, rendered

    journal = SqliteJournal(Path(sys.argv[1]))
    number = len(journal.load().ledger.incidents)
    while True:
        number += 1
        names = [f"inc-{n}" for n in range(1, number + 1)]
        ledger = given.ledger(incidents=tuple(incident(name) for name in names))
        made = rendered(incident_id=names[-1])
        journal.commit(ledger, Knowledge(confirmed_xid=number), (made,), NOW)
        print(number, flush=True)
"""


def test_a_kill_during_commits_keeps_what_was_committed_and_no_half(path):
    """Each commit adds an incident with its message; kill -9 comes at any moment."""
    confirmed = 0
    for pause in (7, 23, 41):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(COMMITTER), str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for _ in range(pause):
            confirmed = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        confirmed = int(rest[-1]) if rest else confirmed
        journal = SqliteJournal(path)
        restored = journal.load()
        count = len(restored.ledger.incidents)
        assert count in (confirmed, confirmed + 1)
        assert restored.knowledge.confirmed_xid == count
        assert journal.counts().undelivered == count
        journal.close()


def test_an_outbox_row_keeps_its_shape(path):
    journal = SqliteJournal(path)
    journal.commit(Ledger(), Knowledge(), (rendered(),), NOW)
    assert journal.due(NOW, 1) == (
        OutboxRow(notice().id, "on-call", "inc-1", "{}", 0, NOW, ""),
    )
    journal.close()
