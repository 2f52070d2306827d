"""One host of the lab: its manager, its PostgreSQL and its agent in one process tree.

Theory of operation. The process runs the stand-in manager on its own port, has the
server and the agent as children, and polls the other machines' managers through
the relays. Twice a second it lets `Naive` choose a move and carries it out, one at
a time. A dead agent is started again after half a second, as systemd would; a dead
server stays dead. On SIGTERM everything ends; on kill -9 the kernel takes the
children along.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from agent.codec import from_plain
from agent.errors import CodecError, LabError, SplitguardError
from agent.lab import texts
from agent.lab.database import Database
from agent.lab.guard import Permits
from agent.lab.manager_api import make_manager_app
from agent.lab.naive import (
    BecomeActive,
    Follow,
    GiveUp,
    Habits,
    Move,
    Naive,
    Stay,
)
from agent.lab.plan import HOST, Plan, load_plan
from agent.lab.ports import listen_on
from agent.lab.processes import Launch, end, kill_leftovers_in, launch
from agent.lab.resync import Loser, bump, resync
from agent.lab.server import Server
from agent.lab.setup import installed
from agent.lab.snapshot_api import SnapshotDesk, snapshot_routes
from agent.lab.standing import ServerStanding, Standing, outranks
from agent.lab.web import CallError, send_json, serving

POLL_TIMEOUT_S = 0.8
LOOK_AROUND_S = 3.0
"""How long a machine that was primary looks for another one before it goes on."""
AGENT_AGAIN_S = 0.5
AGENT_STOP_S = 5.0
CONTROL_S = 30.0

log = logging.getLogger("lab.machine")


@dataclass(frozen=True, slots=True)
class Seen:
    """What another manager said, and when."""

    standing: Standing
    at_s: float


class Machine:
    """One node's host."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name
        self.layout = plan.layout.node(name)
        self.server = Server(installed(plan, name))
        self.database = Database(self.server)
        self.habits = Habits(settle_s=plan.options.settle_s)
        upstreams = {
            plan.way(name, other.name, "replication"): other.name
            for other in plan.others(name)
        }
        self.naive = Naive(name, upstreams, self.habits)
        self.active = False
        self._busy = "starting"
        self._note = "starting"
        self._server_standing: ServerStanding | None = None
        self._seen: dict[str, Seen] = {}
        self._work = asyncio.Lock()
        """Held by whatever changes the server; never two at once."""

    @property
    def standing(self) -> Standing:
        """What this manager says of itself."""
        return Standing(
            name=self.name,
            active=self.active,
            busy=self._busy,
            server=self._server_standing,
            decision=self.naive.decision,
            met=self.naive.meeting is not None,
            note=self._note,
        )

    def say(self, words: str) -> None:
        """Note what is being done, for the log and for whoever asks."""
        self._note = words
        log.info("%s", words)

    async def promote(self, why: str) -> None:
        """Promote the server and become the active manager."""
        async with self._work:
            self.say(f"becoming active: {why}")
            await asyncio.to_thread(self.database.promote)
            await self._look_at_server()
            self.active = True
            self.say("active")

    async def prepare(self, histories: dict[str, str]) -> None:
        """Be a source that pg_rewind can work with: above the loser's timelines.

        Raises LabError when pg_control does not show the timeline in time.
        """
        async with self._work:
            await self._look_at_server()
            mine = self._server_standing
            if mine is not None and not outranks(mine, histories):
                self.say("moving to a timeline above the loser's")
                await bump(self.plan, self.name, self.server, histories)
                await self._look_at_server()
            await asyncio.to_thread(self.database.checkpoint)
            until = time.monotonic() + CONTROL_S
            while not await self._control_shows_timeline():
                if time.monotonic() > until:
                    raise LabError("pg_control does not show the new timeline")
                await asyncio.sleep(self.habits.poll_s / 5)
            self.say("active")

    async def run(self, stopping: asyncio.Event) -> None:
        """Be this host until told to stop."""
        kill_leftovers_in(self.server.data_dir)
        self.server.forget_postmaster()
        app = make_manager_app(self, self.database, self.plan)
        desk = SnapshotDesk(self, self.database, self.layout.manager_files)
        app.include_router(snapshot_routes(desk, self.plan))
        listener = listen_on(self.plan.node(self.name).manager_port)
        async with serving(app, listener):
            tasks = [asyncio.create_task(self._manage())]
            if self.plan.options.agents:
                tasks.append(asyncio.create_task(self._keep_agent()))
            try:
                await stopping.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.server.stop(signal.SIGQUIT)

    # --- the manager --------------------------------------------------------

    async def _manage(self) -> None:
        """Start the server, then look around and act, for ever."""
        await self._until_done(self._begin)
        while True:
            await asyncio.gather(self._look_at_server(), self._look_at_others())
            if not self._work.locked():
                # Half a promotion looks like a node that is past its leader's line.
                now_s = time.monotonic()
                move = self.naive.decide(self.standing, self._others(), now_s)
                await self._until_done(functools.partial(self._make, move))
            await asyncio.sleep(self.habits.poll_s)

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do one piece of work; say what went wrong and do it again."""
        while True:
            try:
                await work()
            except (psycopg.Error, SplitguardError, OSError, TimeoutError) as error:
                self.say(f"failed, will try again: {error!r}"[:400])
                await asyncio.sleep(self.habits.poll_s)
            else:
                return

    async def _begin(self) -> None:
        """Start as what the data folder says, unless another one is active."""
        if self.layout.resync_mark.exists():
            await self._give_up(self.layout.resync_mark.read_text())
        elif self.server.is_standby_on_disk:
            await self.server.start()
        else:
            leader = await self._look_for_leader()
            if leader is None:
                await self.server.start()
                self.active = True
                self.say("active")
            else:
                await self._give_up(leader)
        self._busy = ""
        if not self.active:
            self.say("standby")

    async def _look_for_leader(self) -> str | None:
        """Return who is active already; None when nobody is, or nobody answers."""
        until = time.monotonic() + LOOK_AROUND_S
        while time.monotonic() < until:
            await self._look_at_others()
            others = self._others()
            for other in others.values():
                if other.active:
                    return other.name
            if len(others) == len(self.plan.nodes) - 1:
                return None
            await asyncio.sleep(self.habits.poll_s / 5)
        return None

    async def _make(self, move: Move) -> None:
        match move:
            case Stay():
                return
            case BecomeActive(why):
                await self.promote(why)
            case Follow(leader):
                self.say(f"following {leader}")
                conninfo = texts.primary_conninfo(self.plan, self.name, leader)
                await asyncio.to_thread(self.database.follow, conninfo)
            case GiveUp(winner, why):
                self.say(f"giving up for {winner}: {why}")
                await self._give_up(winner)

    async def _give_up(self, winner: str) -> None:
        """Become the winner's standby.

        Until the server has stopped, clients may go on writing to it: they do not
        know yet that they are at the wrong one.
        """
        permits = None
        if self.plan.options.agents and self.plan.options.capture:
            permits = Permits(self.layout, self.say)
        loser = Loser(
            plan=self.plan,
            name=self.name,
            server=self.server,
            database=self.database,
            permits=permits,
            say=self.say,
            stopped=self._retire,
        )
        async with self._work:
            self._busy = "resyncing"
            try:
                await resync(loser, winner)
            finally:
                self._busy = ""
        self.say("standby")

    def _retire(self) -> None:
        self.active = False

    def _others(self) -> dict[str, Standing]:
        """Return who has answered lately."""
        oldest = time.monotonic() - self.habits.lost_after_s
        return {
            name: seen.standing
            for name, seen in self._seen.items()
            if seen.at_s >= oldest
        }

    async def _look_at_others(self) -> None:
        others = (other.name for other in self.plan.others(self.name))
        await asyncio.gather(*(self._look_at(other) for other in others))

    async def _look_at(self, other: str) -> None:
        port = self.plan.way(self.name, other, "manager")
        with contextlib.suppress(CallError, CodecError):
            reply = await asyncio.to_thread(
                send_json,
                "GET",
                f"http://{HOST}:{port}/lab/v1/standing",
                token=self.plan.secrets.internal,
                timeout_s=POLL_TIMEOUT_S,
            )
            if reply.ok:
                standing = from_plain(reply.json(), Standing)
                self._seen[other] = Seen(standing, time.monotonic())

    async def _look_at_server(self) -> None:
        try:
            self._server_standing = await asyncio.to_thread(self.database.standing)
        except psycopg.Error:
            self._server_standing = None

    async def _control_shows_timeline(self) -> bool:
        await self._look_at_server()
        control = await asyncio.to_thread(self.database.control_timeline)
        mine = self._server_standing
        return mine is not None and not mine.in_recovery and control == mine.timeline

    # --- the agent ----------------------------------------------------------

    async def _keep_agent(self) -> None:
        """Run the agent, and run it again when it ends."""
        while True:
            agent = await launch(self.plan.layout, self._agent_launch())
            try:
                await agent.wait()
            finally:
                await end(agent, signal.SIGTERM, AGENT_STOP_S)
            log.warning("the agent ended with %s", agent.returncode)
            await asyncio.sleep(AGENT_AGAIN_S)

    def _agent_launch(self) -> Launch:
        config = str(self.layout.agent_config)
        return Launch(
            argv=[sys.executable, "-m", "agent", "run", "--config", config],
            cwd=self.layout.root,
            log=self.layout.log("agent"),
            env=os.environ | self._crash_point(),
        )

    def _crash_point(self) -> dict[str, str]:
        """Return the environment that makes the agent die at its crash point."""
        for wanted in self.plan.options.crash_at:
            node, _, point = wanted.partition(":")
            if node == self.name:
                mark = self.layout.root / "crashed"
                return {
                    "SPLITGUARD_CRASH_AT": point,
                    "SPLITGUARD_CRASH_MARK": str(mark),
                }
        return {}


async def run_machine(state_dir: Path, name: str) -> None:
    """Run one machine until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await Machine(load_plan(state_dir), name).run(stopping)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    asyncio.run(run_machine(Path(sys.argv[1]), sys.argv[2]))
