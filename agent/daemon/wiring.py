"""Puts the agent together: the only module that knows every part by name.

Theory of operation. `assemble` builds each part from the settings, in an order in
which whatever can fail fails first and says what to do; nothing runs yet. The
Assembly then offers the long-running parts to the life cycle and takes everything
down again. A node without a PostgreSQL of its own (a witness, or an agent that
stands elsewhere) has neither disk reader nor capture engine.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.api.app import make_app
from agent.api.ports import ApiOptions
from agent.api.shelf import CatalogueShelf
from agent.config import Settings
from agent.core.capture import CaptureStatus
from agent.core.event import CaptureReported, NoticeDelivered, ReceiversTried, Started
from agent.core.state import State
from agent.daemon import sdnotify, servers
from agent.daemon.asking import clients_of, prober_of
from agent.daemon.beside import MIB, ServerBeside
from agent.daemon.cadence import Cadence
from agent.daemon.calendar import Calendar
from agent.daemon.clock import SystemClock
from agent.daemon.crash import CrashPoints
from agent.daemon.executor import ActionExecutor
from agent.daemon.forecast import keep_looking, keep_watching_the_gate
from agent.daemon.managers_making import Managing, managing
from agent.daemon.recorder import Recorder
from agent.daemon.reload import Reload, channels_of, token_book
from agent.daemon.removals import Removals
from agent.daemon.renderer import Renderer
from agent.daemon.runtime import Parts, Runtime
from agent.daemon.shelving import (
    LossWork,
    calendar,
    loss_work,
    recipients,
    sender,
    upkeep,
)
from agent.errors import ConfigError, JournalError
from agent.notify.outbox import OutboxWorker
from agent.probe.prober import NetworkProber
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.reserve import Reserve
from agent.snapshot.settings import MakesWay
from agent.store.opening import JOURNAL_FILE
from agent.store.sqlite import SqliteJournal
from agent.transport import HttpClient

if TYPE_CHECKING:
    from agent.daemon.sender import Sender

log = logging.getLogger(__name__)

T = TypeVar("T")


class OnThread(Protocol):
    """Runs a call on a thread of its own and waits for its result."""

    async def __call__(self, call: Callable[[], T]) -> T:
        """Return what the call returns."""
        ...


@dataclass
class Assembly:
    """All parts of one agent, built and not yet running."""

    reload: Reload
    settings: Settings
    """As the agent was built; what can be changed since stands in `reload`."""
    runtime: Runtime
    cadence: Cadence
    outbox: OutboxWorker
    calendar: Calendar
    sender: "Sender | None"
    losses: LossWork | None
    managing: Managing | None
    servers: servers.Servers
    options: ApiOptions
    beside: ServerBeside | None
    journal: SqliteJournal
    recorder: Recorder
    journal_thread: ThreadPoolExecutor
    prober: NetworkProber
    clients: list[HttpClient] = field(default_factory=list)

    async def serve(self) -> None:
        """Answer HTTP until the end begins."""
        await self.servers.run()

    def parts(
        self, hang_up: asyncio.Event
    ) -> tuple[Coroutine[object, object, None], ...]:
        """Return everything that runs until it is cancelled.

        With each `hang_up` the configuration is read anew.
        """
        self.calendar.start()
        if self.sender is not None:
            self.sender.start()
        if self.losses is not None:
            self.losses.start()
        parts = [
            self.runtime.run(),
            self._begin(),
            self.outbox.run(),
            self.recorder.run(),
            self._keep_counting(),
            self.reload.run(hang_up),
        ]
        if self.managing is not None and self.managing.work is not None:
            parts.append(self.managing.work.run())
        if self.beside is not None:
            parts.append(self.cadence.read_disk())
            parts += self._lookouts(self.beside)
        return tuple(parts)

    def _lookouts(self, beside: ServerBeside) -> list[Coroutine[object, object, None]]:
        """Return what looks now and then at what lies beside the server."""
        settings, runtime, clock = self.settings, self.runtime, SystemClock()
        removals = Removals(settings.capture_dir)
        now = self.reload
        return [
            keep_looking(beside, settings, clock, runtime.post),
            keep_watching_the_gate(
                lambda: now.settings, lambda: runtime.state, clock, runtime.post
            ),
            removals.watch(settings.me, lambda: runtime.state, clock, runtime.post),
        ]

    def begin_end(self) -> None:
        """Take no new requests, and let waiting ones go."""
        self.options.closing.set()
        self.servers.stop()

    async def close(self) -> None:
        """Stop what runs in threads, then close files and connections."""
        self.calendar.stop()
        if self.sender is not None:
            await asyncio.to_thread(self.sender.stop)
        if self.losses is not None:
            await asyncio.to_thread(self.losses.stop)
        if self.beside is not None:
            await asyncio.to_thread(self.beside.stop)
        if self.managing is not None:
            await self.managing.close()
        await self.prober.close()
        for client in self.clients:
            await client.close()
        await self.recorder.freshen()
        self.journal_thread.shutdown(wait=True)
        self.journal.close()

    async def _begin(self) -> None:
        """Tell the core of the start before the first observation, then ask."""
        boot_id = secrets.token_hex(8)
        await self.runtime.submit(Started(self.runtime.now(), boot_id))
        await self.cadence.run()

    async def _keep_counting(self) -> None:
        """Tell systemd of life and refresh the outbox counts while rounds finish."""
        seen = -1
        while True:
            await SystemClock().sleep(1.0)
            loop = asyncio.get_running_loop()
            try:
                self.runtime.outbox = await loop.run_in_executor(
                    self.journal_thread, self.journal.counts
                )
            except JournalError as error:
                log.warning("journal: %s", error)
            if self.runtime.state.view.sequence > seen:
                seen = self.runtime.state.view.sequence
                sdnotify.alive()


async def assemble(
    settings: Settings, environ: Mapping[str, str], read: Callable[[], Settings]
) -> Assembly:
    """Build all parts of the agent; `read` reads the configuration once more.

    Raises SplitguardError (ConfigError, JournalError) with what to do.
    """
    clock, crash = SystemClock(), CrashPoints(environ)
    reserve = Reserve(settings.capture_dir, int(settings.capture.reserve * MIB))
    _make_private(settings.state_dir, "state_dir")
    _make_private(settings.capture_dir, "capture.dir")
    tokens = token_book(settings)
    clients = clients_of(settings)
    receivers = clients.receivers
    tcp, unix = servers.bind_tcp(settings.listen), servers.bind_unix(settings.socket)
    journal_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
    journal = await _on(journal_thread)(
        lambda: SqliteJournal(
            settings.state_dir / JOURNAL_FILE, _spare(settings, reserve)
        )
    )
    recorder = Recorder(settings.policy(), journal, clock, _on(journal_thread))
    restored = journal.load()
    renderer = Renderer(settings)
    parts = _parts(settings, journal, recorder, _on(journal_thread), crash)
    runtime = Runtime(
        replace(parts, render=renderer),
        State(restored.ledger, restored.knowledge),
    )
    prober = prober_of(settings, clock, clients)
    keeper = upkeep(settings, runtime)
    beside = _beside(settings, runtime, crash, MakesWay(reserve, keeper))
    outbox = _outbox(settings, journal, receivers, runtime, _on(journal_thread))
    cadence = Cadence(
        prober, beside, clock, settings.policy(), runtime.post, lambda: runtime.state
    )
    executor = ActionExecutor(prober, beside, clock, runtime.post, outbox.wake)
    runtime.employ(executor, cadence.hurry)
    losses = loss_work(settings, runtime)
    managers = managing(settings, runtime)
    options = _options(settings, recorder, losses, managers)
    app = make_app(runtime, _shelf(settings), tokens, options)
    reload = Reload(
        read, settings, app.state.context, prober, outbox, renderer, receivers, managers
    )
    return Assembly(
        reload=reload,
        settings=settings,
        runtime=runtime,
        cadence=cadence,
        outbox=outbox,
        calendar=calendar(settings, runtime, keeper),
        sender=sender(settings, clock),
        losses=losses,
        managing=managers,
        servers=servers.Servers(app, tcp, unix, _server_tls(settings)),
        options=options,
        beside=beside,
        journal=journal,
        recorder=recorder,
        journal_thread=journal_thread,
        prober=prober,
        clients=clients.all,
    )


def _outbox(
    settings: Settings,
    journal: SqliteJournal,
    receivers: HttpClient,
    runtime: Runtime,
    on_thread: OnThread,
) -> OutboxWorker:
    clock = SystemClock()
    return OutboxWorker(
        journal,
        channels_of(settings, receivers),
        clock,
        on_thread,
        lambda notice_id: runtime.post(NoticeDelivered(clock.moment(), notice_id)),
        lambda receivers, failing: runtime.post(
            ReceiversTried(clock.moment(), receivers, failing)
        ),
    )


def _shelf(settings: Settings) -> CatalogueShelf:
    return CatalogueShelf(
        Catalogue(settings.capture_dir),
        settings.local.bin_dir,
        recipients(settings),
    )


def _parts(
    settings: Settings,
    journal: SqliteJournal,
    recorder: Recorder,
    on_thread: OnThread,
    crash: CrashPoints,
) -> Parts:
    return Parts(
        policy=settings.policy(),
        journal=journal,
        clock=SystemClock(),
        render=Renderer(settings),
        on_journal_thread=on_thread,
        crash=crash,
        note=recorder.note,
    )


def _on(pool: ThreadPoolExecutor) -> OnThread:
    """Return a function that runs a call on the pool's thread and waits for it."""

    async def run(call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    return run


def _make_private(folder: Path, key: str) -> None:
    """Make a folder that only this user may enter. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            (f"{key} = {str(folder)!r}: cannot be made: {error.strerror}",),
            "make it by hand and give it to the agent's user, mode 0700",
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            (f"{key} = {str(folder)!r}: this user may not write there",),
            "give it to the agent's user, mode 0700; or is the file system read-only?",
        )


def _server_tls(settings: Settings) -> servers.Tls | None:
    tls = settings.tls
    if tls.cert is None or tls.key is None:
        return None
    return servers.Tls(cert=tls.cert, key=tls.key, ca=tls.ca)


def _beside(
    settings: Settings, runtime: Runtime, crash: CrashPoints, makes_way: MakesWay
) -> ServerBeside | None:
    mine = settings.node_settings(settings.me)
    if mine.postgres is None or not mine.local:
        return None

    def told(status: CaptureStatus) -> None:
        runtime.post_from_thread(CaptureReported(runtime.now(), status))

    printed = runtime.state.knowledge.printed.get(settings.me)
    return ServerBeside(settings, runtime.now, told, crash, makes_way, printed)


def _spare(settings: Settings, reserve: Reserve) -> Callable[[], bool]:
    """Return what makes room for the journal when its disk is full."""

    def make_room() -> bool:
        return reserve.is_beside(settings.state_dir) and reserve.give_back(
            "the journal"
        )

    return make_room


def _options(
    settings: Settings,
    recorder: Recorder,
    losses: LossWork | None,
    managers: Managing | None,
) -> ApiOptions:
    host, _ = settings.listen_address
    return ApiOptions(
        loopback=host == "localhost" or ip_address(host.strip("[]")).is_loopback,
        fail_closed=settings.lb.fail_closed,
        agent_urls={m.name: m.agent for m in settings.members if m.agent},
        rounds=recorder,
        losses=None if losses is None else losses.maker,
        changes=None if losses is None else losses.telling,
        managers=None if managers is None else managers.shelf,
    )
