"""The shim in front of the real pg_rewind, with real servers and a real agent."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.core.observation import ServerFacts
from agent.postgres.owner import give, owner_of
from agent.postgres.reader import DiskReader
from tests.fix_guard import SHELLS, Agent, Gate
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres


def shim_for(gate: Gate, agent: Agent, server: Server):
    return gate.shim(
        real=server.programs.path("pg_rewind"),
        controldata=server.programs.path("pg_controldata"),
        splitguard=agent.command,
        socket=agent.socket,
    )


def rewind(gate: Gate, shim, target, source: Server, shell="sh"):
    return gate.start(
        [*SHELLS[shell], shim, "-D", target, "--source-server", source.dsn]
    )


@pytest.mark.fact("P4")
@pytest.mark.parametrize("shell", SHELLS)
def test_a_loser_is_rewound_once_its_copy_is_complete(
    stage16: Stage, gate: Gate, agent_beside, shell
):
    old, new = stage16.split()
    agent = agent_beside(old)
    shim = shim_for(gate, agent, old)
    old.stop()
    new.query("CHECKPOINT")
    ran = rewind(gate, shim, old.data_dir, new, shell)
    assert ran.ends(60) == 0, ran.said
    assert "granted: snapshot" in ran.said
    assert "Done!" in ran.said
    [permit] = agent.permits()
    assert permit["state"] == "granted"
    kept = agent.get(f"/v1/snapshots/{permit['capture']}")
    assert kept["grade"] in ("complete", "opened")
    assert not gate.rescued


def verdicts(agent: Agent) -> set[str]:
    status = agent.get("/v1/status")
    return {one["verdict"] for one in status["verdicts"]} if status else set()


def snapshots(agent: Agent) -> dict[str, Any]:
    """What the agent keeps, by id."""
    return {one["id"]: one for one in agent.get("/v1/snapshots")["snapshots"]}


def test_recovery_by_pg_rewind_itself_does_not_disturb_what_is_kept(
    stage: Stage, gate: Gate, agent_beside
):
    """It starts the crashed server alone for a moment, after the permit."""
    old, new = stage.split(rows=40)
    agent = agent_beside(old, new)
    eventually("the split is proven", lambda: "split-brain" in verdicts(agent))
    bin_dir = old.programs.bin_dir
    recovery = f"{bin_dir}/postgres --single -D {old.data_dir} template1"
    slow = gate.program(
        "pg_rewind",
        f'#!/bin/sh\nsleep 3 | {recovery}\nexec {bin_dir}/pg_rewind "$@"\n',
    )
    shim = gate.shim(real=slow, splitguard=agent.command, socket=agent.socket)
    old.crash()
    new.query("CHECKPOINT")
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("granted: snapshot", 60)
    before = snapshots(agent)
    assert ran.ends(60) == 0, ran.said
    assert "PostgreSQL stand-alone backend" in ran.said
    [permit] = agent.permits()
    assert snapshots(agent).keys() == before.keys()
    kept = snapshots(agent)[permit["capture"]]
    assert kept["closed"]
    assert kept["end_lsn"] == permit["final_lsn"]
    checked = agent.run("snapshots", "verify", kept["id"])
    assert checked.returncode == 0, checked.stdout


def test_a_source_that_is_a_standby_is_waited_for(
    stage16: Stage, gate: Gate, agent_beside
):
    """Somebody else has won since Patroni asked: that one is not copied."""
    old, new = stage16.split()
    agent = agent_beside(old, new)
    shim = shim_for(gate, agent, old)
    old.stop()
    new.stop()
    new.follow(old)
    new.start()
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("is a standby: waiting until it is the primary", 60)
    assert ran.waits
    new.promote()
    assert ran.ends(60) == 0, ran.said
    assert "Done!" in ran.said


@pytest.mark.fact("no-rewind-required")
def test_a_source_that_was_promoted_just_now_is_waited_for(
    stage15: Stage, gate: Gate, agent_beside
):
    """pg_rewind of 15 would say that no rewind is required."""
    old, new = stage15.pair()
    old.write(20, "common")
    new.caught_up(old)
    pid = new.value(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        new.promote()
        old.write(20, "old")
        agent = agent_beside(old, new)
        shim = shim_for(gate, agent, old)
        old.stop()
        ran = rewind(gate, shim, old.data_dir, new)
        ran.says("its control file still says timeline 1, it is on 2", 60)
        assert ran.waits
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ran.ends(60) == 0, ran.said
    assert "no rewind required" not in ran.said
    assert "Done!" in ran.said


@pytest.mark.fact("P14")
def test_without_an_agent_the_loser_is_kept_until_there_is_one(
    stage16: Stage, gate: Gate, agent_beside
):
    old, new = stage16.split()
    agent = agent_beside(old)
    agent.stop()
    shim = shim_for(gate, agent, old)
    old.stop()
    new.query("CHECKPOINT")
    before = content(old.data_dir)
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("are copied to")
    assert content(old.data_dir) == before
    [kept] = gate.rescued
    assert "shut down" in (kept / "CONTROLDATA").read_text()
    agent.start()
    assert ran.ends(60) == 0, ran.said
    assert "granted: snapshot" in ran.said


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_a_deleted_splitguard_wipes_and_rewinds_nothing(
    stage16: Stage, gate: Gate, agent_beside
):
    """The agent was removed with its virtual environment, the shim was forgotten."""
    old, new = stage16.split()
    agent = agent_beside(old)
    prefix = gate.folder / "opt"
    shutil.copytree(agent.prefix, prefix, symlinks=True)
    command = prefix / "bin/splitguard"
    command.write_text(command.read_text().replace(str(agent.prefix), str(prefix), 1))
    shim = gate.shim(
        real=old.programs.path("pg_rewind"), splitguard=command, socket=agent.socket
    )
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("still writable")
    shutil.rmtree(prefix)
    agent.stop(signal.SIGKILL)
    old.stop()
    ran.says("are copied to")
    assert ran.waits
    old.start()
    assert old.rows() == 100


def test_a_running_server_is_never_rewound(stage16: Stage, gate: Gate, agent_beside):
    old, new = stage16.split()
    agent = agent_beside(old)
    shim = shim_for(gate, agent, old)
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("still writable: stop PostgreSQL on n1 first")
    assert ran.waits
    ran.process.terminate()
    assert ran.ends(5) == 143
    told_to_go_on = gate.shim(
        real=old.programs.path("pg_rewind"),
        splitguard=gate.program("yes", "#!/bin/sh\nexit 93\n"),
    )
    again = rewind(gate, told_to_go_on, old.data_dir, new)
    again.says("a server runs on")
    assert again.waits
    assert old.rows() == 100


def test_another_servers_agent_gives_no_permit(
    stage16: Stage, gate: Gate, agent_beside
):
    old, new = stage16.split()
    agent = agent_beside(new)
    shim = shim_for(gate, agent, old)
    old.stop()
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says(f"This agent keeps {new.data_dir}, which is another folder")
    ran.says("are copied to")
    assert ran.waits


def test_a_person_lets_it_pass_without_a_copy(stage16: Stage, gate: Gate, agent_beside):
    old, new = stage16.split()
    agent = agent_beside(old)
    agent.stop()
    with agent.config.open("a") as file:
        file.write("[capture]\nenabled = false\n")
    agent.start()
    shim = shim_for(gate, agent, old)
    old.stop()
    new.query("CHECKPOINT")
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("captures are switched off")
    assert ran.waits
    released = agent.run("guard", "release", "n1", "--reason", "the data is worthless")
    assert released.returncode == 0, released.stdout
    assert ran.ends(60) == 0, ran.said
    assert "the data is worthless" in ran.said
    [permit] = agent.permits()
    assert permit["state"] == "released"


@pytest.mark.fact("P9")
def test_the_copy_goes_on_when_the_shim_is_killed(
    stage16: Stage, gate: Gate, agent_beside
):
    """Patroni's reinit --force ends it within ten seconds, and deletes the folder."""
    old, new = stage16.split()
    agent = agent_beside(old)
    shim = shim_for(gate, agent, old)
    old.stop()
    ran = rewind(gate, shim, old.data_dir, new)
    ran.says("pending")
    ran.process.kill()
    ran.ends(5)
    eventually(
        "the copy is complete",
        lambda: [p for p in agent.permits() if p["state"] == "granted"],
    )
    [kept] = agent.get("/v1/snapshots")["snapshots"]
    assert kept["grade"] == "complete"
    assert agent.run("snapshots", "verify", kept["id"]).returncode == 0


