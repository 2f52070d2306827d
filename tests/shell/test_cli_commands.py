"""Incidents, permits, snapshots and tokens as commands, and how commands fail."""

import json
import signal
import stat
import sys
from dataclasses import replace
from typing import Any

import pytest

from agent.api.tokens import Scope, TokenBook, digest
from agent.cli.main import bug_text
from agent.core.event import PermitAsked
from tests.fix_desk import card, healthy, node_down, resynced, split_brain
from tests.shell.test_snapshot_catalogue import make_snapshot


def said(ran) -> Any:
    """What a command printed as JSON."""
    assert ran.code == 0, ran.words
    return json.loads(ran.out)


def test_only_standing_incidents_are_listed_unless_all_are_wanted(
    splitguard, agent_for
):
    def back(sim):
        sim.world.start("n3")
        sim.run(20)

    sim = node_down()
    agent = agent_for(sim)
    standing = splitguard("incidents", "list", "-o", "json", "--socket", agent.socket)
    assert [each["verdict"] for each in said(standing)] == ["node-down"]
    agent.happen(back)
    none = splitguard("incidents", "list", "--socket", agent.socket)
    assert none.out == "No incident is open.\n"
    everything = splitguard(
        "incidents", "list", "--all", "-o", "jsonl", "--socket", agent.socket
    )
    assert json.loads(everything.out.splitlines()[0])["status"] == "resolved"


def test_an_incident_is_taken_by_whoever_runs_the_command(splitguard, agent_for):
    agent = agent_for(split_brain())
    [incident] = said(
        splitguard("incidents", "list", "-o", "json", "--socket", agent.socket)
    )
    ran = splitguard(
        "incidents", "ack", incident["id"], "--who", "ann", "--socket", agent.socket
    )
    assert ran.code == 0
    assert "acknowledged" in ran.out
    assert "is taken by ann" in ran.words
    unknown = splitguard("incidents", "ack", "inc-0", "--socket", agent.socket)
    assert unknown.code == 1
    assert "There is no incident of this id." in unknown.words
    assert "splitguard incidents list" in unknown.words


def test_a_release_needs_a_reason_a_node_and_somebody_who_waits(splitguard, agent_for):
    agent = agent_for(healthy())
    without = splitguard("guard", "release", "n1", "--socket", agent.socket)
    assert without.code == 2
    assert "--reason" in without.words
    nobody = splitguard(
        "guard", "release", "n1", "--reason", "x", "--socket", agent.socket
    )
    assert nobody.code == 1
    assert "No resync waits" in nobody.words
    other = splitguard(
        "guard", "release", "n2", "--reason", "x", "--socket", agent.socket
    )
    assert "This agent guards n1" in other.words


def test_permits_are_listed_and_released_with_name_and_reason(splitguard, agent_for):
    agent = agent_for(split_brain())
    desk = agent.served.desk
    agent.happen(lambda sim: sim.submit("n1", PermitAsked(desk.now(), "p1", "resync")))
    [permit] = said(
        splitguard("guard", "status", "-o", "json", "--socket", agent.socket)
    )
    assert (permit["id"], permit["state"]) == ("p1", "pending")
    assert "p1" in splitguard("guard", "status", "--socket", agent.socket).out
    released = splitguard(
        "guard", "release", "n1", "--reason", "test data only", "--who", "ann",
        "-o", "jsonl", "--socket", agent.socket,
    )  # fmt: skip
    assert json.loads(released.out)["state"] == "released"
    assert json.loads(released.out)["released_by"] == "ann"
    assert "may go on" in released.words


def test_a_permit_is_asked_for_the_very_folder_and_told_by_the_wanted_code(
    spawned, splitguard, agent_for, tmp_path
):
    agent = agent_for(split_brain())
    found = tmp_path.stat()
    identity = f"boot:{found.st_dev}:{found.st_ino}"

    def stop(sim):
        server = sim.world.servers["n1"]
        real = server.facts
        server.facts = lambda pages=(): replace(real(pages), identity=identity)
        server.running = False
        sim.run(5)

    words = ("guard", "permit", "--pass-code", "93", "--socket", agent.socket)
    refused = splitguard(*words, "--data-dir", tmp_path)
    assert refused.code == 1
    assert "which is another folder" in refused.words
    absent = splitguard(*words, "--data-dir", tmp_path / "nothing")
    assert absent.code == 1
    assert "No such file" in absent.words
    agent.happen(stop)
    waiting = spawned.start(*words, "--data-dir", tmp_path)
    assert "pending" in waiting.stderr.readline()
    agent.happen(lambda sim: sim.run(5))
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 93, said
    assert "granted: snapshot" in said


