"""The shim in front of the real pg_rewind, with real servers and a real agent."""

import pytest

from tests.fix_guard import SHELLS, Agent, Gate
from tests.fix_postgres import Server, Stage

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
