"""The shim in front of the real pg_rewind, with real servers and a real agent."""

import subprocess

import pytest

from agent.core.observation import ServerFacts
from agent.postgres.owner import owner_of
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


def test_recovery_by_pg_rewind_itself_does_not_disturb_what_is_kept(
    stage: Stage, gate: Gate, agent_beside
):
    """It starts the crashed server alone for a moment, after the permit."""
    old, new = stage.split(rows=40)
    agent = agent_beside(old, new)
    eventually("the split is proven", lambda: "split-brain" in verdicts(agent))
    bin_dir = old.programs.bin_dir
    slow = gate.program(
        "pg_rewind",
        f"#!/bin/sh\nsleep 3 | {bin_dir}/postgres --single -D {old.data_dir} template1\n"
        f'exec {bin_dir}/pg_rewind "$@"\n',
    )
    shim = gate.shim(real=slow, splitguard=agent.command, socket=agent.socket)
    old.crash()
    new.query("CHECKPOINT")
    ran = rewind(gate, shim, old.data_dir, new)
    assert ran.ends(60) == 0, ran.said
    assert "PostgreSQL stand-alone backend" in ran.said
    [permit] = agent.permits()
    [kept] = agent.get("/v1/snapshots")["snapshots"]
    assert (kept["id"], kept["closed"]) == (permit["capture"], True)
    assert kept["end_lsn"] == permit["final_lsn"]
    checked = agent.run("snapshots", "verify", kept["id"])
    assert checked.returncode == 0, checked.stdout


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
        facts = eventually("it runs", lambda: running_facts(reader))
        assert facts.single_user
    finally:
        alone.communicate(timeout=20)
    stopped = reader.read()
    assert isinstance(stopped, ServerFacts)
    assert not stopped.running
    assert not stopped.single_user


def running_facts(reader: DiskReader) -> ServerFacts | None:
    facts = reader.read()
    return facts if isinstance(facts, ServerFacts) and facts.running else None
