"""Losers brought back by `splitguard resync`, with real servers and a real agent."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.resync_job import line_of
from agent.core.observation import ServerFacts
from agent.guard import resync_alone
from agent.postgres import postmaster
from agent.postgres.owner import unprivileged
from agent.postgres.reader import DiskReader
from tests.fix_guard import Agent, Running
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres

Beside = Callable[..., Agent]
WINNER_IS_N2 = ["n2"]


@pytest.fixture
def end_servers() -> Iterator[list[Server]]:
    """Servers that the command starts are nobody's children: end them by their pid."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        end(server)
        server._ended()


def end(server: Server) -> None:
    found = postmaster.running(server.data_dir)
    if found is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT)
        eventually("it ends", lambda: not postmaster.running(server.data_dir))


@pytest.fixture
def beside(agent_beside, end_servers) -> Beside:
    """An agent beside the loser, which is n1, and the winner n2."""

    def made(
        loser: Server,
        winner: Server,
        extra: str = "",
        line_is: list[str] | None = WINNER_IS_N2,
    ) -> Agent:
        end_servers.append(loser)
        agent: Agent = agent_beside(loser, winner)
        if extra:
            agent.stop()
            agent.config.write_text(agent.config.read_text() + extra)
            agent.start()
        if line_is is not None:
            eventually("the winner is known", lambda: line(agent) == line_is, 30)
        return agent

    return made


def line(agent: Agent) -> Any:
    found = agent.get("/v1/status")
    return found and list(line_of(found))


def resync(agent: Agent, *words: str) -> str:
    """Run it to its end; return what it said."""
    ran = agent.run("resync", "n1", *words)
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def refused(agent: Agent, *words: str) -> str:
    ran = agent.run("resync", "n1", *words)
    assert ran.returncode == 1, ran.stdout
    return ran.stdout


def planned(agent: Agent, *words: str) -> Any:
    """What a dry run says, as data."""
    ran = agent.run("resync", "n1", "--dry-run", "--output", "json", *words)
    return json.loads(ran.stdout)


def follows(loser: Server, winner: Server) -> None:
    """See that the loser is a standby with the winner's rows, old and new."""
    winner.write(3, "after")
    loser.caught_up(winner)
    assert loser.value("SELECT pg_is_in_recovery()")
    query = "SELECT id, mark FROM kept ORDER BY id, mark"
    assert loser.query(query) == winner.query(query)
    assert loser.value("SHOW port") == str(loser.port)


def asides(server: Server) -> list[Path]:
    return sorted(server.data_dir.parent.glob("*.splitguard-aside-*"))


def kept(agent: Agent) -> Any:
    """The snapshot of the permit that was used."""
    [permit] = [one for one in agent.permits() if one["capture"]]
    return agent.get(f"/v1/snapshots/{permit['capture']}")


@pytest.mark.fact("rewind-overwrites-settings")
def test_a_clean_loser_is_kept_and_rewound(stage: Stage, beside: Beside):
    old, new = stage.split()
    agent = beside(old, new)
    new.query("CHECKPOINT")
    said = resync(agent)
    assert "rewind: they parted on timeline 1" in said
    assert "granted: snapshot" in said
    assert not asides(old)
    follows(old, new)
    assert kept(agent)["grade"] in ("complete", "opened")
    assert "nothing to do" in resync(agent)


