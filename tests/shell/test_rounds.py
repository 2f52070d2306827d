"""Rounds in the journal: what is kept can be read back, within its bounds."""

import contextlib
import json
import os
import sqlite3
import zlib
from dataclasses import replace

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from agent.core.event import Ticked
from agent.core.moment import Moment
from agent.core.observation import SelfHealth
from agent.core.replay import outcome
from agent.errors import CodecError, JournalError
from agent.ports import Chunk
from agent.store import ring, rounds, schema
from agent.store.delta import applied, difference
from agent.store.memory import MemoryJournal
from agent.store.rounds import Decoder, Encoder, Noted, Start, lines_of
from agent.store.sqlite import SqliteJournal
from tests.core import given
from tests.fix_rounds import RecordedCluster, split_and_healed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@drawn(PLAIN, PLAIN)
def test_a_patch_makes_the_new_value_of_the_old_one(old, new):
    patch = json.loads(json.dumps(difference(old, new)))
    assert repr(applied(old, patch)) == repr(new)


@drawn(PLAIN, PLAIN)
def test_any_patch_fits_or_is_refused(old, patch):
    with contextlib.suppress(ValueError):
        applied(old, patch)


def test_a_patch_names_only_what_has_changed():
    old = {"at": 1, "seen": [{"age": 1.0, "node": "n1"}, {"age": 2.0, "node": "n2"}]}
    new = {"at": 2, "seen": [{"age": 1.0, "node": "n1"}, {"age": 3.0, "node": "n2"}]}
    assert difference(old, new) == {"at": 2, "seen": {"1": {"age": 3.0}}}


def test_a_deep_patch_is_refused():
    old: object = 1
    patch: object = 2
    for _ in range(200):
        old, patch = {"a": old}, {"a": patch}
    with pytest.raises(ValueError, match="too deeply"):
        applied(old, patch)


def start(**more):
    return Start(given.at(0).wall_s, "1.0", given.policy(), given.state(**more))


def ticked(seconds: float, lag_s: float = 0.0, **more):
    return Noted(Ticked(given.at(seconds), SelfHealth(lag_s, 0.0, 0.0)), **more)


def test_entries_come_back_as_they_were():
    state = given.state(verdicts=(given.verdict(),), incidents=(given.incident(),))
    begun = replace(start(), state=state)
    noted = ticked(1, outcome=outcome(state))
    (chunk,) = Encoder().chunks([begun, noted, ticked(2, 0.5, committed=False)])
    decoder = Decoder()
    assert [decoder.entry(line) for line in lines_of(chunk)] == [
        begun,
        ticked(1),
        outcome(state),
        ticked(2, 0.5, committed=False),
    ]
    assert (chunk.starts, chunk.lines) == (True, 4)
    assert chunk.from_wall_s == given.at(0).wall_s
    assert chunk.to_wall_s == given.at(2).wall_s


def test_a_chunk_goes_on_where_the_one_before_ended():
    encoder, decoder = Encoder(), Decoder()
    chunks = [
        *encoder.chunks([start(), ticked(1)]),
        *encoder.chunks([ticked(2), start(), ticked(3)]),
    ]
    entries = [decoder.entry(line) for chunk in chunks for line in lines_of(chunk)]
    assert entries == [start(), ticked(1), ticked(2), start(), ticked(3)]
    assert [chunk.starts for chunk in chunks] == [True, False, True]
    with pytest.raises(CodecError):
        Decoder().entry(lines_of(chunks[1])[0])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "neither start"),
        (b'{"event":"Rebooted","of":"x","patch":1}', "neither start"),
        (b'{"event":"Ticked","of":3,"patch":1}', "neither start"),
        (b'{"event":"Ticked","of":"Ticked","patch":{"at":1}}', "there is none"),
        (b'{"event":"Ticked","of":"Ticked","patch":7}', "not a Ticked"),
        (b'{"start":{"wall_s":1}}', "not a Start"),
        (b'{"outcome":{"verdicts":3}}', "not a Outcome"),
    ],
)
def test_a_line_that_fits_nothing_is_refused_with_its_reason(line, reason):
    with pytest.raises(CodecError, match=reason):
        Decoder().entry(line)


