"""The stand-in manager of one node: its naive mind, its server, its REST API.

Theory of operation. It serves its API on its own port, polls the other nodes'
managers through the relays, and twice a second lets `Naive` choose a move and
carries it out, one at a time. A manager that is in no cluster, or was removed from
its own, chooses nothing. In the 4.x line the manager that leads is the active one
and works on the database beside it; from 5 on all are active, and each works on the
primary that it finds among those that answer, as the field's find it through
Patroni. One that finds none is left with the standby beside it.
"""

import asyncio
import contextlib
import functools
import logging
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

import psycopg
from starlette.types import ASGIApp

from agent.codec import from_plain
from agent.errors import CodecError, LabError, SplitguardError
from agent.lab import texts
from agent.lab.database import Database
from agent.lab.guard import Permits
from agent.lab.membership import Membership, companions, load, newest, save
from agent.lab.naive import (
    BecomeActive,
    Follow,
    GiveUp,
    Habits,
    Move,
    Naive,
    Stay,
    StepDown,
)
from agent.lab.plan import HOST, Plan
from agent.lab.ports import listen_on
from agent.lab.processes import kill_leftovers_in
from agent.lab.resync import NOTHING_HELD, Loser, bump, copy, resync
from agent.lab.server import STANDBY_SIGNAL, Server, installed
from agent.lab.standin.cluster import Note
from agent.lab.standing import ServerStanding, Standing, outranks
from agent.lab.web import CallError, send_json, serving

POLL_TIMEOUT_S = 0.8
LOOK_AROUND_S = 3.0
"""How long a machine that was primary looks for another one before it goes on."""
CONTROL_S = 30.0
NOTES_MAX = 200
REMOVED = "removed from the cluster"
JOINING = "joining"

log = logging.getLogger("lab.manager")


@dataclass(frozen=True, slots=True)
class Seen:
    """What another manager said, and when."""

    standing: Standing
    at_s: float