@pytest.mark.fact("stopped-cleanly", "P14")
def test_a_crashed_loser_is_recovered_in_isolation_and_rewound(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    mark = stage16.folder / "archived"
    old.configure(archive_mode="on", archive_command=f"touch {mark}; false")
    agent = beside(old, new)
    new.query("CHECKPOINT")
    old.crash()
    said = resync(agent)
    assert "its recovery runs in isolation" in said
    assert "rewinding from n2" in said, said
    assert kept(agent)["end_lsn"]
    assert not mark.exists()
    follows(old, new)


@pytest.mark.fact("stopped-cleanly", "P16")
def test_a_crashed_standby_of_the_losing_side_comes_back_too(
    stage: Stage, beside: Beside
):
    """The third node went on receiving from the loser (P16)."""
    old = stage.primary()
    new, third = stage.standby(old), stage.standby(old, "n3")
    old.write(20, "common")
    for each in (new, third):
        each.caught_up(old)
    new.promote()
    old.write(20, "old")
    new.write(20, "new")
    third.caught_up(old)
    agent = beside(third, new)
    third.crash()
    said = resync(agent)
    assert "its recovery runs in isolation" in said
    follows(third, new)


@pytest.mark.fact("P15")
def test_twins_of_one_switch_are_cloned_and_no_row_stays(stage: Stage, beside: Beside):
    """Both were promoted at one LSN: pg_rewind sees nothing to do (P15)."""
    base = stage.primary("n0")
    old, new = stage.standby(base), stage.standby(base, "n3")
    base.write(20, "common")
    for each in (old, new):
        each.caught_up(base)
    base.stop()
    for each, mark in ((old, "AAA"), (new, "BBB")):
        each.promote()
        each.write(20, mark)
    agent = beside(old, new, line_is=None)
    new.query("CHECKPOINT")
    said = refused(agent)
    assert "whose writes are kept" in said or "nobody can tell" in said
    said = resync(agent, "--source", "n2", "--force", "--reason", "n2 has the users")
    assert "stands for two histories" in said
    [aside] = asides(old)
    follows(old, new)
    assert not old.value("SELECT count(*) FROM kept WHERE mark = 'AAA'")
    assert (aside / "global/pg_control").exists()
    assert any("n2 has the users" in one["purpose"] for one in agent.permits())


def recycle(server: Server) -> None:
    """Let the server give up the WAL of the fork."""
    server.configure(wal_keep_size="0")
    server.query("SELECT pg_reload_conf()")
    for _ in range(3):
        server.write(1, "more")
        server.query("SELECT pg_switch_wal()")
        server.query("CHECKPOINT")


@pytest.mark.fact("P14")
def test_a_loser_whose_wal_is_gone_is_cloned(stage16: Stage, beside: Beside):
    old, new = stage16.split()
    recycle(old)
    agent = beside(old, new)
    said = resync(agent)
    assert "does not reach back to the fork" in said
    assert len(asides(old)) == 1
    follows(old, new)


@pytest.mark.fact("P14")
def test_a_loser_that_records_no_page_changes_is_cloned_with_its_pg_wal_elsewhere(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    old.stop()
    old.configure(wal_log_hints="off")
    wal = old.data_dir.parent / "wal"
    (old.data_dir / "pg_wal").rename(wal)
    (old.data_dir / "pg_wal").symlink_to(wal)
    old.start()
    agent = beside(old, new)
    shown = planned(agent)
    assert shown["method"] == "clone"
    assert "neither wal_log_hints" in shown["reasons"][1]
    assert "cannot be rewound" in refused(agent, "--method", "rewind")
    assert old.answers()
    resync(agent)
    follows(old, new)
    assert (old.data_dir / "pg_wal").resolve() == wal
    [aside] = [path for path in asides(old) if path.name.startswith("data")]
    assert (aside / "pg_wal").resolve().name.startswith("wal.splitguard-aside-")
    found = DiskReader(aside, old.programs.bin_dir).read()
    assert isinstance(found, ServerFacts)
    assert found.end_lsn


@pytest.mark.fact("no-rewind-required", "control-lags")
def test_a_source_that_was_promoted_just_now_is_waited_for(
    stage15: Stage, beside: Beside
):
    """Its pg_control is late: pg_rewind of 15 would see nothing to do."""
    old, new = stage15.pair()
    old.write(50, "common")
    new.caught_up(old)
    checkpointer = int(
        new.value(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        )
    )
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        new.promote()
        old.write(50, "old")
        new.write(50, "new")
        agent = beside(old, new)
        assert not planned(agent)["source_ready"]
        with running(agent, "resync", "n1") as started:
            started.says("waiting for its checkpoint")
            os.kill(checkpointer, signal.SIGCONT)
            assert started.ends(60) == 0, started.said
    finally:
        os.kill(checkpointer, signal.SIGCONT)
    assert "rewinding from n2" in started.said
    follows(old, new)


@contextlib.contextmanager
def running(agent: Agent, *words: str) -> Iterator[Running]:
    log = agent.home / "said"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [agent.command, *words, "--config", agent.config],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
            env={"PATH": os.environ["PATH"]}, **unprivileged().identity(),
        )  # fmt: skip
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait(10)


def test_software_that_manages_the_server_is_left_to_it(stage16: Stage, beside: Beside):
    old, new = stage16.split()
    agent = beside(old, new)
    program = agent.home / "patroni"
    program.write_text("#!/bin/sh\nread -r forever\n")
    program.chmod(0o755)
    for managed, refuses in ((old.data_dir, True), (new.data_dir, False)):
        config = agent.home / "patroni.yml"
        config.write_text(f"postgresql:\n  data_dir: {managed}\n")
        with subprocess.Popen([program, config], stdin=subprocess.PIPE) as process:
            said = agent.run("resync", "n1", "--dry-run").stdout
            process.terminate()
        assert ("Patroni (process " in said) is refuses, said
        if refuses:
            assert "patronictl reinit" in said
    (old.data_dir / "patroni.dynamic.json").write_text("{}")
    assert "is configured for this server" in refused(agent)
    assert old.answers()
    assert not agent.permits()


def test_the_side_that_would_be_kept_is_not_resynced(stage16: Stage, beside: Beside):
    old, new = stage16.split()
    agent = beside(new, old, line_is=["n1"])
    said = refused(agent, "--source", "n2")
    assert "n1 is the node whose writes are kept" in said
    assert "00000002.history" in said
    assert new.answers()
    assert not agent.permits()


@pytest.mark.fact("older-timeline-wins")
def test_a_winner_on_the_older_timeline_is_followed_when_a_person_insists(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    agent = beside(new, old, line_is=["n1"])
    resync(agent, "--source", "n2", "--force", "--reason", "the minority has it")
    follows(new, old)


def content(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_a_dry_run_touches_nothing(stage16: Stage, beside: Beside):
    old, new = stage16.split()
    agent = beside(old, new)
    running_plan = planned(agent)
    assert running_plan["running"]
    assert old.answers()
    old.stop()
    eventually("the agent sees it", lambda: line(agent) == ["n2"])
    before = content(old.data_dir)
    shown = planned(agent)
    assert content(old.data_dir) == before
    assert not agent.permits()
    assert not (agent.home / "state/resync").exists()
    assert shown["method"] == running_plan["method"] == "rewind"
    said = agent.run("resync", "n1", "--dry-run").stdout
    assert "rewind from n2, because they parted on timeline 1" in said


def replaced(agent: Agent, program: str, body: str) -> None:
    """Put a script in the place of one of PostgreSQL's programs."""
    real = agent.server.programs.bin_dir
    folder = agent.home / "bin"
    folder.mkdir(exist_ok=True)
    for each in real.iterdir():
        if not (folder / each.name).exists():
            (folder / each.name).symlink_to(each)
    (folder / program).unlink()
    (folder / program).write_text(f"#!/bin/sh\nreal={real}/{program}\n{body}")
    (folder / program).chmod(0o755)
    text = agent.config.read_text()
    agent.config.write_text(text.replace(str(real), str(folder)))


def restored(agent: Agent, program: str) -> None:
    place = agent.home / "bin" / program
    place.unlink()
    place.symlink_to(agent.server.programs.bin_dir / program)


def test_a_rewind_that_was_killed_is_taken_up_as_a_clone(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    agent = beside(old, new)
    replaced(
        agent,
        "pg_rewind",
        'case "$*" in *--dry-run*) exec "$real" "$@" ;; esac\n'
        f"rm {old.data_dir}/PG_VERSION\nkill -9 $PPID\n",
    )
    assert agent.run("resync", "n1").returncode == -signal.SIGKILL
    restored(agent, "pg_rewind")
    assert planned(agent)["interrupted"] == "rewinding"
    said = resync(agent)
    assert "asking the agent" not in said
    assert len(asides(old)) == 1
    follows(old, new)
    assert kept(agent)["grade"] in ("complete", "opened")


def test_a_clone_that_was_killed_or_failed_leaves_the_old_data(
    stage15: Stage, beside: Beside
):
    """Taken up without `bin_dir`: only the old data tells the version then."""
    old, new = stage15.split()
    rows = old.rows()
    agent = beside(old, new)
    replaced(agent, "pg_basebackup", "echo 'no such role' >&2\nexit 1\n")
    assert "no such role" in refused(agent, "--method", "clone")
    assert not asides(old)
    old._ended()
    old.start()
    assert old.rows() == rows
    (agent.home / "bin/pg_basebackup").write_text(
        f"#!/bin/sh\nrmdir {old.data_dir}\nkill -9 $PPID\n"
    )
    killed = agent.run("resync", "n1", "--method", "clone")
    assert killed.returncode == -signal.SIGKILL
    old._ended()
    assert len(asides(old)) == 1
    assert not old.data_dir.exists()
    text = agent.config.read_text()
    agent.config.write_text(re.sub(r"(?m)^bin_dir = .*\n", "", text))
    assert planned(agent)["interrupted"] == "cloning"
    said = resync(agent)
    assert "undoing that" in said
    assert not asides(old)
    follows(old, new)


def test_a_finished_rewind_that_was_not_started_is_only_started(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    agent = beside(old, new, '[resync]\nstart_command = "false"\n')
    assert "resync.start_command failed" in refused(agent)
    log = agent.home / "server.log"
    start = f"{old.programs.path('pg_ctl')} -D {old.data_dir} -W -l {log} start"
    text = agent.config.read_text()
    agent.config.write_text(text.replace('"false"', f'"{start}"'))
    assert planned(agent)["method"] == "finish"
    resync(agent)
    follows(old, new)


def test_a_finished_rewind_that_somebody_has_started_is_decided_anew(
    stage16: Stage, beside: Beside
):
    """What it wrote since by itself is kept: the old permit does not cover that."""
    old, new = stage16.split()
    agent = beside(old, new, '[resync]\nstart_command = "false"\n')
    assert "resync.start_command failed" in refused(agent)
    assert planned(agent)["interrupted"] == "rewound"
    old._ended()
    old.start()
    old.stop()
    assert planned(agent)["interrupted"] == "none"


def test_a_lost_terminal_puts_the_old_data_back_and_nobody_works_beside_a_clone(
    stage16: Stage, beside: Beside
):
    old, new = stage16.split()
    agent = beside(old, new)
    replaced(
        agent,
        "pg_basebackup",
        f"mkdir {old.data_dir}/base\nmkfifo {agent.home}/never$$\n"
        f"touch {agent.home}/copying\n"
        f"read -r forever <{agent.home}/never$$\n",
    )
    mark = agent.home / "copying"
    for number in (signal.SIGHUP, signal.SIGKILL):
        with running(agent, "resync", "n1", "--method", "clone") as started:
            eventually("it copies", mark.exists, 60)
            assert "another `splitguard resync` is at work" in refused(agent)
            os.kill(started.process.pid, number)
            started.ends(60)
        mark.unlink()
        assert bool(asides(old)) is (number == signal.SIGKILL), started.said
    assert "still copies into" in refused(agent)
    [left] = resync_alone.copiers(old.data_dir)
    os.kill(left, signal.SIGKILL)
    eventually("it ends", lambda: not resync_alone.copiers(old.data_dir))
    restored(agent, "pg_basebackup")
    old._ended()
    assert "undoing that" in resync(agent)
    follows(old, new)


def test_root_leaves_everything_to_the_owner(stage16: Stage, beside: Beside):
    old, new = stage16.split()
    agent = beside(old, new)
    ran = subprocess.run(
        [agent.command, "resync", "n1", "--method", "clone", "--config", agent.config],
        cwd="/", check=False, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    follows(old, new)
    owner = unprivileged().uid
    places = (old.data_dir, agent.home / "state", *asides(old))
    found = [each for place in places for each in place.rglob("*")]
    assert not [each for each in found if each.lstat().st_uid != owner]


def test_a_standby_that_does_not_answer_holds_up_no_stop(
    stage16: Stage, beside: Beside
):
    """A fast stop would wait for it until wal_sender_timeout, a minute."""
    old, new = stage16.split()
    third = stage16.standby(old, "n3")
    receiver = int(third.value("SELECT pid FROM pg_stat_wal_receiver"))
    os.kill(receiver, signal.SIGSTOP)
    try:
        old.write(10, "unseen")
        agent = beside(old, new)
        said = resync(agent)
    finally:
        os.kill(receiver, signal.SIGCONT)
    assert "their links are cut" in said
    follows(old, new)


@pytest.mark.fact("P11")
def test_one_timeline_number_taken_at_two_places_is_cloned(
    stage16: Stage, beside: Beside
):
    base = stage16.primary("n0")
    old, new = stage16.standby(base), stage16.standby(base, "n3")
    base.write(20, "common")
    old.caught_up(base)
    old.promote()
    base.write(20, "more")
    new.caught_up(base)
    base.stop()
    new.promote()
    for each, mark in ((old, "old"), (new, "new")):
        each.write(20, mark)
    agent = beside(old, new, line_is=None)
    new.query("CHECKPOINT")
    said = resync(agent, "--source", "n2", "--force", "--reason", "n2 has more")
    assert "stands for two histories" in said
    assert len(asides(old)) == 1
    follows(old, new)
