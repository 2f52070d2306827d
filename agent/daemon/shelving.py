"""Builds what keeps snapshots: the calendar, upkeep, and the way off-site.

Theory of operation. A part of the wiring: settings in, parts out, nothing runs yet.
Whatever of them is wrong is a ConfigError at the start. What may be away for a while,
such as a bucket or a mounted folder, is not looked at here.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config import Settings
from agent.core.standing import local_facts
from agent.daemon.calendar import Calendar
from agent.daemon.clock import SystemClock
from agent.daemon.lossjob import job_maker
from agent.daemon.lossmaker import LossMaker
from agent.daemon.runtime import Runtime
from agent.daemon.scheduled import ScheduledSnapshots
from agent.daemon.storytelling import StoryTelling
from agent.daemon.upkeep import EVERY, Upkeep
from agent.errors import ConfigError, SnapshotError
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.retention import Limits
from agent.snapshot.sealing import Seal, check_recipients
from agent.vnfm.shelf import Shelf

if TYPE_CHECKING:
    from agent.daemon.sender import Sender

log = logging.getLogger(__name__)


def upkeep(settings: Settings, runtime: Runtime) -> Upkeep:
    """Return what gives snapshots up."""
    catalogue = Catalogue(settings.capture_dir)
    return Upkeep(runtime, catalogue, _limits(settings), settings.offsite.url)


def calendar(settings: Settings, runtime: Runtime, upkeep: Upkeep) -> Calendar:
    """Declare what is due by the clock. Raises ConfigError on a bad expression."""
    calendar, cron = Calendar(), settings.capture.schedule
    catalogue = Catalogue(settings.capture_dir)
    calendar.every("upkeep", EVERY, upkeep.run)
    if cron is None:
        return calendar
    nightly = ScheduledSnapshots(runtime, upkeep, catalogue, cron)
    try:
        calendar.every("snapshot", cron, nightly.run)
        calendar.every("missed snapshot", EVERY, nightly.make_up)
    except ValueError as error:
        raise ConfigError(
            (f"capture.schedule = {cron!r}: {error}",),
            'give minute, hour, day, month, weekday, such as "30 2 * * *"',
        ) from error
    return calendar


def sender(settings: Settings, clock: SystemClock) -> "Sender | None":
    """Return what sends archives off-site. Raises ConfigError."""
    given = settings.offsite
    if given.url is None:
        return None
    # Object stores take 5 MB of memory, which an agent without one does not spend.
    from agent.daemon.sender import Sender  # noqa: PLC0415 - only where configured
    from agent.snapshot.offsite import (  # noqa: PLC0415 - only where configured
        Offsite,
        Place,
        read_credentials,
    )

    try:
        place = Place(
            url=given.url,
            endpoint=given.endpoint,
            region=given.region,
            credentials=(
                read_credentials(given.credentials_file)
                if given.credentials_file is not None
                else {}
            ),
            timeout_s=given.timeout_s,
        )
        seal = Seal(settings.capture.compress, settings.capture.recipients)
        offsite = Offsite(place, seal)
    except SnapshotError as error:
        raise ConfigError((error.message,), error.hint) from error
    if not settings.capture.recipients:
        log.warning(
            "archives go to %s unencrypted: capture.recipients is empty", given.url
        )
    return Sender(
        offsite,
        Catalogue(settings.capture_dir),
        clock.moment,
        settings.capture.max_mib_s * (1 << 20),
        Shelf(settings.manager_snapshots_dir),
    )


@dataclass(frozen=True, slots=True)
class LossWork:
    """What works on loss reports, of this side and for the other one."""

    maker: LossMaker
    telling: StoryTelling

    def start(self) -> None:
        """Begin to look for reports to be made."""
        self.maker.start()

    def stop(self) -> None:
        """End both, within 1 s."""
        self.telling.stop()
        self.maker.stop()


def loss_work(settings: Settings, runtime: Runtime) -> LossWork | None:
    """Return what works on loss reports; None where no server stands beside us."""
    mine = settings.node_settings(settings.me)
    if mine.postgres is None or not mine.local:
        return None
    maker = LossMaker(
        runtime,
        Catalogue(settings.capture_dir),
        job_maker(settings, lambda: runtime.state, lambda: runtime.now().wall_s),
        runtime.post_from_thread,
        by_itself=settings.loss.report and settings.capture.enabled,
    )
    telling = StoryTelling(lambda: local_facts(runtime.state), settings.local.bin_dir)
    return LossWork(maker, telling)


def _limits(settings: Settings) -> Limits:
    keep = settings.capture
    return Limits(
        scheduled=keep.keep,
        others=keep.keep_others,
        age_s=None if keep.keep_days is None else keep.keep_days * 86_400,
        size_bytes=None if keep.keep_gib is None else int(keep.keep_gib * (1 << 30)),
    )


def recipients(settings: Settings) -> tuple[str, ...]:
    """Return whom archives are encrypted for. Raises ConfigError on a wrong key."""
    try:
        check_recipients(settings.capture.recipients)
    except SnapshotError as error:
        problem = f"capture.recipients: {error.message}"
        raise ConfigError((problem,), error.hint) from error
    return settings.capture.recipients
