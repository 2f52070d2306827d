"""Every lineage that servers can have, built with real ones, against lineages.toml.

The table says what is done and what the agents must say; here it is done. A cluster
serves several cases one after the other; what is wrong in any of them is shown at the
end, so that one run tells all.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest

from agent.core.pageprint import PAGE_BYTES
from agent.postgres.postmaster import orphans
from tests.fix_looking import SETTLE_ROUNDS, Lookout, lookout, table
from tests.fix_postgres import Server, Stage, copy_tree, eventually

pytestmark = pytest.mark.postgres

CASES = table(Path(__file__).with_name("lineages.toml"))
SHOWN_ROUNDS = 6
"""For so long a failover that was told of is shown."""
STARTED = "SELECT pg_postmaster_start_time()"
CONTROL_TIMELINE = "SELECT timeline_id FROM pg_control_checkpoint()"


@dataclass
class Story:
    """Three servers, the agents beside them, and what was found wrong so far."""

    n1: Server
    n2: Server
    n3: Server
    agents: Lookout
    wrong: list[str] = field(default_factory=list)

    async def expect(self, name: str) -> None:
        """Let the agents settle, and compare what they say with the table."""
        case = CASES[name]
        shown = SHOWN_ROUNDS if "failover" in case["told"] else 0
        await self.agents.look(SETTLE_ROUNDS + shown)
        self.wrong += self.agents.unlike(case)


@contextlib.asynccontextmanager
async def story(stage: Stage) -> AsyncIterator[Story]:
    """A primary n1 with two standbys; fails at the end with all that was wrong."""
    n1 = stage.primary("n1")
    n2, n3 = stage.standby(n1, "n2"), stage.standby(n1, "n3")
    write(n1)
    for standby in (n2, n3):
        standby.caught_up(n1)
    async with lookout(n1, n2, n3) as agents:
        made = Story(n1, n2, n3, agents)
        await agents.begin()
        yield made
        assert not made.wrong, "\n".join(made.wrong)


def write(server: Server) -> None:
    """Commit some rows."""
    server.write(5, server.name)


def detach(server: Server) -> None:
    """Let a running standby receive nothing more, and return when it does not."""
    redirect(server, None)
    eventually(
        f"{server.name} is detached",
        lambda: not server.query("SELECT pid FROM pg_stat_wal_receiver"),
    )


def redirect(server: Server, upstream: Server | None) -> None:
    """Let a running standby follow another server, or none."""
    where = "" if upstream is None else conninfo(server, upstream)
    server.configure(primary_conninfo=where)
    server.query("SELECT pg_reload_conf()")


def conninfo(server: Server, upstream: Server) -> str:
    return (
        f"host={upstream.socket_dir} port={upstream.port} user=postgres"
        f" application_name={server.name}"
    )


def start_as_standby(server: Server, upstream: Server) -> None:
    server.follow(upstream)
    server.start()
    server.caught_up(upstream)


def checkpointed(server: Server) -> None:
    """Let the control file know the timeline: pg_rewind of 15 believes it."""
    server.query("CHECKPOINT")
    timeline = server.value("SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn"
                            "()), 1, 8))::bit(32)::int")  # fmt: skip
    eventually("its checkpoint", lambda: server.value(CONTROL_TIMELINE) == timeline)


def rewound(server: Server, source: Server) -> None:
    """Rewind a stopped server, and start it as a standby of the source."""
    checkpointed(source)
    server.programs.run(
        ["pg_rewind", "-D", server.data_dir, "--source-server", source.dsn],
        as_owner_of=server.data_dir,
    )
    server.configure()
    start_as_standby(server, source)


def cloned(server: Server, source: Server, upstream: Server) -> None:
    """Delete a server, clone it anew, and start it as a standby of `upstream`."""
    server.clone_from(source)
    server.configure()
    start_as_standby(server, upstream)


def killed(*servers: Server) -> None:
    """Kill postmasters; return when their children have ended too."""
    for server in servers:
        server.crash()
    for server in servers:
        ended(server)


def ended(server: Server) -> None:
    eventually("its children end", lambda: not orphans(server.data_dir))


def crash_of_a_backend(server: Server) -> None:
    """Have the postmaster restart all its children; its start time stays."""
    began = server.value(STARTED)
    with server.session() as session:
        os.kill(session.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT pg_sleep(20)")
    eventually("it is up again", server.answers)
    assert server.value(STARTED) == began


def ahead(server: Server, standby: Server) -> None:
    """Write a segment more than before, and have a standby take it."""
    server.query("SELECT pg_switch_wal()")
    write(server)
    server.query("SELECT pg_switch_wal()")
    write(server)
    standby.caught_up(server)


@contextlib.contextmanager
def held_promotion(server: Server) -> Iterator[None]:
    """Promote a standby that has its new timeline on disk and takes no writes yet.

    Source: StartupXLOG runs recovery_end_command before writes are allowed.
    """
    hold = server.socket_dir / "hold"
    hold.touch()
    wait = f"while [ -e {hold} ]; do sleep 0.05; done"
    server.configure(recovery_end_command=wait)
    server.query("SELECT pg_reload_conf()")
    wal = server.data_dir / "pg_wal"
    server.query("SELECT pg_promote(false)")
    eventually("its timeline is on disk", (wal / "00000003.history").exists)
    try:
        yield
        assert server.value("SELECT pg_is_in_recovery()")
    finally:
        hold.unlink()


def on_its_own(server: Server) -> None:
    eventually(
        f"{server.name} takes writes",
        lambda: not server.value("SELECT pg_is_in_recovery()"),
    )


def image_of(server: Server) -> Path:
    """Copy the data directory of a server that is stopped for it."""
    image = server.data_dir.with_name("image")
    server.stop()
    copy_tree(server.data_dir, image)
    server.start()
    return image


def put_back(server: Server, image: Path) -> Path:
    """Put a folder in the place of a stopped server's; return where that one is."""
    aside = server.data_dir.with_name(f"before {image.name}")
    server.data_dir.rename(aside)
    image.rename(server.data_dir)
    server.configure()
    return aside


