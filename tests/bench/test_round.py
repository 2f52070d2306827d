"""What one probe round costs the PostgreSQL server that is asked.

Measured at the server: the processor time of all its backends that served the probe,
connecting anew every tenth round included, as the kernel counts it.
"""

import asyncio
import time
from pathlib import Path

import pytest

from agent.core.observation import Channel, Outcome
from agent.daemon.clock import SystemClock
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.bench.benchlab import cpu_s
from tests.bench.table import Table
from tests.fix_postgres import VERSIONS, Server, eventually, stage_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 1000
WARM_ROUNDS = 20
GOAL_MS = 1.0
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'splitguard_probe'"
)


async def ask(dsn: str, rounds: int) -> None:
    """Ask so often, as an agent does, and let go of the connection."""
    http = HttpClient()
    target = {"n1": Target("n1", postgres_dsn=dsn)}
    probes = NetworkProber(target, ProbeSettings("bench", "me"), SystemClock(), http)
    for _ in range(rounds):
        seen = await probes.probe("n1", Channel.POSTGRES)
        assert seen.outcome is Outcome.ANSWERED, seen.reason
    await probes.close()
    await http.close()


def cost_ms(server: Server, dsn: str) -> float:
    """Return the processor time of one round, in ms.

    A backend's time counts for the postmaster once it has ended.
    """
    assert server.process is not None
    asyncio.run(ask(dsn, WARM_ROUNDS))
    before = spent_s(server)
    began = time.monotonic()
    asyncio.run(ask(dsn, ROUNDS))
    assert time.monotonic() - began < 60
    return 1000 * (spent_s(server) - before) / ROUNDS


def spent_s(server: Server) -> float:
    assert server.process is not None
    eventually("the probe's sessions end", lambda: server.value(SESSIONS) == 0)
    return cpu_s(server.process.pid)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_round_at_a_primary_and_at_a_standby(
    found: Table, version: str, postgres_home: Path
):
    with stage_of(version, postgres_home) as stage:
        primary, standby = stage.pair()
        primary.query("CREATE ROLE splitguard_probe LOGIN IN ROLE pg_monitor")
        standby.caught_up(primary)
        for server, role in ((primary, "primary"), (standby, "standby")):
            dsn = server.dsn.replace("user=postgres", "user=splitguard_probe")
            what = f"one round at a {role} of {version}: its processor time"
            found.add(what, cost_ms(server, dsn), "ms", GOAL_MS)