def test_codes_that_mean_failure_cannot_mean_go_on(splitguard):
    for code in (1, 2, 126, -1):
        ran = splitguard("guard", "permit", "--pass-code", code, "--socket", "/nobody")
        assert ran.code == 2


def test_snapshots_are_listed_as_the_agent_knows_them(splitguard, agent_for):
    agent = agent_for(healthy())
    empty = splitguard("snapshots", "list", "--socket", agent.socket)
    assert empty.out == "There is no snapshot here.\n"
    agent.served.shelf.add(card(), {"manifest.json": b"{}"})
    listed = splitguard("snapshots", "list", "--socket", agent.socket)
    assert "n1-abc  n1    -     complete  1   0/3000A00  40.0 MiB" in listed.out
    shown = splitguard("snapshots", "show", "n1-abc", "--socket", agent.socket)
    assert "0/2000000" in shown.out
    missing = splitguard("snapshots", "show", "n1-x", "--socket", agent.socket)
    assert missing.code == 1
    assert "splitguard snapshots list" in missing.words


def test_snapshots_elsewhere_are_rows_with_the_side_that_they_hold(
    splitguard, agent_for
):
    sim = resynced()
    here, there = agent_for(sim, me="n1"), agent_for(sim, me="n2")
    words = ("snapshots", "list", "-o", "json", "--socket")
    told = json.loads(splitguard(*words, there.socket).out)["elsewhere"]
    (kept,) = (each for each in told if each["node"] == "n1")
    assert (kept["side"], kept["timeline"], kept["reporter"]) == ("loser", 1, "n1")
    here.served.shelf.add(card(kept["id"], incident_ids=kept["incidents"]), {})
    (mine,) = json.loads(splitguard(*words, here.socket).out)["snapshots"]
    assert mine["side"] == "loser"
    listed = splitguard("snapshots", "list", "--socket", there.socket).out
    (row,) = (line for line in listed.splitlines() if line.startswith(kept["id"]))
    assert row.split()[1:4] == ["n1", "loser", "complete"]
    assert row.split()[-3:] == ["n1", "-", "-"], "beside whom it lies"


def test_a_snapshot_is_ordered_from_the_agent(splitguard, agent_for):
    agent = agent_for(healthy())
    ran = splitguard(
        "snapshots", "create", "--reason", "before the upgrade", "--no-wait",
        "-o", "json", "--socket", agent.socket,
    )  # fmt: skip
    assert said(ran)["reason"] == "before the upgrade"
    assert "has begun" in ran.words
    again = splitguard(
        "snapshots", "create", "--no-wait", "-o", "json", "--socket", agent.socket
    )
    assert said(again)["id"] == said(ran)["id"]
    assert "was under way (before the upgrade): it takes a full copy too" in again.words


def test_a_command_that_waits_for_a_snapshot_ends_when_it_is_complete(
    spawned, agent_for
):
    agent = agent_for(healthy())
    running = spawned.start(
        "snapshots", "create", "-o", "json", "--socket", agent.socket
    )
    try:
        assert "has begun" in running.stderr.readline()
        agent.happen(lambda sim: sim.run(30))
        out, words = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 0, words
    assert json.loads(out)["grade"] in {"complete", "opened"}


def test_reading_snapshots_elsewhere_needs_an_agent_that_answers(splitguard):
    ran = splitguard("snapshots", "list", "--url", "http://127.0.0.1:1")
    assert ran.code == 1
    assert "no agent answers at http://127.0.0.1:1" in ran.words


def test_a_snapshot_that_is_not_there_is_named(splitguard, tmp_path):
    for command in ("show", "verify", "open"):
        ran = splitguard("snapshots", command, "n1-x", "--dir", tmp_path)
        assert ran.code == 1
        assert f"there is no snapshot n1-x in {tmp_path}" in ran.words
    ran = splitguard("snapshots", "verify", "./no/such", "--dir", tmp_path)
    assert ran.code == 1
    assert "there is no no/such" in ran.words