def test_links_and_spaces_in_paths_change_nothing(
    stage16: Stage, gate: Gate, agent_beside
):
    old, new = stage16.split()
    old.stop()
    real = gate.folder / "a place" / "it's data"
    real.parent.mkdir()
    shutil.move(old.data_dir, real)
    give(real.parent, owner_of(old.data_dir.parent))
    old.data_dir.symlink_to(real)
    agent = agent_beside(old)
    shim = shim_for(gate, agent, old)
    new.query("CHECKPOINT")
    link = gate.folder / "a link"
    link.symlink_to(real)
    ran = rewind(gate, shim, link, new)
    assert ran.ends(60) == 0, ran.said
    assert "Done!" in ran.said


@pytest.mark.fact("P18")
def test_a_server_in_single_user_mode_is_seen_as_one(stage16: Stage):
    server = stage16.primary()
    server.stop()
    with server.log.open("ab") as log:
        alone = subprocess.Popen(
            [server.programs.path("postgres"), "--single", "-D", server.data_dir,
             "template1"], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd="/",
            **owner_of(server.data_dir).identity(),
        )  # fmt: skip
    reader = DiskReader(server.data_dir, server.programs.bin_dir)
    try:
        # Between making the file and writing it, nobody can tell what runs.
        eventually("it says who it is", lambda: said_by(server.data_dir))
        facts = eventually("it runs", lambda: running_facts(reader))
        assert facts.single_user
    finally:
        alone.communicate(timeout=20)
    stopped = reader.read()
    assert isinstance(stopped, ServerFacts)
    assert not stopped.running
    assert not stopped.single_user


def said_by(data_dir: Path) -> str | None:
    found = data_dir / "postmaster.pid"
    return (found.read_text() or None) if found.exists() else None


def running_facts(reader: DiskReader) -> ServerFacts | None:
    facts = reader.read()
    return facts if isinstance(facts, ServerFacts) and facts.running else None
