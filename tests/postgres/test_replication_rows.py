"""Lag and shared archives on real servers, as agents with low limits judge them."""

import os
import signal
from dataclasses import replace

import pytest

from agent.core.verdict import Verdict
from tests.fix_looking import Lookout, lookout
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres
LIMIT = 64 << 10
HOLD_ROUNDS = 5
ROUNDS_MAX = 30
"""A machine under load loses a round here and there."""


async def begin(agents: Lookout) -> None:
    """Let agents start whose limits are small enough for a test."""
    await agents.begin()
    for looker in agents.lookers.values():
        looker.policy = replace(looker.policy, lag_limit_bytes=LIMIT, lag_hold_s=2.0)
    await agents.look(1)


def burst(server: Server) -> None:
    """Write much more WAL than the limit."""
    server.write(1)
    server.query(
        "INSERT INTO kept (mark) SELECT repeat(i::text, 100) FROM"
        " generate_series(1, 2000) AS i"
    )


def found(agents: Lookout, by: str, code: str) -> Verdict | None:
    """Return what an agent says of it now, if it has told people of it too."""
    looker = agents.lookers[by]
    if code not in looker.told:
        return None
    return next((one for one in looker.verdicts if one.code == code), None)


async def until_told(agents: Lookout, by: str, code: str) -> Verdict | None:
    """Look until an agent has told people of it; return what it says, None if never."""
    for _ in range(ROUNDS_MAX):
        await agents.look(1)
        if (verdict := found(agents, by, code)) is not None:
            return verdict
    return None


async def is_over(agents: Lookout, by: str, code: str) -> bool:
    """Look until an agent says it no more; return whether that lasts."""
    for _ in range(ROUNDS_MAX):
        await agents.look(1)
        if found(agents, by, code) is None:
            await agents.look(HOLD_ROUNDS)
            return found(agents, by, code) is None
    return False


async def test_a_standby_whose_replay_is_paused_lags_and_a_delayed_one_does_not(
    stage16: Stage,
):
    primary, standby = stage16.pair()
    async with lookout(primary, standby) as agents:
        await begin(agents)
        standby.query("SELECT pg_wal_replay_pause()")
        burst(primary)
        eventually("it has received all", lambda: standby.lsn >= primary.lsn)
        late = await until_told(agents, "n1", "standby-lagging")
        assert late is not None
        assert (late.rule, late.subject) == (809, "n2")
        assert late.evidence["replay_paused"] is True

        standby.query("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
        standby.query("SELECT pg_reload_conf()")
        standby.query("SELECT pg_wal_replay_resume()")
        assert await is_over(agents, "n1", "standby-lagging")

        standby.query("ALTER SYSTEM RESET recovery_min_apply_delay")
        standby.query("SELECT pg_reload_conf()")
        standby.caught_up(primary)


async def test_a_standby_whose_receiver_stands_still_lags(stage16: Stage):
    primary, standby = stage16.pair()
    standby.caught_up(primary)
    receiver = standby.value("SELECT pid FROM pg_stat_wal_receiver")
    async with lookout(primary, standby) as agents:
        await begin(agents)
        os.kill(receiver, signal.SIGSTOP)
        try:
            burst(primary)
            late = await until_told(agents, "n2", "standby-lagging")
        finally:
            os.kill(receiver, signal.SIGCONT)
        assert late is not None
        assert (late.rule, late.subject, late.evidence["primary"]) == (807, "n2", "n1")
        standby.caught_up(primary)
        assert await is_over(agents, "n2", "standby-lagging")


async def test_two_sides_of_a_fork_that_archive_to_one_folder_are_told(stage: Stage):
    primary, standby = stage.pair(archive_mode="on", archive_command="true %p")
    async with lookout(primary, standby) as agents:
        await begin(agents)
        await agents.look(2)
        assert not agents.lookers["n1"].told
        await agents.while_(standby.promote)
        for server in (primary, standby):
            server.write(3)
        shared = await until_told(agents, "n1", "archive-conflict")
        assert shared is not None
        assert (shared.rule, shared.subject) == (811, "n1|n2")
        assert shared.evidence["setting"] == "archive_command"
        assert shared.evidence["fork_timeline"] == "1"

        standby.query("ALTER SYSTEM SET archive_command = '/bin/false'")
        standby.query("SELECT pg_reload_conf()")
        assert await is_over(agents, "n1", "archive-conflict")