def test_a_capture_folder_that_is_not_there_is_no_empty_list(splitguard, tmp_path):
    ran = splitguard("snapshots", "list", "--dir", tmp_path / "none")
    assert (ran.code, ran.out) == (1, "")
    assert f"there is no capture folder {tmp_path / 'none'}" in ran.words


def test_a_snapshot_by_id_needs_configuration_or_folder(splitguard):
    ran = splitguard("snapshots", "verify", "n1-x", "--config", "/nonexistent")
    assert ran.code == 1
    assert "/nonexistent: No such file or directory" in ran.words
    assert "--dir FOLDER" in ran.words


def test_a_token_is_printed_once_and_kept_as_a_hash(splitguard, tmp_path):
    file = tmp_path / "tokens.jsonl"
    file.write_text('{"name": "cut off"')  # a line that was never finished
    arguments = ("token", "create", "grafana", "--scope", "read")
    ran = splitguard(*arguments, "--tokens-file", file)
    assert ran.code == 0
    token = ran.out.strip()
    text = file.read_text()
    assert token not in text + ran.words
    assert digest(token) in text.splitlines()[1]
    assert text.splitlines()[0] == '{"name": "cut off"'
    assert str(file) in ran.words


def test_a_new_tokens_file_is_readable_by_its_owner_only(splitguard, tmp_path):
    file = tmp_path / "tokens.jsonl"
    for name in ("first", "second"):
        ran = splitguard(
            "token", "create", name, "--scope", "peer", "--tokens-file", file,
            "-o", "json",
        )  # fmt: skip
        assert said(ran)["scope"] == "peer"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    book = TokenBook.load(file, None)
    assert [entry.name for entry in book.entries] == ["first", "second"]
    assert {entry.scope for entry in book.entries} == {Scope.PEER}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("x", "--scope", "reed", "--tokens-file", "/tmp/t"), "one of read, operate"),
        (("", "--scope", "read", "--tokens-file", "/tmp/t"), "name must be a text"),
        (("x", "--scope", "read", "--tokens-file", "/nonexistent/t"), "No such file"),
        (("x", "--scope", "read", "--config", "/nonexistent"), "--config FILE"),
    ],
)
def test_a_token_that_cannot_be_made_says_why(splitguard, arguments, expected):
    ran = splitguard("token", "create", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert expected in ran.words


def test_a_tokens_file_that_is_not_configured_is_named(splitguard, tmp_path):
    config = tmp_path / "agent.toml"
    config.write_text('cluster = "c"\nnode = "a"\n[[nodes]]\nname = "a"\n')
    ran = splitguard("token", "create", "x", "--scope", "read", "--config", config)
    assert ran.code == 1
    assert "auth.tokens_file: not set" in ran.words


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "-o", "xml"],
        ["incidents"],
        ["incidents", "ack"],
        ["token", "create", "x"],
    ],
)
def test_a_wrong_command_line_is_exit_2_with_help_on_stderr(splitguard, arguments):
    ran = splitguard(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: splitguard" in ran.words


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["status", "-h"], ["snapshots", "open", "--help"], ["check", "-h"],
        ["--version"], ["grants"], ["config", "schema"], ["config", "example"],
    ],
)  # fmt: skip
def test_what_needs_nobody_works_anywhere(splitguard, arguments):
    ran = splitguard(*arguments)
    assert (ran.code, ran.words) == (0, "")
    assert ran.out


def test_help_fits_eighty_columns_and_is_never_coloured(splitguard):
    for group in ("", "status", "snapshots", "token"):
        out = splitguard(*group.split(), "--help").out
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out