@drawn(st.binary(max_size=200) | st.text(max_size=200))
def test_no_line_makes_another_error(line):
    with contextlib.suppress(CodecError):
        Decoder().entry(line)


@pytest.mark.parametrize("spoilt", [b"", b"no zlib", zlib.compress(b"{}\n")[:-3]])
def test_a_chunk_that_is_not_whole_is_refused(spoilt):
    chunk = replace(Encoder().chunks([start()])[0], body=spoilt)
    with pytest.raises(CodecError, match="rounds 0"):
        lines_of(chunk)


# --- the ring, in both journals ---------------------------------------------------


@pytest.fixture(params=["sqlite", "memory"])
def journal(request, tmp_path):
    made = (
        MemoryJournal()
        if request.param == "memory"
        else SqliteJournal(tmp_path / "journal.sqlite")
    )
    yield made
    made.close()


def chunk(second: float, size: int = 10, *, starts: bool = False) -> Chunk:
    return Chunk(0, starts, second, second + 1, 1, os.urandom(size))


def numbers(journal, after: int = 0) -> list[int]:
    found = []
    while (each := journal.recorded(after)) is not None:
        found.append(each.seq)
        after = each.seq
    return found


def test_a_new_journal_has_no_rounds(journal):
    assert journal.recorded(0) is None
    assert journal.recorded(journal.recorded_from(0.0)) is None


def test_chunks_come_back_in_order(journal):
    made = [chunk(1, starts=True), chunk(2)]
    for each in made:
        journal.record(each)
    assert numbers(journal) == [1, 2]
    assert journal.recorded(1) == replace(made[1], seq=2)


def test_reading_begins_at_the_last_start_that_is_early_enough(journal):
    for second, starts in enumerate([True, False, True, False, True, False]):
        journal.record(chunk(second, starts=starts))
    wanted = {-1.0: 0, 0.0: 0, 1.5: 0, 2.0: 2, 3.9: 2, 4.0: 4, 99.0: 4}
    assert {at: journal.recorded_from(at) for at in wanted} == wanted


def test_where_the_oldest_start_is_gone_reading_begins_at_the_first(journal):
    for second, starts in enumerate([False, False, True, False]):
        journal.record(chunk(second, starts=starts))
    assert journal.recorded_from(1.0) == 2


def test_the_oldest_chunks_are_given_up(journal, monkeypatch):
    monkeypatch.setattr(rounds, "LIMIT_BYTES", 1000)
    for second in range(30):
        journal.record(chunk(second, 100))
    assert numbers(journal) == list(range(21, 31))


def test_a_chunk_larger_than_the_ring_is_not_kept(journal, monkeypatch):
    monkeypatch.setattr(rounds, "LIMIT_BYTES", 1000)
    journal.record(chunk(1, 2000))
    assert numbers(journal) == []
    journal.record(chunk(2, 200))
    assert len(numbers(journal)) == 1


def test_the_file_stays_within_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "LIMIT_BYTES", 200_000)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    for second in range(300):
        journal.record(chunk(second, 10_000))
    journal.close()
    assert path.stat().st_size < 600_000


# --- the file of an agent that is dead, or does not answer ---------------------------


def recorded(path):
    journal = SqliteJournal(path)
    cluster = RecordedCluster(journal)
    cluster.run(5)
    cluster.flush()
    return journal, cluster


def left(folder):
    return {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}


def test_a_dead_agents_journal_is_read_and_left_as_it_is(tmp_path):
    path = tmp_path / "state" / "journal.sqlite"
    journal, _ = recorded(path)
    journal.close()
    before = left(path.parent)
    with ring.reading(path) as kept:
        assert numbers(kept) == [1]
        with pytest.raises(JournalError, match="only read"):
            kept.record(chunk(1))
    assert left(path.parent) == before


