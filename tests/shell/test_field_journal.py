"""The field journal as a file, and as the two commands that write and read it."""

import hashlib
import json
import os

import pytest

from agent.cli.rerun import Rerun
from agent.errors import JournalError
from agent.store import field
from agent.store.field import FieldJournal
from agent.store.memory import MemoryJournal
from agent.store.sqlite import SqliteJournal
from tests.fix_desk import healthy, serve
from tests.fix_rounds import RecordedCluster, split_and_healed


def replayed(path) -> Rerun:
    rerun = Rerun()
    rerun.run(FieldJournal(path))
    return rerun


def rewritten(path, lines: list[bytes]) -> None:
    """Write these lines with an end that fits them: what only a forger does."""
    body = b"".join(line + b"\n" for line in lines)
    digest = hashlib.sha256(body).hexdigest()
    end = {"end": {"lines": len(lines) - 1, "sha256": digest}}
    path.write_bytes(body + json.dumps(end).encode() + b"\n")


def changed(path, number: int, change) -> None:
    """Change one line as a forger would."""
    *lines, _ = path.read_bytes().splitlines()
    plain = json.loads(lines[number])
    change(plain)
    lines[number] = json.dumps(plain).encode()
    rewritten(path, lines)


def test_a_replay_gives_what_the_agent_recorded(field_journal):
    rerun = replayed(field_journal)
    assert not rerun.differences
    assert rerun.events > 200
    ways = [(one.before, one.after) for one in rerun.turns if not one.incident]
    assert ("split-brain-suspected", "split-brain") in ways
    assert ways[-1] == ("failover", "")


@pytest.mark.parametrize("length", [3, 30])
def test_it_does_over_whole_states_and_restarts_too(tmp_path, monkeypatch, length):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", float(length))
    cluster = split_and_healed()
    cluster.flush()
    cluster.start_agent("n1")
    cluster.run(10)
    path = tmp_path / "field.jsonl"
    path.write_bytes(cluster.export())
    assert not replayed(path).differences


def test_it_does_while_the_journal_took_nothing(tmp_path):
    cluster = RecordedCluster()
    cluster.run(5)
    cluster.recording.journal_works = False
    cluster.cut("n1")
    cluster.run(5)
    cluster.recording.journal_works = True
    cluster.run(5)
    path = tmp_path / "field.jsonl"
    path.write_bytes(cluster.export())
    assert b'"committed":false' in path.read_bytes()
    rerun = replayed(path)
    assert not rerun.differences
    assert [one.after for one in rerun.turns if one.incident].count("open") == 2


def test_an_export_since_begins_at_the_last_whole_state_before(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 10.0)
    cluster = RecordedCluster()
    for _ in range(10):
        cluster.run(5)
        cluster.flush()
    wanted = cluster.at("n1").wall_s - 7
    path = tmp_path / "field.jsonl"
    path.write_bytes(cluster.export(wanted))
    rerun = replayed(path)
    assert rerun.from_wall_s is not None
    assert wanted - 15 < rerun.from_wall_s <= wanted


def test_rounds_that_are_given_up_during_an_export_leave_a_gap(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 10.0)
    journal = MemoryJournal()
    cluster = RecordedCluster(journal)
    for _ in range(12):
        cluster.run(3)
        cluster.flush()
    pieces = cluster.recording.recorder.export(None)
    path = tmp_path / "field.jsonl"
    with path.open("wb") as file:
        file.write(next(pieces))
        del journal._chunks[1:5]
        file.writelines(pieces)
    assert b'{"gap"' in path.read_bytes()
    assert not replayed(path).differences


def test_a_forged_gap_is_no_way_around_a_start(field_journal):
    *lines, _ = field_journal.read_bytes().splitlines()
    lines.insert(40, b'{"gap":true}')
    rewritten(field_journal, lines)
    with pytest.raises(JournalError, match="line 42: an event without a start"):
        replayed(field_journal)


def test_what_the_agent_did_not_show_is_a_difference(field_journal):
    lines = field_journal.read_bytes().splitlines()
    number = next(
        n for n, line in enumerate(lines) if b'{"outcome"' in line and b"-brain" in line
    )

    def soften(plain):
        (split,) = [
            one for one in plain["outcome"]["verdicts"] if one["family"] == "split"
        ]
        split["code"] = "healthy"

    changed(field_journal, number, soften)
    first = replayed(field_journal).differences[0]
    assert first.line == number
    assert any("healthy cluster" in one for one in first.recorded)
    assert any("split-brain-suspected cluster" in one for one in first.replayed)


