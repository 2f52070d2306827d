"""Losers brought back by `splitguard resync`, with real servers and a real agent."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.resync_job import line_of
from agent.postgres import postmaster
from agent.postgres.reader import DiskReader
from tests.fix_guard import Agent
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres

Beside = Callable[..., Agent]


@pytest.fixture
def end_servers() -> Iterator[list[Server]]:
    """Servers that the command starts are nobody's children: end them by their pid."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        found = postmaster.running(server.data_dir)
        if found is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGQUIT)
            eventually("it ends", lambda: not postmaster.running(server.data_dir))


@pytest.fixture
def beside(agent_beside, end_servers) -> Beside:
    """An agent beside the loser, which is n1, and the winner n2."""

    def made(loser: Server, winner: Server, extra: str = "") -> Agent:
        end_servers.append(loser)
        agent: Agent = agent_beside(loser, winner)
        if extra:
            agent.stop()
            agent.config.write_text(agent.config.read_text() + extra)
            agent.start()
        eventually("the agent names the winner", lambda: line(agent) == ["n2"], 30)
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
