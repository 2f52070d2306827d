"""`splitguard recover` as a command: dry runs, bad input, and how a run goes on."""

import contextlib
import json
import os
import pty
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import SPLITGUARD, Command
from tests.fix_desk import healthy, split_brain

NODE = """
[[nodes]]
name = "n{0}"
agent = "http://127.0.0.{0}:9"
postgres = "host=10.0.0.{0} dbname=postgres user=splitguard_probe"
manager = "http://127.0.0.{0}:10"
"""
Recover = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("s3cret")
    (tmp_path / "password").chmod(0o600)
    write_config(tmp_path)
    return tmp_path


def write_config(home: Path, *, me: str = "n1", login: bool = True) -> None:
    """Managers and agents at a port where nobody listens."""
    vnfm = f'\n[vnfm]\npassword_file = "{home}/password"\n' if login else ""
    text = (
        f'cluster = "lab"\nnode = "{me}"\nstate_dir = "{home}/state"\n'
        f'socket = "{home}/none.sock"\n' + "".join(NODE.format(n) for n in (1, 2, 3))
    )
    (home / "agent.toml").write_text(text + vnfm)


@pytest.fixture
def recover(splitguard: Callable[..., Any], home: Path) -> Recover:
    def run(*words: object) -> Any:
        return splitguard("recover", *words, "--config", home / "agent.toml")

    return run


def test_who_does_not_answer_is_of_no_generation_until_somebody_says_it(
    recover: Recover, home: Path
) -> None:
    ran = recover("whole-cluster", "--dry-run", "--to", home / "safe")
    assert ran.code == 1
    assert (
        "no manager answers, so nobody says of which generation they are" in ran.words
    )
    assert "--generation 4" in ran.words


@pytest.mark.parametrize("scenario", ["whole-cluster", "node-down", "active-down"])
def test_a_dry_run_tells_the_commands_of_5_and_later_and_changes_nothing(
    recover: Recover, home: Path, scenario: str
) -> None:
    before = sorted(home.rglob("*"))
    ran = recover(
        scenario, "--dry-run", "--to", home / "safe", "--generation", "5", "-o", "json"
    )
    assert ran.code == 0, ran.words
    assert sorted(home.rglob("*")) == before
    assert "    $ cfy_manager remove\n" in ran.words
    assert "    $ cfy_manager install\n" in ran.words
    assert "cfy cluster join" not in ran.words
    assert "{" not in ran.words
    assert "a dry run: nothing was done" in ran.words
    told = json.loads(ran.out)
    assert told["dry_run"]
    assert told["journal"] is None
    if scenario == "whole-cluster":
        assert "Set the managers into maintenance mode" in ran.words
    else:
        assert "    $ cfy cluster remove MEMBER\n" in ran.words


def test_a_dry_run_tells_the_commands_of_4(recover: Recover, home: Path) -> None:
    ran = recover("whole-cluster", "--dry-run", "--to", home, "--generation", "4")
    assert ran.code == 0, ran.words
    for line in (
        "    $ cfy_manager remove -f\n",
        "    $ cfy cluster start --cluster-node-name n1\n",
        (
            "    $ cfy cluster join --cluster-host-ip 127.0.0.3"
            " --cluster-node-name n3 127.0.0.1\n"
        ),
    ):
        assert line in ran.words
    assert "maintenance mode" not in ran.words


def test_a_split_is_told_by_its_sides_and_no_manager_is_asked(
    splitguard: Callable[..., Any], agent_for: Callable[..., Any], home: Path
) -> None:
    agent = agent_for(split_brain())
    ran = splitguard(
        "recover", "split-brain", "--dry-run", "--generation", "5",
        "--config", home / "agent.toml", "--socket", agent.socket,
    )  # fmt: skip
    assert ran.code == 0, ran.words
    assert "takes writes" in ran.words or "accepted writes" in ran.words
    assert "kept in the end: " in ran.words
    assert "stop Patroni on " in ran.words
    assert "    $ splitguard resync " in ran.words


def test_a_healthy_cluster_has_no_split_to_recover_from(
    splitguard: Callable[..., Any], agent_for: Callable[..., Any], home: Path
) -> None:
    agent = agent_for(healthy())
    ran = splitguard(
        "recover", "split-brain", "--yes", "--generation", "4",
        "--config", home / "agent.toml", "--socket", agent.socket,
    )  # fmt: skip
    assert ran.code == 1
    assert "no split is seen: `splitguard incidents list -a`" in ran.words
    assert "stopped at sides: nothing was begun" in ran.words
    assert "the same command goes on" not in ran.words
    [journal] = (home / "state" / "recovery").glob("*.jsonl")
    assert '"ended"' in journal.read_text().splitlines()[-1]


def test_what_would_be_torn_down_is_no_safe_place(recover: Recover) -> None:
    ran = recover("whole-cluster", "--dry-run", "--generation", "4")
    assert ran.code == 1
    assert "this machine is n1, whose manager is torn down on the way" in ran.words
    assert "--to FOLDER" in ran.words


