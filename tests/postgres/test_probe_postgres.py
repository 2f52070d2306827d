"""The PostgreSQL probe against real servers: what it sees, and how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import time
from itertools import pairwise

import psycopg
import pytest

from agent.core.lsn import Lsn
from agent.core.observation import Channel, Outcome
from agent.daemon.clock import SystemClock
from agent.probe.postgres import statement
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.fix_postgres import eventually, free_port

pytestmark = pytest.mark.postgres

DEADLINE_S = 0.8
LATE_S = 0.6
"""What a loaded machine may add to a deadline."""
BY_DEFAULT = ProbeSettings("test", "me").fresh_every


@contextlib.asynccontextmanager
async def prober(fresh_every=BY_DEFAULT, deadline_s=DEADLINE_S, **dsns):
    http = HttpClient()
    made = NetworkProber(
        {name: Target(name, postgres_dsn=dsn) for name, dsn in dsns.items()},
        ProbeSettings("test", "me", deadline_s=deadline_s, fresh_every=fresh_every),
        SystemClock(),
        http,
    )
    try:
        yield made
    finally:
        await made.close()
        await http.close()


async def seen(probes, node="n1"):
    return await probes.probe(node, Channel.POSTGRES)


def as_probe(server):
    """Make the probe's role, and nothing more of it than a cluster should have."""
    server.query("CREATE ROLE splitguard_probe LOGIN IN ROLE pg_monitor")
    return server.dsn.replace("user=postgres", "user=splitguard_probe")


def sessions(server):
    return server.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'splitguard_probe'"
    )


@pytest.mark.fact("walfile-name-refused")
async def test_primary_and_standby_tell_all_that_is_asked_with_pg_monitor_only(stage):
    primary = stage.server("n1", tcp=True).start()
    dsn = as_probe(primary)
    standby = stage.server("n2")
    standby.configure(
        primary_conninfo=f"host=127.0.0.1 port={primary.port} user=postgres"
        " application_name=n2"
    )
    standby.write_file("standby.signal", "")
    standby.start()
    primary.write(10)
    standby.caught_up(primary)
    standby_dsn = standby.dsn.replace("user=postgres", "user=splitguard_probe")
    least = primary.lsn
    async with prober(n1=dsn, n2=standby_dsn) as probes:
        first, second = await seen(probes), await seen(probes, "n2")
    most = primary.lsn
    for one in (first, second):
        assert (one.outcome, one.reason) == (Outcome.ANSWERED, "")
        assert one.received_s >= one.sent_s
    up, down = first.postgres, second.postgres
    control = primary.value("SELECT system_identifier::text FROM pg_control_system()")
    assert up.system_id == down.system_id == control
    assert up.version_num == int(primary.value("SHOW server_version_num"))
    assert (up.in_recovery, down.in_recovery) == (False, True)
    assert (up.timeline, down.timeline) == (1, 1)
    # An idle primary still writes down its running transactions now and then.
    assert least <= up.flush_lsn <= most
    assert least <= down.replay_lsn <= down.flush_lsn <= most
    assert (up.replay_lsn, up.upstream, up.receiver_mark) == (None, None, None)
    assert down.upstream == f"127.0.0.1:{primary.port}"
    assert [(s.name, s.state, s.sync_state) for s in up.senders] == [
        ("n2", "streaming", "async")
    ]
    assert least <= up.senders[0].flush_lsn <= most
    assert up.next_xid == down.next_xid
    assert up.postmaster_started != down.postmaster_started


async def test_a_probe_writes_nothing_and_takes_no_transaction_id(stage16):
    primary = stage16.primary()
    async with prober(n1=as_probe(primary)) as probes:
        before = (await seen(probes)).postgres
        after = [(await seen(probes)).postgres for _ in range(12)][-1]
        primary.write(1)
        written = (await seen(probes)).postgres
    assert (after.next_xid, after.write_lsn) == (before.next_xid, before.write_lsn)
    assert written.next_xid > after.next_xid


@pytest.mark.fact("control-lags")
async def test_right_after_a_promotion_the_new_timeline_is_seen(stage):
    _, standby = stage.pair()
    async with prober(n2=standby.dsn) as probes:
        assert (await seen(probes, "n2")).postgres.timeline == 1
        standby.promote()
        sight = (await seen(probes, "n2")).postgres
    assert (sight.in_recovery, sight.timeline, sight.upstream) == (False, 2, None)


