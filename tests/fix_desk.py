"""An agent to serve over HTTP: the real core, in the simulated world, behind the ports.

`SimulatedDesk` is a Desk over one agent of a Simulation; `MemoryShelf` is a
SnapshotShelf that keeps its snapshots as dictionaries of bytes. `stories` makes the
states that the tests look at. Both doubles stand at ports; nothing of ours is
replaced.
"""

import asyncio
import contextlib
import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from agent.api.access import LocalDoor
from agent.api.app import make_app
from agent.api.ports import ApiOptions, ArchiveOf, SnapshotCard, VerifyReport
from agent.api.tokens import Scope, TokenBook, create
from agent.core.event import Event
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import Archiver, Channel, Report, Slot
from agent.core.policy import Policy
from agent.core.reporting import make_report
from agent.core.state import State
from agent.errors import CatalogueError
from agent.ports import OutboxCounts
from agent.snapshot.marks import Kept
from tests.sim.harness import Simulation


class SimulatedDesk:
    """One agent of a simulation, as the routes see it."""

    def __init__(self, sim: Simulation, me: str) -> None:
        self.sim = sim
        self.me = me
        self.revision = 1
        self.journal_error: str | None = None
        self.outbox = OutboxCounts(0, 0)
        self.heard_by: list[str | None] = []
        self._news = asyncio.Condition()

    @property
    def state(self) -> State:
        return self.sim.agents[self.me].state

    @state.setter
    def state(self, state: State) -> None:
        self.sim.agents[self.me].state = state

    @property
    def policy(self) -> Policy:
        return self.sim.agents[self.me].policy

    def now(self) -> Moment:
        return self.sim.moment()

    def report(self, heard_by: str | None) -> Report:
        self.heard_by.append(heard_by)
        return make_report(self.state, self.now(), self.policy)

    async def submit(self, event: Event) -> State:
        self.sim.submit(self.me, event)
        await self.bump()
        return self.state

    async def changed(self, since_revision: int, timeout_s: float) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self.revision > since_revision)
        return self.revision

    async def bump(self) -> None:
        """Something that people see has changed."""
        async with self._news:
            self.revision += 1
            self._news.notify_all()


@dataclass
class MemoryArchive:
    """A tar file in memory, whose stream can break off."""

    content: bytes
    shelf: "MemoryShelf"

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def tag(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:32]

    def stream(self, start: int = 0) -> Iterator[bytes]:
        self.shelf.starts.append(start)
        for at in range(start, len(self.content), 4096):
            if self.shelf.breaks and at - start > self.shelf.breaks[0]:
                self.shelf.breaks.pop(0)
                raise OSError("the disk is gone")
            yield self.content[at : at + 4096]