def set_back(server: Server, image: Path) -> None:
    """Give a stopped server's own folder the content of an image, as storage does.

    What the image has in common with it stays the very same file.
    """
    same = {"PG_VERSION", "backup_label.old"}
    for found in server.data_dir.iterdir():
        if found.is_dir():
            shutil.rmtree(found)
        elif found.name not in same:
            found.unlink()
    for kept in image.iterdir():
        if kept.name not in same:
            kept.rename(server.data_dir / kept.name)
    server.configure()


def well_past(server: Server, upstream: Server) -> None:
    """Let a standby have a restart point behind all that its upstream ever had."""
    upstream.query("CHECKPOINT")
    server.caught_up(upstream)
    server.query("CHECKPOINT")


def foreign(stage: Stage, server: Server) -> Path:
    """Make a folder of another system beside a server."""
    folder = server.data_dir.with_name("foreign")
    stage.programs.run(
        ["initdb", "-D", folder, "-U", "postgres", "-A", "trust", "--no-sync"],
        as_owner_of=server.socket_dir,
    )
    return folder


@pytest.mark.fact("P10", "P16", "P17", "fork-of-two")
async def test_what_lies_past_a_fork_is_told_whoever_holds_it_and_however(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        await agents.while_(lambda: detach(n2), n2.promote)
        await agents.while_(lambda: write(n1), lambda: write(n2))
        await it.expect("two primaries")

        killed(n1)
        await agents.begin()
        await it.expect("a loser that crashed")

        await agents.while_(n1.start, lambda: ahead(n1, n3))
        await agents.look(SETTLE_ROUNDS)  # what was told of its crash is over
        await agents.while_(n1.stop)
        await it.expect("a loser that is ahead in LSN, and stopped")

        n2.stop()
        n1.start()
        await agents.begin()
        await it.expect("a loser on the younger timeline")

        n1.stop()
        n2.start()
        await agents.begin()
        await agents.while_(lambda: rewound(n1, n2))
        await it.expect("a second-hand loser")

        await agents.while_(lambda: cloned(n3, n2, n1))
        await it.expect("rewound and cloned")


@pytest.mark.fact("crash-restart")
async def test_what_is_no_split_is_never_called_one(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        image = image_of(n3)
        await agents.begin()
        await agents.while_(n1.stop, n1.start)
        await it.expect("restarted")

        await agents.while_(lambda: crash_of_a_backend(n1))
        await it.expect("restarted after a crash")

        await agents.while_(n1.stop, n2.promote, lambda: write(n2))
        await agents.while_(lambda: start_as_standby(n1, n2), lambda: redirect(n3, n2))
        await it.expect("switched over cleanly")

        await agents.while_(lambda: redirect(n3, n1), lambda: write(n2))
        await agents.while_(lambda: n3.caught_up(n2))
        await it.expect("cascading standbys")

        await agents.while_(n2.stop)
        with held_promotion(n1):
            await agents.look(6)
        await agents.while_(lambda: on_its_own(n1), lambda: write(n1))
        await agents.while_(lambda: start_as_standby(n2, n1))
        await it.expect("promoted slowly")

        await agents.while_(n3.stop, lambda: put_back(n3, image))
        await agents.while_(lambda: start_as_standby(n3, n1))
        await it.expect("a standby from an old image")


class MovingAddress:
    """A path by which clients reach now this server and now that one, as by a VIP."""

    PORT = 6432

    def __init__(self, folder: Path, server: Server) -> None:
        self._socket = folder / f".s.PGSQL.{self.PORT}"
        self.dsn = f"host={folder} port={self.PORT} user=postgres dbname=postgres"
        self.lead_to(server)

    def lead_to(self, server: Server) -> None:
        self._socket.unlink(missing_ok=True)
        self._socket.symlink_to(server.socket_dir / f".s.PGSQL.{server.port}")


async def test_an_address_that_moves_to_the_new_primary_is_no_split(
    stage: Stage, tmp_path: Path
):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        address = MovingAddress(tmp_path, n1)
        agents.addresses = {"n1": address.dsn}
        await agents.begin()
        await agents.while_(n1.stop, n2.promote, lambda: write(n2))
        await agents.while_(lambda: address.lead_to(n2), lambda: redirect(n3, n2))
        await it.expect("an address that moved to the new primary")

        await agents.while_(lambda: start_as_standby(n1, n2))
        await agents.while_(lambda: address.lead_to(n1))
        await it.expect("an address that is back at its own server")


@pytest.mark.fact("P11")
async def test_one_timeline_number_that_begins_at_two_places_is_told(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        await agents.while_(lambda: detach(n3), lambda: write(n1))
        await agents.while_(lambda: n2.caught_up(n1), n1.stop)
        await agents.while_(n2.promote, n3.promote)
        await agents.while_(lambda: write(n2), lambda: write(n3))
        await it.expect("two primaries of one timeline number")

        n3.stop()
        await agents.begin()
        await it.expect("a twin by another switch point")

        await agents.while_(n1.start, lambda: write(n1), n3.start)
        await it.expect("three primaries")

        killed(n1, n3)
        await agents.begin()
        await it.expect("a twin and a fork at once")


@pytest.mark.fact("P15")
async def test_identical_history_files_before_other_wal_are_told(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        image = image_of(n3)
        write(n1)
        for twin in (n2, n3):
            twin.caught_up(n1)  # it streams again, and gets the last record too
        n1.stop()
        for twin in (n2, n3):
            twin.promote()
            write(twin)
        name = "pg_wal/00000002.history"
        assert (n2.data_dir / name).read_bytes() == (n3.data_dir / name).read_bytes()
        n3.stop()
        await agents.begin()
        await it.expect("a twin by other WAL")

        n3.follow(n2)
        await agents.while_(n3.start)
        await it.expect("a twin that rejoined")

        await agents.restart("n3")
        await it.expect("a twin whose own agent was restarted")

        await agents.restart()
        await it.expect("a twin whose agents were all restarted")

        n3.stop()
        set_back(n3, image)
        start_as_standby(n3, n2)
        well_past(n3, n2)
        await agents.restart()
        await it.expect("a twin that was put back unseen")


async def test_a_server_that_is_another_one_is_no_side_of_a_split(stage: Stage):
    async with story(stage) as it:
        n1, n3, agents = it.n1, it.n3, it.agents
        await agents.begin(n3=n1)
        await it.expect("one server under two names")

        n3.stop()
        put_back(n3, foreign(stage, n3))
        n3.start()
        write(n3)
        await agents.begin()
        await it.expect("a foreign system")


async def test_a_primary_that_has_less_than_was_seen_is_told(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        image = image_of(n1)
        write(n1)
        for standby in (n2, n3):
            standby.caught_up(n1)
        await agents.begin()
        await agents.while_(n1.stop)
        newer = put_back(n1, image)
        await agents.while_(n1.start)
        await it.expect("a primary from an old image")

        killed(n1)  # a fast stop would wait for standbys that have more than it
        n1.write_file("recovery.signal", "")
        n1.configure(restore_command="/bin/false")
        await agents.while_(n1.start, lambda: on_its_own(n1))
        await it.expect("a primary restored to an earlier point")

        killed(n1)
        put_back(n1, newer)
        n1.start()
        await agents.begin()
        await agents.while_(lambda: detach(n2), lambda: write(n1))
        await agents.while_(lambda: n3.caught_up(n1))
        await agents.look(2)
        await agents.while_(n1.stop, n2.promote, lambda: write(n2))
        await it.expect("a stale standby that was promoted")


@pytest.mark.fact("wrote-on")
async def test_a_primary_that_was_set_back_and_wrote_on_is_told(stage: Stage):
    async with story(stage) as it:
        n1, n2, n3, agents = it.n1, it.n2, it.n3, it.agents
        image = image_of(n1)
        await agents.begin()
        for _ in range(3):
            n1.write(200, "only n2 and n3 keep this")
            for standby in (n2, n3):
                standby.caught_up(n1)
            await agents.look(2)
        reached = n2.lsn

        killed(n1)
        put_back(n1, image)
        n1.start()
        while n1.lsn <= reached + PAGE_BYTES:
            n1.write(200, "n1 after it was set back")
        await it.expect("a primary from an old image that wrote on")

        await agents.restart()
        await it.expect("agents that were restarted beside it")

        for loser in (n2, n3):
            await agents.while_(partial(cloned, loser, n1, n1))
        await it.expect("losers that were cloned")


def test_every_case_of_the_table_is_played():
    here = Path(__file__).read_text("utf-8")
    assert [name for name in CASES if f'expect("{name}")' not in here] == []