@pytest.mark.parametrize(
    "group",
    [
        "", "incidents", "snapshots", "guard", "config", "token", "lab", "vnfm",
        "vnfm snapshots", "vnfm executions",
    ],
)  # fmt: skip
def test_no_command_is_listed_with_half_a_sentence(splitguard, group):
    listed = splitguard(*group.split(), "--help").out.partition("Commands:\n")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("listen", "other", "warned"),
    [
        ("127.0.0.1:8009", "https://10.0.0.2:8009", True),
        ("127.0.0.1:8009", "http://127.0.0.1:8010", False),
        ("10.0.0.1:8009", "https://10.0.0.2:8009", False),
    ],
)
def test_config_check_warns_of_a_listener_that_its_peers_cannot_reach(
    splitguard, tmp_path, listen, other, warned
):
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "c"\nnode = "a"\nlisten = "{listen}"\n'
        f'[tls]\ncert = "{secret}"\nkey = "{secret}"\n'
        f'[auth]\npeer_token_file = "{secret}"\ntokens_file = "{secret}"\n'
        '[[nodes]]\nname = "a"\nagent = "http://127.0.0.1:8009"\n'
        f'[[nodes]]\nname = "b"\nagent = "{other}"\n'
    )
    ran = splitguard("config", "check", "--config", config)
    assert ran.code == 0, ran.words
    words = "listen is 127.0.0.1:8009, which only this machine reaches"
    assert (words in ran.words) is warned
    assert ('listen = "0.0.0.0:8009"' in ran.words) is warned


def test_help_imports_neither_http_nor_database_nor_model(spawned):
    """A command that a monitoring system calls each minute must start fast."""
    heavy = {"httpx", "psycopg", "fastapi", "rich", "apscheduler", "agent.config"}
    ran = spawned("status", "--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in ran.words.splitlines()}
    assert "agent.cli.main" in imported
    assert not heavy & imported


def test_an_interrupted_command_is_exit_130(spawned, tmp_path):
    running = spawned.start("status", "-w", "--socket", tmp_path / "none")
    try:
        assert "waiting" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 130
        assert "Traceback" not in running.stderr.read()
    finally:
        running.kill()
        running.communicate()


def test_an_unforeseen_error_is_one_line_with_its_place():
    with pytest.raises(ValueError, match="int") as caught:
        int("x")
    text = bug_text(caught.value)
    assert "this is a bug: ValueError at test_cli_commands.py:" in text


def test_the_lab_says_what_to_install_where_its_parts_are_missing(
    splitguard, monkeypatch
):
    monkeypatch.setitem(sys.modules, "agent.cli.lab", None)
    ran = splitguard("lab", "up", "--pg", "18")
    assert ran.code == 1
    assert "agent.cli.lab, which is not installed" in ran.words
    assert "splitguard[lab]" in ran.words


def test_a_snapshot_is_pinned_and_removed_through_the_agent(splitguard, agent_for):
    agent = agent_for(healthy())
    agent.served.shelf.add(card("n1-abc", incident_ids=()), {"a": b"1"})
    ask = ("n1-abc", "--socket", agent.socket)
    assert splitguard("snapshots", "pin", *ask, "--reason", "an audit").code == 0
    listed = splitguard("snapshots", "list", "--socket", agent.socket)
    assert listed.out.splitlines()[1].split()[-2:] == ["yes", "-"]
    refused = splitguard("snapshots", "delete", *ask)
    assert refused.code == 1
    assert "is still needed: it is pinned by" in refused.words
    assert "an audit" in refused.words
    assert splitguard("snapshots", "delete", *ask, "--force").code == 2
    assert splitguard("snapshots", "unpin", *ask).code == 0
    gone = splitguard("snapshots", "delete", *ask, "--reason", "old")
    assert (gone.code, gone.out) == (0, "n1-abc is removed\n")
    assert agent.served.shelf.removed[0][0] == "n1-abc"


def test_without_an_agent_an_incident_s_snapshot_is_removed_by_force_only(
    splitguard, tmp_path
):
    make_snapshot(tmp_path)
    ask = ("n1-1", "--dir", tmp_path)
    refused = splitguard("snapshots", "delete", *ask)
    assert refused.code == 1
    assert "nobody here can say whether incident" in refused.words
    assert splitguard("snapshots", "pin", *ask, "--reason", "an audit").code == 0
    shown = splitguard("snapshots", "show", *ask, "-o", "json")
    assert json.loads(shown.out)["kept"]["reason"] == "an audit"
    forced = splitguard("snapshots", "delete", *ask, "--force", "--reason", "a drill")
    assert forced.code == 0
    assert forced.words.count("overruled") == 2
    assert not (tmp_path / "n1-1").exists()