def test_a_state_that_is_not_what_came_out_is_a_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 20.0)
    path = tmp_path / "field.jsonl"
    path.write_bytes(split_and_healed().export())
    lines = path.read_bytes().splitlines()
    number = [n for n, line in enumerate(lines) if line.startswith(b'{"start"')][1]

    def older(plain):
        plain["start"]["state"]["view"]["sequence"] -= 1

    changed(path, number, older)
    (difference,) = replayed(path).differences
    assert difference.event == "start"
    assert difference.replayed == ("another view.sequence",)


# --- what is no field journal ---------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_end(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def flipped(content: bytes) -> bytes:
    return content.replace(b'"n2"', b'"n3"', 1)


def newer(content: bytes) -> bytes:
    return content.replace(b'"splitguard_journal":1', b'"splitguard_journal":2', 1)


def renamed(content: bytes) -> bytes:
    return content.replace(b'"cluster"', b'"culster"', 1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "is cut short in line"),
        (without_end, "its last line is no end"),
        (flipped, "was changed on its way"),
        (newer, "has format 2, this splitguard knows 1"),
        (renamed, "its header is damaged"),
        (lambda _: b"", "is no exported journal"),
        (lambda _: b"\0" * 100_000, "is no exported journal"),
        (lambda _: b'{"data": []}\n', "is no exported journal"),
        (lambda _: b"[[[[" * 10_000, "is no exported journal"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_its_reason(
    field_journal, spoil, reason
):
    field_journal.write_bytes(spoil(field_journal.read_bytes()))
    with pytest.raises(JournalError, match=reason) as caught:
        FieldJournal(field_journal)
    assert str(field_journal) in caught.value.message
    assert caught.value.hint


def test_a_file_of_absurd_size_is_not_even_read(tmp_path):
    path = tmp_path / "field.jsonl"
    with path.open("wb") as file:
        os.truncate(file.fileno(), field.FILE_BYTES_MAX + 1)
    with pytest.raises(JournalError, match="larger than 4 GiB"):
        FieldJournal(path)


def test_a_line_of_absurd_length_is_refused(field_journal, monkeypatch):
    monkeypatch.setattr(field, "LINE_BYTES_MAX", 1000)
    with pytest.raises(JournalError, match="line 2 is absurdly long"):
        FieldJournal(field_journal)


@pytest.mark.parametrize("place", ["", "missing.jsonl", "/dev/zero"])
def test_what_is_no_file_is_refused(tmp_path, place):
    with pytest.raises(JournalError, match=r"is no file|is missing"):
        FieldJournal(tmp_path / place)


def test_a_forged_file_is_refused_at_the_line_that_cannot_be(field_journal):
    changed(field_journal, 40, lambda plain: plain.update(patch={"nobody": 1}))
    with pytest.raises(JournalError, match=r"line 41: the patch names 'nobody'"):
        replayed(field_journal)


def test_a_forged_file_without_a_start_is_refused(field_journal):
    header, _, *events, _ = field_journal.read_bytes().splitlines()
    rewritten(field_journal, [header, *events])
    with pytest.raises(JournalError, match="no start"):
        replayed(field_journal)
    rewritten(field_journal, [header])
    with pytest.raises(JournalError, match="holds no rounds"):
        FieldJournal(field_journal)


# --- the commands ---------------------------------------------------------------


def test_the_agent_is_asked_and_what_it_sends_can_be_replayed(
    splitguard, agent_for, tmp_path
):
    cluster = split_and_healed()
    agent = agent_for(healthy(), rounds=cluster.recording.recorder)
    path = tmp_path / "field.jsonl"
    ran = splitguard("journal", "export", "--to", path, "--socket", agent.socket)
    assert (ran.code, ran.out) == (0, ""), ran.words
    assert f"splitguard replay {path}" in ran.words
    assert path.stat().st_mode & 0o777 == 0o600
    again = splitguard("replay", path)
    assert again.code == 0, again.words
    assert "cluster: split-brain-suspected -> split-brain (rule 501)" in again.out
    assert "the same came out as the agent recorded" in again.words
    found = json.loads(splitguard("replay", path, "-o", "json").out)
    assert found["differences"] == []
    assert found["node"] == "n1"
    assert {"at", "before", "after", "rule", "sentence"} <= found["flips"][0].keys()
    lines = splitguard("replay", path, "-o", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == found["flips"]
    there = splitguard("journal", "export", "--to", path, "--socket", agent.socket)
    assert there.code == 1
    assert "is there already" in there.words
    assert "--to" in there.words


def test_stdout_gets_the_same_and_nothing_else(spawned, agent_for):
    cluster = split_and_healed()
    agent = agent_for(healthy(), rounds=cluster.recording.recorder)
    ran = spawned("journal", "export", "--since", "1h", "--socket", agent.socket)
    assert ran.code == 0, ran.words
    lines = ran.out.splitlines()
    assert json.loads(lines[0])["since_wall_s"] is not None
    assert "end" in json.loads(lines[-1])


def test_a_difference_ends_with_1_and_says_where(splitguard, field_journal):
    lines = field_journal.read_bytes().splitlines()
    number = [n for n, line in enumerate(lines) if b'{"outcome"' in line][-1]
    changed(field_journal, number, lambda plain: plain["outcome"].update(incidents=[]))
    ran = splitguard("replay", field_journal)
    assert ran.code == 1
    assert f"DIFFERS at line {number}" in ran.out
    assert "only replayed: inc-" in ran.out
    assert "1 differences" in ran.words or "differences from what" in ran.words


def test_rounds_of_another_version_are_replayed_and_named(splitguard, field_journal):
    changed(field_journal, 1, lambda plain: plain["start"].update(agent="0.0.9"))
    ran = splitguard("replay", field_journal)
    assert ran.code == 0
    assert "judged by 0.0.9, replayed by" in ran.words


@pytest.fixture
def dead_agent(tmp_path):
    """The configuration of an agent that has died, and its journal."""
    state = tmp_path / "state"
    journal = SqliteJournal(state / "journal.sqlite")
    split_and_healed(RecordedCluster(journal)).flush()
    journal.close()
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "test"\nnode = "n1"\nsocket = "{tmp_path}/none.sock"\n'
        f'state_dir = "{state}"\n'
        '[[nodes]]\nname = "n1"\npostgres = "host=127.0.0.1 dbname=postgres"\n'
    )
    return config


def test_a_dead_agents_journal_is_exported_from_its_file(
    splitguard, dead_agent, tmp_path
):
    path = tmp_path / "field.jsonl"
    ran = splitguard("journal", "export", "--to", path, "--config", dead_agent)
    assert ran.code == 0, ran.words
    assert "no agent answers" in ran.words
    assert "reading" in ran.words
    assert splitguard("replay", path).code == 0


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (("journal", "export", "--since", "yesterday"), "--since 'yesterday'", 1),
        (("journal", "export", "--socket", "/nowhere"), "no agent answers", 1),
        (("replay", "/nowhere.jsonl"), "is missing", 1),
        (("replay",), "Missing argument", 2),
    ],
)
def test_a_command_that_cannot_be_done_says_why(splitguard, arguments, reason, code):
    ran = splitguard(*arguments)
    assert ran.code == code
    assert reason in ran.words
    assert "this is a bug" not in ran.words