@dataclass
class MemoryShelf:
    """Snapshots in memory."""

    cards: dict[str, SnapshotCard] = field(default_factory=dict)
    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)
    unreadable: str = ""
    removed: list[tuple[str, str, str]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    """After so many bytes the next stream breaks off, and the one after it."""
    starts: list[int] = field(default_factory=list)
    """From which byte each stream began."""

    def add(self, card: SnapshotCard, contents: dict[str, bytes]) -> None:
        self.cards[card.id], self.contents[card.id] = card, contents

    def list(self) -> tuple[SnapshotCard, ...]:
        if self.unreadable:
            raise CatalogueError(self.unreadable, "look at the disk")
        return tuple(reversed(self.cards.values()))

    def show(self, snapshot_id: str) -> SnapshotCard | None:
        return self.cards.get(snapshot_id)

    def archive(self, snapshot_id: str) -> "MemoryArchive":
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in self.contents[snapshot_id].items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return MemoryArchive(packed.getvalue(), self)

    def digest(self, archive: ArchiveOf) -> str:
        return hashlib.sha256(b"".join(archive.stream())).hexdigest()

    def verify(self, snapshot_id: str) -> VerifyReport:
        contents = self.contents[snapshot_id]
        broken = tuple(f"{name} is empty" for name, c in contents.items() if not c)
        total = sum(map(len, contents.values()))
        grade = self.cards[snapshot_id].grade
        return VerifyReport(
            snapshot_id, not broken, grade, len(contents), total, broken
        )

    def keep(self, snapshot_id: str, mark: Kept) -> None:
        self.cards[snapshot_id] = replace(self.cards[snapshot_id], kept=mark)

    def release(self, snapshot_id: str) -> None:
        self.cards[snapshot_id] = replace(self.cards[snapshot_id], kept=None)

    def remove(self, snapshot_id: str, who: str, reason: str, wall_s: float) -> None:
        del self.cards[snapshot_id]
        self.removed.append((snapshot_id, who, reason))


def card(snapshot_id: str = "n1-abc", **more) -> SnapshotCard:
    """A complete snapshot of n1."""
    return replace(
        SnapshotCard(
            id=snapshot_id,
            node="n1",
            cluster="sim",
            created_wall_s=1_800_001_000.0,
            grade="complete",
            levels=("tail", "pin", "full"),
            method="copy",
            reason="split-brain",
            incident_ids=("inc-1",),
            system_id="7300000000000000001",
            timeline=1,
            start_lsn="0/2000000",
            end_lsn="0/3000A00",
            bytes=41_900_000,
            files=2,
            version_num=160014,
            closed=True,
        ),
        **more,
    )


@dataclass
class Served:
    """An app, what stands behind it, and a token of each scope."""

    app: FastAPI
    desk: SimulatedDesk
    shelf: MemoryShelf
    options: ApiOptions
    tokens: dict[str, str]
    loop: asyncio.AbstractEventLoop | None = None
    news: asyncio.Future[None] | None = None

    def on_loop(self, act: Callable[[], object]) -> None:
        """Do something in the thread that serves, and wait until it is done."""
        assert self.loop is not None
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(10)

    async def waited_on(self) -> None:
        """Wait until a request waits for a change."""
        async with asyncio.timeout(5):
            while not self.app.state.context.waiting:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)

    def become(self, sim: Simulation) -> None:
        """Let the agent that is served be one of another simulation."""

        def change() -> None:
            self.desk.sim = sim
            self.news = asyncio.ensure_future(self.desk.bump())

        self.on_loop(change)

    def client(self, scope: str | None = None, **more) -> httpx.AsyncClient:
        """A client over TCP, with a token of this scope, or without one."""
        headers = {"Authorization": f"Bearer {self.tokens[scope]}"} if scope else {}
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=False, client=("127.0.0.1", 40000)
        )
        return httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers, **more
        )

    def local(self) -> httpx.AsyncClient:
        """A client over the unix socket."""

        transport = httpx.ASGITransport(LocalDoor(self.app), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://agent")


PEER_TOKEN = "one-secret-that-all-agents-share"


def token_book() -> tuple[TokenBook, dict[str, str]]:
    """A book with one token of each scope."""
    tokens, entries = {"peer": PEER_TOKEN}, []
    for scope in (Scope.READ, Scope.OPERATE, Scope.DATA):
        token, line = create(f"{scope.value}-name", scope)
        tokens[scope.value] = token
        entries.append(line)
    return TokenBook.parse("\n".join(entries), PEER_TOKEN), tokens


def serve(
    sim: Simulation, me: str = "n1", *, with_tokens: bool = True, **options
) -> Served:
    """Serve one agent of a simulation."""
    desk, shelf = SimulatedDesk(sim, me), MemoryShelf()
    book, tokens = token_book()
    made = ApiOptions(**options)
    app = make_app(desk, shelf, book if with_tokens else None, made)
    return Served(app, desk, shelf, made, tokens)


def healthy() -> Simulation:
    """Three nodes, n1 the primary, all well."""
    sim = Simulation()
    for server in sim.world.servers.values():
        server.archives = False
    sim.run(10)
    return sim


def node_down() -> Simulation:
    """n3 has died and everybody knows."""
    sim = healthy()
    sim.world.kill("n3")
    sim.run(12)
    return sim


def half_blind() -> Simulation:
    """n1 gets no answer of n3's PostgreSQL, and hears n3's agent."""
    sim = healthy()
    sim.world.network.mute.add(("n1", "n3", Channel.POSTGRES))
    sim.run(8)
    return sim


def neglected() -> Simulation:
    """n1's archive fails, it lost a slot and feeds an idle one; n2 replays late."""
    sim = healthy()
    agent = sim.agents["n1"]
    latest = dict(agent.state.view.alive)
    primary, standby = (latest[f"{name}/postgres"] for name in ("n1", "n2"))
    assert primary.postgres is not None
    assert standby.postgres is not None
    end = Lsn(3 << 30)
    slots = (
        Slot("busy", "physical", active=True, restart_lsn=Lsn(0x1000), lost=False),
        Slot("gone", "logical", active=False, restart_lsn=Lsn(0x1000), lost=True),
        Slot("idle", "physical", active=False, restart_lsn=Lsn(1 << 30), lost=False),
        Slot("new", "physical", active=False, restart_lsn=None, lost=False),
        Slot("spare", "physical", active=False, restart_lsn=Lsn(2 << 30), lost=False),
    )
    archiver = Archiver(
        "archive_command", "a" * 64, False, 7, "0" * 23 + "6", True, "0" * 23 + "7"
    )
    told = replace(
        primary.postgres, write_lsn=end, flush_lsn=end, slots=slots, archiver=archiver
    )
    late = replace(standby.postgres, flush_lsn=Lsn(0x3000), replay_lsn=Lsn(0x1000))
    latest["n1/postgres"] = replace(primary, postgres=told)
    latest["n2/postgres"] = replace(standby, postgres=late)
    view = replace(agent.state.view, latest=latest, alive=latest, reports={})
    agent.state = replace(agent.state, view=view)
    return sim


def isolated() -> Simulation:
    """n1, the primary, is cut off and takes writes; n2 was promoted meanwhile."""
    sim = healthy()
    for row in range(5):
        sim.world.write("n1", f"before {row}")
    sim.run(3)
    sim.world.cut_off("n1")
    sim.run(5)
    sim.world.elect("n2", "n3", rows=40, beside="n1")
    sim.run(3)
    return sim


def split_brain() -> Simulation:
    """The network is back: two primaries, proven."""
    sim = isolated()
    sim.world.heal()
    sim.run(6)
    return sim


def resynced() -> Simulation:
    """n1 has lost, was stopped and rewound, and everything is over but its copy."""
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.run(3)
    sim.world.rewind("n1", "n2")
    sim.run(30)
    return sim


STORIES: dict[str, Callable[[], Simulation]] = {
    "healthy": healthy,
    "node-down": node_down,
    "isolated": isolated,
    "split-brain": split_brain,
    "resynced": resynced,
}


@pytest.fixture
def served() -> Served:
    """A healthy cluster, seen from n1."""
    return serve(healthy())


@contextlib.contextmanager
def listening(served: Served, at: Path | None = None) -> Iterator[str]:
    """Serve on a free loopback port, in a thread of its own; yield the address.

    With `at`, serve on that unix socket instead. The desk then belongs to that thread:
    use `on_loop` to change it.
    """
    sock = socket.socket(socket.AF_UNIX if at else socket.AF_INET)
    sock.bind(str(at) if at else ("127.0.0.1", 0))
    sock.listen(64)  # who comes before the server is up waits instead of being refused
    app = LocalDoor(served.app) if at else served.app
    config = uvicorn.Config(app, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    started = threading.Event()

    async def run() -> None:
        served.loop = asyncio.get_running_loop()
        started.set()
        await server.serve(sockets=[sock])

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait(10)
    try:
        yield "http://agent" if at else f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        served.on_loop(served.options.closing.set)
        server.should_exit = True
        thread.join(10)
        sock.close()
        assert not thread.is_alive()