class Manager:
    """One node's manager."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name
        self.layout = plan.layout.node(name)
        self.server = Server(installed(plan, name))
        self.database = Database(self.server)
        if plan.options.all_active:
            self.database.where = self._primary
        self.habits = Habits(settle_s=plan.options.settle_s)
        upstreams = {
            plan.way(name, other.name, "replication"): other.name
            for other in plan.others(name)
        }
        self.naive = Naive(name, upstreams, self.habits)
        self.membership = load(self.layout.membership)
        self.leads = False
        """Whether its database is the one that takes writes, as far as it knows."""
        self._forced = False
        """Whether an operator promoted it, whatever a majority says."""
        self.work = asyncio.Lock()
        """Held by whatever changes the server; never two at once."""
        self.busy = "starting"
        self._note = "starting"
        self.notes: deque[Note] = deque(maxlen=NOTES_MAX)
        self._server_standing: ServerStanding | None = None
        self._seen: dict[str, Seen] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> bool:
        """Whether it takes requests for writes."""
        return self.leads or self.plan.options.all_active

    @property
    def removed(self) -> bool:
        """Whether it was removed from its cluster."""
        return self.membership.lost(self.name)

    @property
    def standing(self) -> Standing:
        """What this manager says of itself."""
        return Standing(
            name=self.name,
            active=self.leads,
            busy=self.busy,
            server=self._server_standing,
            decision=self.naive.decision,
            met=self.naive.meeting is not None,
            note=self._note,
            membership=self.membership,
        )

    def say(self, words: str) -> None:
        """Note what is being done, for the log and for whoever asks."""
        self._note = words
        cursor = self.notes[-1].cursor + 1 if self.notes else 1
        self.notes.append(Note(int(time.time() * 1_000_000), words, cursor))
        log.info("%s", words)

    def keep(self, membership: Membership) -> None:
        """Hold another list of the cluster's nodes from now on."""
        save(self.layout.membership, membership)
        self.membership = membership

    def soon(self, work: Coroutine[object, object, None]) -> None:
        """Do something while the asker has his answer; it ends with the manager."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def promote(self, why: str) -> None:
        """Promote the server and become the active manager."""
        async with self.work:
            self.say(f"becoming active: {why}")
            await asyncio.to_thread(self.database.promote)
            await self.look_at_server()
            self.leads = self._forced = True
            self.say("active")

    async def prepare(self, histories: dict[str, str]) -> None:
        """Be a source that pg_rewind can work with: above the loser's timelines.

        Raises LabError when pg_control does not show the timeline in time.
        """
        async with self.work:
            await self.look_at_server()
            mine = self._server_standing
            if mine is not None and not outranks(mine, histories):
                self.say("moving to a timeline above the loser's")
                await bump(self.plan, self.name, self.server, histories)
                await self.look_at_server()
            await asyncio.to_thread(self.database.checkpoint)
            until = time.monotonic() + CONTROL_S
            while not await self._control_shows_timeline():
                if time.monotonic() > until:
                    raise LabError("pg_control does not show the new timeline")
                await asyncio.sleep(self.habits.poll_s / 5)
            self.say("active")

    async def run(self, app: ASGIApp) -> None:
        """Be this manager, which answers with `app`, until cancelled.

        Its server ends with it.
        """
        kill_leftovers_in(self.server.data_dir)
        self.server.forget_postmaster()
        listener = listen_on(self.plan.node(self.name).manager_port)
        async with serving(app, listener):
            self.soon(self._manage())
            try:
                await asyncio.Event().wait()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self.server.stop(signal.SIGQUIT)

    async def _manage(self) -> None:
        """Start the server, then look around and act, for ever."""
        await self._until_done(self._begin)
        while True:
            await asyncio.gather(self.look_at_server(), self._look_at_others())
            if not self.work.locked():
                # Half a promotion looks like a node that is past its leader's line.
                if self.membership.has(self.name):
                    now_s, others = time.monotonic(), self.others()
                    move = self.naive.decide(self.standing, others, now_s, self._voters)
                    await self._until_done(functools.partial(self._make, move))
                elif self.membership.cluster and self.leads:
                    await self._withdraw()
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
        """Start as what the data folder says, unless another one is active.

        A primary that was removed from its cluster meanwhile is not started at all.
        """
        if self.layout.resync_mark.exists():
            marked = self.layout.resync_mark.read_text()
            winner = marked.removeprefix(NOTHING_HELD)
            held = winner == marked
            await (self._give_up(winner) if held else self.become_copy(winner))
        elif self.server.is_standby_on_disk:
            await self.server.start()
        else:
            leader = await self._look_for_leader()
            if leader is not None:
                await self._give_up(leader)
            elif not self.removed:
                await self._start_alone()
        self.busy = ""
        waits = REMOVED if self.removed else "standby"
        self.say("active" if self.leads else waits)

    async def _start_alone(self) -> None:
        """Start what was a primary, as a standby where it needs a majority first."""
        self.leads = 2 * (len(self.others()) + 1) > self._voters
        if not self.leads:
            self.server.write(STANDBY_SIGNAL, "")
        await self.server.start()

    @property
    def _voters(self) -> int:
        """Of how many a majority is asked for; 0: of none.

        Whom an operator promoted stays active, until it sees the others again.
        """
        members = len(self.membership.members)
        if 2 * (len(self.others()) + 1) > members:
            self._forced = False
        free = self._forced or not self.plan.options.all_active
        return 0 if free else members

    async def _look_for_leader(self) -> str | None:
        """Return who is active already; None when nobody is, or nobody answers."""
        until = time.monotonic() + LOOK_AROUND_S
        while self.membership.has(self.name) and time.monotonic() < until:
            await self._look_at_others()
            others = self.others()
            for other in others.values():
                if other.active:
                    return other.name
            if len(others) == len(self.membership.members) - 1:
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
            case StepDown():
                await self._step_down()
            case GiveUp(winner, why):
                self.say(f"giving up for {winner}: {why}")
                await self._give_up(winner)

    async def _step_down(self) -> None:
        """Go on as a standby of nobody, as Patroni does without its majority."""
        async with self.work:
            self.say("stepping down: no majority is in sight")
            self.leads = False
            await self.server.stop()
            self.server.write(STANDBY_SIGNAL, "")
            await self.server.start()
            self.say("standby")

    async def _give_up(self, winner: str) -> None:
        """Become the winner's standby.

        Until the server has stopped, clients may go on writing to it: they do not
        know yet that they are at the wrong one.
        """
        permits = None
        if self.plan.options.agents and self.plan.options.capture:
            permits = Permits(self.layout, self.say)
        async with self.work:
            self.busy = "resyncing"
            try:
                await resync(self._loser(permits), winner)
            finally:
                self.busy = ""
        self.say("standby")

    async def become_copy(self, source: str) -> None:
        """Become the standby of another one; what it has is nothing."""
        async with self.work:
            self.busy = JOINING
            await copy(self._loser(None), source)
            self.busy = ""
        self.say("standby")

    def _loser(self, permits: Permits | None) -> Loser:
        """Return what becomes another one's copy."""
        return Loser(
            plan=self.plan,
            name=self.name,
            server=self.server,
            database=self.database,
            permits=permits,
            say=self.say,
            stopped=self._retire,
        )

    def _retire(self) -> None:
        self.leads = False

    async def _withdraw(self) -> None:
        """Take no more writes: the others have gone on without this node."""
        async with self.work:
            self.leads = False
            await self.server.stop()
            await self.look_at_server()
            self.say(REMOVED)

    def others(self) -> dict[str, Standing]:
        """Return who of the cluster has answered lately; nobody to who is in none."""
        oldest = time.monotonic() - self.habits.lost_after_s
        if not self.membership.has(self.name):
            return {}
        lately = {
            name: seen.standing
            for name, seen in self._seen.items()
            if seen.at_s >= oldest
        }
        return companions(self.membership, lately)

    async def _look_at_others(self) -> None:
        others = (other.name for other in self.plan.others(self.name))
        await asyncio.gather(*(self.look_at(other) for other in others))

    async def look_at(self, other: str) -> Standing | None:
        """Ask another manager how it stands, and hear who belongs to the cluster."""
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
                held = newest(self.membership, standing.membership)
                if held != self.membership:
                    self.keep(held)
                return standing
        return None

    async def look_at_server(self) -> ServerStanding | None:
        """Ask the server beside it where it is."""
        try:
            self._server_standing = await asyncio.to_thread(self.database.standing)
        except psycopg.Error:
            self._server_standing = None
        return self._server_standing

    async def _control_shows_timeline(self) -> bool:
        mine = await self.look_at_server()
        control = await asyncio.to_thread(self.database.control_timeline)
        return mine is not None and not mine.in_recovery and control == mine.timeline

    def _primary(self) -> str | None:
        """Return how to reach the primary on another node; None: use one's own."""
        if self.leads:
            return None
        for name, other in sorted(self.others().items()):
            if other.active and other.server and not other.server.in_recovery:
                return texts.manager_conninfo(self.plan, self.name, name)
        return None