def test_without_a_login_nothing_begins(recover: Recover, home: Path) -> None:
    write_config(home, login=False)
    ran = recover("node-down", "--dry-run")
    assert ran.code == 1
    assert "the managers' login is not configured" in ran.words
    assert "[vnfm]" in ran.words


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("split-brain", "--winner", "n1"), 2, "--winner and --reason go together"),
        (("split-brain", "--reason", "x"), 2, "--winner and --reason go together"),
        (("node-down", "--node", "n9"), 1, "--node n9: there is no such node"),
        (("node-down", "--lost", "n9"), 1, "--lost n9: there is no such node"),
        (
            ("whole-cluster", "--manager", "n9", "--to", "/tmp", "--generation", "4"),
            1,
            "--manager n9: no node of that name has a manager",
        ),
        (("volcano",), 2, "volcano"),
    ],
)
def test_a_wrong_word_is_named(
    recover: Recover, words: tuple[str, ...], code: int, told: str
) -> None:
    ran = recover(*words, "--dry-run")
    assert ran.code == code
    assert told in ran.words


def test_a_run_that_may_ask_nobody_stops_before_its_first_change_and_goes_on(
    recover: Recover, home: Path
) -> None:
    certificates = home / "ssl"
    certificates.mkdir()
    (certificates / "ca.pem").write_text("ca")
    with (home / "agent.toml").open("a") as file:
        file.write(f'certificates = ["{certificates}"]\n')
    words = ("whole-cluster", "--to", home / "safe", "--generation", "4")
    ran = recover(*words)
    assert ran.code == 1
    assert "step save-certificates changes something" in ran.words
    assert "--yes" in ran.words
    assert list((home / "safe").iterdir()) == []
    [journal] = (home / "state" / "recovery").glob("*.jsonl")
    assert journal.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in journal.read_text()

    # Neither --to nor --generation is needed again.
    again = recover("whole-cluster", "--journal", journal)
    assert "going on with the run of" in again.words
    assert "[1/" not in again.words, "what was seen is not looked at again"
    assert "step save-certificates" in again.words

    other = recover("node-down", "--journal", journal, "--yes")
    assert other.code == 1
    assert f"{journal} is of whole-cluster, not of node-down" in other.words


def test_a_journal_that_cannot_be_written_stops_the_run_before_it_begins(
    recover: Recover, home: Path
) -> None:
    place = home / "password" / "journal"
    words = ("node-down", "--yes", "--generation", "4")
    ran = recover(*words, "--journal", place)
    assert ran.code == 1
    assert f"the journal {place}" in ran.words
    (home / "notes").write_text("my notes\n")
    ran = recover(*words, "--journal", home / "notes")
    assert ran.code == 1
    assert "is no journal of a recovery" in ran.words
    assert (home / "notes").read_text() == "my notes\n"


def test_steps_come_as_lines_for_programs(recover: Recover, home: Path) -> None:
    ran = recover("node-down", "--yes", "--generation", "4", "-o", "jsonl")
    assert ran.code == 1
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [(one["step"], one["state"]) for one in lines[:-1]] == [
        ("look", "begun"), ("look", "done"), ("which", "begun"), ("which", "failed"),
    ]  # fmt: skip
    assert lines[-1]["stopped_at"] == "which"
    assert lines[-1]["ok"] is False


def test_an_interrupted_run_says_where_it_was_and_that_it_goes_on(
    spawned: Command, home: Path
) -> None:
    process = spawned.start(
        "recover", "active-down", "--node", "n1", "--yes", "--generation", "4",
        "--config", home / "agent.toml",
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if "waiting, at most" in line:
                break
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=30)[1])
    finally:
        process.kill()
        process.wait()
    told = "".join(said)
    assert process.returncode == 130, told
    assert "interrupted at step 3 of 16: the same command goes on there" in told
    assert "Traceback" not in told


def test_a_question_that_is_interrupted_ends_the_run_at_once(home: Path) -> None:
    (home / "ssl").mkdir()
    (home / "ssl" / "ca.pem").write_text("ca")
    with (home / "agent.toml").open("a") as file:
        file.write(f'certificates = ["{home}/ssl"]\n')
    words = [
        str(SPLITGUARD), "recover", "whole-cluster", "--generation", "4",
        "--to", str(home / "safe"), "--config", str(home / "agent.toml"),
    ]  # fmt: skip
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    said, asked = b"", False
    with contextlib.suppress(OSError):  # the terminal is gone when the program is
        while select.select([terminal], [], [], 30)[0]:
            said += os.read(terminal, 4096)
            if b"do it?" in said and not asked:
                asked = bool(os.write(terminal, b"\x03"))
    os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130, said
    assert b"interrupted at step 3 of 18: the same command goes on there" in said


def test_each_machines_folders_may_differ_and_that_is_said(
    recover: Recover, home: Path
) -> None:
    ran = recover("whole-cluster", "--dry-run", "--to", home, "--generation", "4")
    told = " ".join(ran.words.split())
    assert "are those of n1's configuration; where [vnfm] certificates there" in told
    # A long path is broken where the line ends.
    assert f"Unpack{home}/n3-certificates.tarthere." in "".join(ran.words.split())