def test_what_a_killed_agent_had_not_folded_in_is_read_too(tmp_path):
    path = tmp_path / "state" / "journal.sqlite"
    journal, _ = recorded(path)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        (killed / name).write_bytes((path.parent / name).read_bytes())
    journal.close()
    before = left(killed)
    with ring.reading(killed / "journal.sqlite") as kept:
        assert numbers(kept) == [1]
    assert left(killed) == before


def test_a_living_agents_journal_is_read_beside_it(tmp_path):
    path = tmp_path / "journal.sqlite"
    journal, cluster = recorded(path)
    with ring.reading(path) as kept:
        assert numbers(kept) == [1]
        cluster.run(1)
        cluster.flush()
    assert numbers(journal) == [1, 2]
    journal.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"no database at all" * 100, "not a database"),
    ],
)
def test_what_is_no_journal_is_said_so(tmp_path, content, reason):
    path = tmp_path / "journal.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=reason), ring.reading(path):
        pass


@pytest.mark.parametrize(
    ("version", "reason"),
    [(1, "kept no rounds"), (len(schema.MIGRATIONS) + 1, "has format")],
)
def test_a_journal_of_another_version_is_said_so(tmp_path, version, reason):
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(JournalError, match=reason), ring.reading(path):
        pass


def test_an_older_journal_gets_its_rounds(tmp_path):
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as db:
        for statement in schema.MIGRATIONS[0]:
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
    db.close()
    journal = SqliteJournal(path)
    journal.record(chunk(1, starts=True))
    assert numbers(journal) == [1]
    journal.close()


# --- what the recorder writes -------------------------------------------------------


def entries(cluster):
    decoder, after, found = Decoder(), 0, []
    while (each := cluster.rounds.recorded(after)) is not None:
        found += [decoder.entry(line) for line in lines_of(each)]
        after = each.seq
    return found


def test_a_recording_begins_with_the_whole_state_and_goes_on_with_every_event():
    cluster = split_and_healed()
    cluster.flush()
    found = entries(cluster)
    starts = [one for one in found if isinstance(one, Start)]
    assert isinstance(found[0], Start)
    assert len(starts) == 1
    assert found[0].policy == cluster.recording.policy
    assert len([one for one in found if isinstance(one, Noted)]) > 200


def test_it_begins_anew_every_so_often_and_after_a_restart(monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 20.0)
    cluster = RecordedCluster()
    cluster.run(25)
    cluster.flush()
    cluster.start_agent("n1")
    cluster.run(2)
    cluster.flush()
    starts = [one for one in entries(cluster) if isinstance(one, Start)]
    assert [one.follows for one in starts] == [False, True, False]


class FullJournal(MemoryJournal):
    """A journal on a disk that is full for a while."""

    full = False

    def record(self, chunk: Chunk) -> None:
        if self.full:
            raise JournalError("no room")
        super().record(chunk)


def test_what_the_medium_did_not_take_is_a_gap_with_a_new_beginning(caplog):
    journal = FullJournal()
    cluster = RecordedCluster(journal)
    cluster.run(3)
    cluster.flush()
    journal.full = True
    for _ in range(3):
        cluster.run(3)
        cluster.flush()
    journal.full = False
    cluster.run(3)
    cluster.flush()
    starts = [one for one in entries(cluster) if isinstance(one, Start)]
    assert [one.follows for one in starts] == [False, False]
    assert caplog.text.count("rounds are not recorded: no room") == 1


def test_notes_that_nobody_takes_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.PENDING_MAX", 50)
    cluster = RecordedCluster()
    cluster.run(40)
    cluster.flush()
    found = entries(cluster)
    assert isinstance(found[0], Start)
    assert len([one for one in found if isinstance(one, Noted)]) <= 50


def test_a_value_that_cannot_be_written_costs_notes_and_no_agent(caplog):
    cluster = RecordedCluster()
    cluster.run(1)
    sick = Ticked(Moment(float("inf"), 1.0), SelfHealth(0.0, 0.0, 0.0))
    state = cluster.recording.state
    cluster.recording.recorder.note(sick, state, state, committed=True)
    cluster.flush()
    assert "rounds are not recorded" in caplog.text
    cluster.run(1)
    cluster.flush()
    assert isinstance(entries(cluster)[0], Start)