def test_a_journal_of_nobody_leaves_no_file_behind(splitguard, tmp_path):
    path = tmp_path / "field.jsonl"
    ran = splitguard("journal", "export", "--socket", "/nowhere", "--to", path)
    assert ran.code == 1
    assert not list(tmp_path.iterdir())


# --- over HTTP -----------------------------------------------------------------


@pytest.fixture
def recorder():
    """Of an agent that has seen a split brain."""
    return split_and_healed().recording.recorder


async def test_the_journal_is_read_with_scope_read_only(recorder):
    served = serve(healthy(), rounds=recorder)
    async with served.client("read") as client:
        answer = await client.get("/v1/journal")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert "end" in json.loads(answer.text.splitlines()[-1])
        assert (await client.get("/v1/journal?since=nonsense")).status_code == 422
    async with served.client("operate") as client:
        assert (await client.get("/v1/journal")).status_code == 403
    async with served.client() as client:
        assert (await client.get("/v1/journal")).status_code == 401


async def test_an_agent_without_rounds_says_so():
    empty = RecordedCluster(MemoryJournal())
    recorder = empty.recording.recorder
    recorder._pending.clear()
    for served in (serve(healthy()), serve(healthy(), rounds=recorder)):
        async with served.client("read") as client:
            answer = await client.get("/v1/journal")
            assert answer.status_code == 503
            assert "rounds" in answer.json()["detail"]