@pytest.mark.fact("walfile-name-refused")
async def test_a_standby_without_upstream_still_tells_its_place(stage):
    primary, standby = stage.pair()
    primary.write(5)
    standby.caught_up(primary)
    reached = standby.lsn
    primary.crash()
    standby.stop()
    standby.start()
    async with prober(n2=standby.dsn) as probes:
        sight = (await seen(probes, "n2")).postgres
    assert (sight.timeline, sight.upstream, sight.receiver_mark) == (1, None, None)
    assert reached <= sight.flush_lsn <= Lsn(reached + 8192)


@pytest.mark.fact("reply-clock")
async def test_a_changed_receiver_mark_and_reply_mark_testify_for_life(stage16):
    primary, standby = stage16.pair()
    async with prober(n1=primary.dsn, n2=standby.dsn) as probes:
        up, down = (await seen(probes)), (await seen(probes, "n2"))
        primary.write(3)
        standby.caught_up(primary)

        async def moved():
            return (await seen(probes)).postgres.senders[
                0
            ].reply_mark != up.postgres.senders[0].reply_mark

        async with asyncio.timeout(10):
            while not await moved():
                pass
        later = await seen(probes, "n2")
    assert later.postgres.receiver_mark != down.postgres.receiver_mark


async def test_backends_that_wait_for_a_dead_standby_are_counted_and_timed(stage16):
    primary = stage16.primary()
    primary.query("CREATE TABLE kept (id int)")
    dsn = as_probe(primary)
    primary.configure(synchronous_standby_names="nobody")
    primary.query("SELECT pg_reload_conf()")
    writer = await psycopg.AsyncConnection.connect(primary.dsn, autocommit=True)

    async def write():
        while True:  # the server takes the setting up in its own time
            await writer.execute("INSERT INTO kept VALUES (1)")

    commit = asyncio.ensure_future(write())
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(commit.cancel)
        stack.callback(writer.pgconn.finish)
        probes = await stack.enter_async_context(prober(n1=dsn, fresh_every=3))

        async def waits():
            return (await seen(probes)).postgres

        async with asyncio.timeout(10):
            while not (first := await waits()).waiting_for_sync:
                pass
            while (later := await waits()).waiting_for_sync_s < 0.2:
                pass
    assert (first.waiting_for_sync, first.waiting_for_sync_s) == (1, 0.0)
    assert later.waiting_for_sync == 1
    await asyncio.wait({commit})


@pytest.mark.fact("mute-probe")
async def test_a_frozen_server_ends_at_the_deadline_and_recovers(stage):
    primary = stage.primary()
    async with prober(n1=as_probe(primary)) as probes:
        assert (await seen(probes)).outcome is Outcome.ANSWERED
        backends = primary.query(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'splitguard_probe'"
        )
        with frozen(primary.process.pid, *(pid for (pid,) in backends)):
            # First over the kept connection, then by connecting anew.
            for what in ("answering", "connecting"):
                one = await seen(probes)
                assert one.outcome is Outcome.TIMED_OUT
                assert what in one.reason
                assert one.received_s - one.sent_s < DEADLINE_S + LATE_S
        async with asyncio.timeout(10):
            while (await seen(probes)).outcome is not Outcome.ANSWERED:
                pass


@contextlib.contextmanager
def frozen(*pids):

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.fact("mute-probe")
async def test_a_mute_link_ends_at_the_deadline(stage16, network):
    primary = stage16.server("n1", tcp=True).start()
    relay = await network.relay("127.0.0.1", primary.port)
    dsn = f"host=127.0.0.1 port={relay.port} dbname=postgres user=postgres"
    async with prober(n1=dsn) as probes:
        assert (await seen(probes)).outcome is Outcome.ANSWERED
        relay.mute()
        for _ in range(2):
            one = await seen(probes)
            assert one.outcome is Outcome.TIMED_OUT
            assert one.received_s - one.sent_s < DEADLINE_S + LATE_S
        relay.speak()
        assert (await seen(probes)).outcome is Outcome.ANSWERED


async def test_a_cut_connection_is_made_again_in_the_same_round(stage16, network):
    primary = stage16.server("n1", tcp=True).start()
    relay = await network.relay("127.0.0.1", primary.port)
    dsn = f"host=127.0.0.1 port={relay.port} dbname=postgres user=postgres"
    async with prober(n1=dsn) as probes:
        await seen(probes)
        relay.cut()
        assert (await seen(probes)).outcome is Outcome.ANSWERED
    assert relay.listener.connections == 2


