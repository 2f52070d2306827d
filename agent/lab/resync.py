"""What a losing node does to its database: makes it a copy of the winner's.

Theory of operation. Stop the server, while clients may still be writing to it.
Ask for the permit. Let the winner prepare itself (it must be on a later timeline
than the loser's, and its pg_control must say so: pg_rewind would otherwise see
nothing to do). Rewind; where pg_rewind refuses or sees nothing to do although the
lines differ, clone anew. Write the node's own configuration again, which pg_rewind
has overwritten, and start as the winner's standby. A mark on disk says that the
data folder is half changed, so that a machine that was killed here goes on with a
clone. Whatever fails is tried again.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg

from agent.lab import texts
from agent.lab.database import Database
from agent.lab.guard import Permits
from agent.lab.plan import HOST, Plan
from agent.lab.server import RECOVERY_SIGNAL, STANDBY_SIGNAL, Server, make_private
from agent.lab.web import CallError, send_json

NOTHING_TO_DO = "no rewind required"
NOTHING_HELD = "empty: "
"""Before the source's name in the mark of a node that held nothing: then a machine that
was killed there goes on without a permit."""
AGAIN_S = 1.0
PREPARE_S = 60.0


@dataclass(frozen=True, slots=True)
class Loser:
    """The losing node's parts."""

    plan: Plan
    name: str
    server: Server
    database: Database
    permits: Permits | None
    """None when nobody is asked."""
    say: Callable[[str], None]
    stopped: Callable[[], None]
    """Called when the server has stopped."""


async def resync(loser: Loser, winner: str) -> None:
    """Bring the node back as a standby of `winner`. Returns when it runs."""
    await _stop(loser)
    loser.stopped()
    permit = await _renewed(loser, None)
    while True:
        await _prepared(loser, winner)
        permit = await _renewed(loser, permit)
        if await _replace(loser, winner):
            break
        await asyncio.sleep(AGAIN_S)
    await _start(loser, winner)


async def _renewed(loser: Loser, permit: str | None) -> str | None:
    """Return a permit that holds now; None where nobody is asked."""
    if loser.permits is None:
        return None
    if permit is not None and await loser.permits.still_granted(permit):
        return permit
    loser.say("asking the agent for a permit")
    return await loser.permits.granted()


async def _stop(loser: Loser) -> None:
    """Stop the server.

    A standby makes a restartpoint first: pg_rewind of older versions reads the
    target's timeline from pg_control only.
    """
    if not loser.server.running:
        return
    if loser.server.is_standby_on_disk:
        try:
            await asyncio.to_thread(loser.database.checkpoint)
        except psycopg.Error as error:
            loser.say(f"no restartpoint before the stop: {error}")
    loser.say("stopping the server")
    await loser.server.stop()


async def _prepared(loser: Loser, winner: str) -> None:
    """Return when the winner says that it is ready to be copied from.

    It must be above every timeline of this node's line.
    """
    histories = loser.database.histories()
    port = loser.plan.way(loser.name, winner, "manager")
    while True:
        try:
            reply = await asyncio.to_thread(
                send_json,
                "POST",
                f"http://{HOST}:{port}/lab/v1/prepare",
                {"histories": histories},
                token=loser.plan.secrets.internal,
                timeout_s=PREPARE_S,
            )
        except CallError as error:
            loser.say(f"the winner does not answer: {error.message}")
        else:
            if reply.ok:
                return
            loser.say(f"the winner is not ready: {reply.body[:200]!r}")
        await asyncio.sleep(AGAIN_S)


async def _replace(loser: Loser, winner: str) -> bool:
    """Rewind, or clone; whether it worked."""
    mark = loser.plan.layout.node(loser.name).resync_mark
    if not mark.exists():
        loser.say(f"pg_rewind from {winner}")
        mark.write_text(winner)
        ran = await loser.server.run(
            "pg_rewind",
            f"--target-pgdata={loser.server.data_dir}",
            "--source-server",
            texts.source_conninfo(loser.plan, loser.name, winner, "postgres"),
        )
        if ran.code == 0 and NOTHING_TO_DO not in ran.output:
            return True
        loser.say(f"pg_rewind did not do it: {ran.output.strip()[-300:]}")
    return await _clone(loser, winner)


async def copy(loser: Loser, source: str) -> None:
    """Make a node whose database holds nothing a standby of `source`."""
    await _stop(loser)
    loser.stopped()
    mark = loser.plan.layout.node(loser.name).resync_mark
    mark.write_text(f"{NOTHING_HELD}{source}")
    while True:
        if await _clone(loser, source):
            break
        await asyncio.sleep(AGAIN_S)
    await _start(loser, source)


async def _clone(loser: Loser, winner: str) -> bool:
    loser.say(f"cloning from {winner}")
    shutil.rmtree(loser.server.data_dir, ignore_errors=True)
    make_private(loser.server.data_dir, loser.plan.account)
    ran = await loser.server.run(
        "pg_basebackup",
        f"--pgdata={loser.server.data_dir}",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--dbname",
        texts.source_conninfo(loser.plan, loser.name, winner, "replication"),
    )
    if ran.code != 0:
        loser.say(f"pg_basebackup failed: {ran.output.strip()[-300:]}")
    return ran.code == 0


async def _start(loser: Loser, winner: str) -> None:
    write_files(loser.plan, loser.name, loser.server, winner)
    loser.plan.layout.node(loser.name).resync_mark.unlink(missing_ok=True)
    await loser.server.start()
    loser.say(f"following {winner}")


def write_files(plan: Plan, name: str, server: Server, upstream: str | None) -> None:
    """Write the three files that say who this server is and whom it follows."""
    server.write("postgresql.conf", texts.postgresql_conf(plan, name))
    server.write("postgresql.auto.conf", texts.auto_conf(plan, name, upstream))
    server.write("pg_hba.conf", texts.HBA_CONF)
    server.remove(RECOVERY_SIGNAL, STANDBY_SIGNAL)
    if upstream is not None:
        server.write(STANDBY_SIGNAL, "")


async def bump(
    plan: Plan, name: str, server: Server, histories: Mapping[str, str]
) -> None:
    """Restart a primary on a new timeline, above all in `histories`.

    Source: PostgreSQL takes the next number that has no history file. A recovery
    that has no WAL to read ends at once, at the server's own end of WAL.
    """
    await server.stop()
    wal = server.data_dir / "pg_wal"
    for file, text in histories.items():
        if not (wal / file).exists():
            server.write(f"pg_wal/{file}", text)
    server.write("postgresql.conf", texts.postgresql_conf(plan, name, texts.BUMP_CONF))
    server.write(RECOVERY_SIGNAL, "")
    await server.start()
    await server.promoted()
    write_files(plan, name, server, None)
