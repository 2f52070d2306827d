"""Builds what looks after the manager beside this agent.

Theory of operation. A part of the wiring: settings in, parts out, nothing runs yet. A
wrong schedule is a ConfigError at the start; the login is read with the first request,
so that a file which is put right later needs no restart. An agent without a manager
beside it, or without its login, has a shelf to look at and nothing that asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import Settings
from agent.core.managercare import writing_harmless
from agent.core.observation import ServerFacts
from agent.daemon.clock import SystemClock
from agent.daemon.gently import gently
from agent.daemon.managers import Habits, ManagerWork, Stock
from agent.daemon.managers_means import Means, MeansKept
from agent.daemon.managers_rota import Rota, Schedule
from agent.daemon.managers_shelf import ManagerShelf, pruner
from agent.daemon.runtime import Runtime
from agent.errors import ConfigError
from agent.snapshot.room import MAX_WAL_BYTES, measure, server_paths
from agent.vnfm.client import CreateOptions, ManagerClient
from agent.vnfm.connect import http_of, kept_login
from agent.vnfm.keeping import Keeper, Manner
from agent.vnfm.seasons import Limits
from agent.vnfm.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Managing:
    """What there is of it in one agent."""

    shelf: ManagerShelf
    work: ManagerWork | None
    """None where no manager stands beside the agent, or it has no login."""

    async def renew(self) -> None:
        """Read the login anew with the next request."""
        if self.work is not None:
            await self.work.renew()

    async def close(self) -> None:
        """Give up what is on its way to the manager."""
        if self.work is not None:
            await self.work.close()


def managing(settings: Settings, runtime: Runtime) -> Managing | None:
    """Return what looks after the manager here; None where none stands.

    Raises ConfigError.
    """
    given = settings.vnfm
    schedule = _schedule(settings)
    url = settings.node_settings(settings.me).manager
    if url is None:
        return None
    shelf = Shelf(settings.manager_snapshots_dir)
    if not given.has_login:
        return Managing(ManagerShelf(shelf, None), None)
    clock = SystemClock()
    limits = Limits(
        given.keep_daily, given.keep_weekly, given.keep_monthly, given.keep_yearly
    )
    work = ManagerWork(
        runtime,
        clock,
        runtime.post,
        MeansKept(_connect(settings, url, shelf, runtime)),
        Stock(
            shelf,
            Rota(settings.manager_snapshots_dir, schedule, clock.moment().wall_s),
            pruner(
                shelf,
                limits,
                given.time_zone,
                lambda: clock.moment().wall_s,
                settings.offsite.url,
            ),
        ),
        Habits(given.protect, given.look_s, given.alert_after_h * 3600.0),
    )
    return Managing(ManagerShelf(shelf, work), work)


def _schedule(settings: Settings) -> Schedule | None:
    given = settings.vnfm
    if given.schedule is None:
        return None
    if not given.has_login:
        raise ConfigError(
            (f"vnfm.schedule = {given.schedule!r}: there is no login to do it with",),
            "set vnfm.password_file or token_file, or leave schedule out",
        )
    schedule = Schedule(
        given.schedule, given.time_zone, given.jitter_s, settings.cluster
    )
    try:
        schedule.due_s(SystemClock().moment().wall_s)
    except ValueError as error:
        raise ConfigError(
            (f"vnfm.schedule = {given.schedule!r}: {error}",),
            'give minute, hour, day, month, weekday, such as "30 2 * * *"',
        ) from error
    return schedule


def _connect(
    settings: Settings, url: str, shelf: Shelf, runtime: Runtime
) -> Callable[[], Means]:
    """Return what makes client and keeper from what the login's file says now."""
    given = settings.vnfm
    clock = SystemClock()
    manner = Manner(
        cluster=settings.cluster,
        options=CreateOptions(
            include_metrics=given.include_metrics,
            include_credentials=given.include_credentials,
            include_logs=given.include_logs,
            include_events=given.include_events,
        ),
        wait_s=given.wait_s,
        remove=given.remove,
        certificates=given.certificates,
        recipients=settings.capture.recipients,
        floor_bytes=_floor(settings, runtime),
        may_ask=lambda: writing_harmless(runtime.state, runtime.policy),
    )

    def connect() -> Means:
        logins, http = kept_login(given), http_of(settings)
        client = ManagerClient(url, logins, http, clock)
        keeper = Keeper(client, shelf, manner, clock, gently)
        return Means(client, logins, keeper, http)

    return connect


def _floor(settings: Settings, runtime: Runtime) -> Callable[[Path], int]:
    """Return what says how much must stay free: PostgreSQL may be on that volume."""

    def floor(folder: Path) -> int:
        server = runtime.state.view.server
        data_dir = settings.local.data_dir
        if isinstance(server, ServerFacts):
            data_dir = Path(server.data_dir)
        paths = server_paths(data_dir) if data_dir is not None else ()
        return measure(folder, paths, MAX_WAL_BYTES).floor_bytes

    return floor