async def test_a_connection_cut_at_its_first_question_is_no_old_server(
    stage16, network
):
    """libpq says of a dead connection that its server's version is 0."""
    primary = stage16.server("n1", tcp=True).start()
    relay = await network.relay("127.0.0.1", primary.port)
    dsn = f"host=127.0.0.1 port={relay.port} dbname=postgres user=postgres"
    async with prober(n1=dsn, fresh_every=1) as probes:
        assert (await seen(probes)).outcome is Outcome.ANSWERED
        relay.cuts_questions = True
        one = await seen(probes)
        assert (one.outcome, one.reason) == (
            Outcome.UNREACHABLE,
            "the connection was cut",
        )
        relay.cuts_questions = False
        assert (await seen(probes)).outcome is Outcome.ANSWERED


async def test_a_restarted_server_is_seen_at_once(stage16):
    primary = stage16.primary()
    async with prober(n1=as_probe(primary)) as probes:
        before = (await seen(probes)).postgres
        primary.stop()
        assert (await seen(probes)).outcome is Outcome.UNREACHABLE
        primary.start()
        after = await seen(probes)
    assert after.postgres.postmaster_started > before.postmaster_started


async def test_no_free_connection_is_a_refusal_and_proves_life(stage):
    primary = stage.primary(max_connections="6", superuser_reserved_connections="2")
    dsn = as_probe(primary)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            with contextlib.suppress(psycopg.OperationalError):
                await stack.enter_async_context(
                    await psycopg.AsyncConnection.connect(dsn)
                )
        async with prober(n1=dsn) as probes:
            one = await seen(probes)
    assert (one.outcome, one.reason[:5]) == (Outcome.REFUSED, "53300")
    assert one.outcome.alive


async def test_a_kept_connection_is_still_asked_when_a_new_one_is_refused(stage16):
    primary = stage16.primary(max_connections="6", superuser_reserved_connections="2")
    dsn = as_probe(primary)
    async with prober(n1=dsn, fresh_every=1) as probes:
        await seen(probes)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(6):
                with contextlib.suppress(psycopg.OperationalError):
                    await stack.enter_async_context(
                        await psycopg.AsyncConnection.connect(dsn)
                    )
            assert (await seen(probes)).outcome is Outcome.ANSWERED


async def test_a_smart_shutdown_does_not_wait_for_the_probe(stage):
    """It is what `systemctl stop` of many packages and orchestrators send."""
    primary = stage.primary()
    async with prober(n1=as_probe(primary), fresh_every=3) as probes:
        assert (await seen(probes)).outcome is Outcome.ANSWERED
        assert primary.process is not None
        primary.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            while primary.process.poll() is None:
                await seen(probes)
                await asyncio.sleep(0.05)
        assert (await seen(probes)).outcome is Outcome.UNREACHABLE
    primary.process = None


async def test_every_tenth_round_connects_afresh_and_asks_the_kept_session(stage16):
    primary = stage16.primary(log_connections="on")
    connected = "connection authorized: user=splitguard_probe"
    dsn = as_probe(primary)

    def made():
        return primary.log.read_text().count(connected)

    async with prober(n1=dsn) as probes:
        made_at = []
        for _ in range(21):
            assert (await seen(probes)).outcome is Outcome.ANSWERED
            made_at.append(made())
        assert (made_at[0], made_at[9], made_at[20]) == (1, 1, 3)
        eventually("one session is left", lambda: sessions(primary) == 1)
    eventually("no session is left", lambda: sessions(primary) == 0)


async def test_an_address_that_has_moved_is_followed_with_the_next_connection(stage16):
    """The kept session still reaches the server that was there before."""
    primary, standby = stage16.pair()
    address = stage16.folder / "address"
    address.symlink_to(primary.socket_dir)
    dsn = f"host={address} port={primary.port} user=postgres dbname=postgres"
    async with prober(n1=dsn, fresh_every=2) as probes:
        for _ in range(2):
            assert not (await seen(probes)).postgres.in_recovery
        address.unlink()
        address.symlink_to(standby.socket_dir)
        for _ in range(3):
            assert (await seen(probes)).postgres.in_recovery
    eventually("no session is left", lambda: sessions(primary) == 0)


async def test_a_server_that_starts_up_refuses_and_proves_life(stage):
    """A standby that has nothing to become consistent with never lets anybody in."""
    primary = stage.primary()
    primary.write(10)
    primary.crash()
    server = stage.server("n9")
    server.configure(hot_standby="off")
    server.write_file("standby.signal", "")
    server.launch()
    async with prober(n9=server.dsn) as probes:
        async with asyncio.timeout(20):
            while (one := await seen(probes, "n9")).outcome is Outcome.UNREACHABLE:
                pass
    assert (one.outcome, one.reason[:5]) == (Outcome.REFUSED, "57P03")


@pytest.mark.parametrize(
    ("change", "code", "hint"),
    [
        ("user=nobody_here", "28000", "splitguard grants"),
        ("dbname=nothing_here", "3D000", "dbname=postgres"),
    ],
)
async def test_a_wrong_role_or_database_is_a_refusal(stage16, change, code, hint):
    primary = stage16.primary()
    async with prober(n1=f"{as_probe(primary)} {change}") as probes:
        one = await seen(probes)
    assert (one.outcome, one.reason[:5]) == (Outcome.REFUSED, code)
    assert hint in one.reason


async def test_a_wrong_password_is_a_refusal_that_does_not_show_it(stage16):
    primary = stage16.primary()
    primary.query("CREATE ROLE guarded LOGIN PASSWORD 'right' IN ROLE pg_monitor")
    primary.write_file("pg_hba.conf", "local all guarded scram-sha-256\n")
    primary.signal(signal.SIGHUP)
    dsn = primary.dsn.replace("user=postgres", "user=guarded password=wrong-one")
    async with prober(n1=dsn) as probes:
        async with asyncio.timeout(10):
            while (one := await seen(probes)).outcome is Outcome.ANSWERED:
                pass
    assert (one.outcome, one.reason[:5]) == (Outcome.REFUSED, "28P01")
    assert "wrong-one" not in one.reason


async def test_no_pg_hba_line_is_a_refusal_with_what_to_add(stage16):
    primary = stage16.server("n1", tcp=True).start()
    primary.write_file("pg_hba.conf", "local all all trust\n")
    primary.query("SELECT pg_reload_conf()")
    dsn = f"host=127.0.0.1 port={primary.port} dbname=postgres user=postgres"
    async with prober(n1=dsn, fresh_every=1) as probes:
        async with asyncio.timeout(10):
            while (one := await seen(probes)).outcome is Outcome.ANSWERED:
                pass
    assert one.outcome is Outcome.ANSWERED or one.reason.startswith("28000")
    assert "pg_hba.conf" in one.reason


async def test_a_role_without_pg_monitor_is_told_what_to_grant(stage16):
    primary = stage16.primary()
    primary.query("CREATE ROLE poor LOGIN")
    async with prober(n1=primary.dsn.replace("user=postgres", "user=poor")) as probes:
        one = await seen(probes)
    assert one.outcome is Outcome.REFUSED
    assert one.reason == (
        "role poor is not in pg_monitor and sees only half;"
        " grant what `splitguard grants` prints"
    )


async def test_nobody_there_is_unreachable():
    dsn = f"host=127.0.0.1 port={free_port()} dbname=postgres user=postgres"
    async with prober(n1=dsn, n2="host=/nowhere user=postgres", n3="rubbish") as probes:
        refused, no_socket = await seen(probes), await seen(probes, "n2")
        wrong = await seen(probes, "n3")
        unknown = await seen(probes, "n9")
    assert (refused.outcome, refused.reason) == (
        Outcome.UNREACHABLE,
        "Connection refused",
    )
    assert (no_socket.outcome, no_socket.reason) == (
        Outcome.UNREACHABLE,
        "No such file or directory",
    )
    assert "not a libpq connection string" in wrong.reason
    assert "no address" in unknown.reason


async def test_questions_to_one_server_never_overlap(stage16):
    """So that the later answer is truly newer than the former one."""
    primary = stage16.primary()
    async with prober(n1=as_probe(primary)) as probes:
        ones = await asyncio.gather(*(seen(probes) for _ in range(5)))
    for former, later in pairwise(ones):
        assert later.sent_s >= former.received_s
    assert all(one.outcome is Outcome.ANSWERED for one in ones)


async def test_a_probe_in_flight_can_be_cancelled_and_closed_at_once(stage16, network):
    primary = stage16.server("n1", tcp=True).start()
    relay = await network.relay("127.0.0.1", primary.port)
    dsn = f"host=127.0.0.1 port={relay.port} dbname=postgres user=postgres"
    async with prober(deadline_s=60, n1=dsn) as probes:
        await seen(probes)
        relay.mute()
        question = asyncio.ensure_future(seen(probes))
        await asyncio.wait({question}, timeout=0.1)
        began = time.monotonic()
        question.cancel()
        await asyncio.wait({question})
        await probes.close()
        assert time.monotonic() - began < 30


@pytest.mark.fact("old-servers")
async def test_the_statement_for_older_servers_tells_the_same(stage):
    """It keeps to what 10 has, and newer servers have all of that."""
    primary, standby = stage.pair()
    for server in (primary, standby):
        newer, older = (
            json.loads(server.value(statement(version).decode()))["sight"]
            for version in (140000, 130023)
        )
        for sight in (newer, older):
            sight["senders"] = [dict(s, reply_mark="") for s in sight["senders"]]
            sight["receiver_mark"] = None
        assert older == newer
