"""Work by the wall clock: what is due at a time of day and not in a round.

Theory of operation. APScheduler follows the wall clock, which a probe must never
do and a nightly snapshot should. Runs that were missed while the machine slept are
made up once (`coalesce`), however late (`misfire_grace_time=None`), and never
overlap. Jobs are declared at every start; there is no job store to go stale.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger


def next_after(cron: str, wall_s: float, time_zone: str = "UTC") -> float | None:
    """Return when the expression is due next after an instant; None for never.

    An hour that a change of clocks leaves out or repeats is due once. Raises ValueError
    when `cron` is no five-field expression.
    """
    trigger = CronTrigger.from_crontab(cron, timezone=time_zone)
    # An instant that is a due time itself counts as done.
    after = datetime.fromtimestamp(wall_s, UTC) + timedelta(seconds=1)
    found = trigger.get_next_fire_time(None, after)
    return None if found is None else float(found.timestamp())


def put_off_s(name: str, due_wall_s: float, at_most_s: float) -> float:
    """Return by how many seconds a run is put off, the same for all who know the name.

    It is as good as chance, and another one for each run: many clusters of one schedule
    do not begin at once, and the agents of one cluster still agree.
    """
    digest = hashlib.sha256(f"{name}/{due_wall_s:.0f}".encode()).digest()
    return at_most_s * int.from_bytes(digest[:6], "big") / (1 << 48)


class Calendar:
    """Runs jobs by cron expressions, in UTC."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone="UTC",
            job_defaults={
                "coalesce": True,
                "max_instances": 1,
                "misfire_grace_time": None,
            },
        )

    def every(self, name: str, cron: str, job: Callable[[], Awaitable[object]]) -> None:
        """Declare a job. Raises ValueError when `cron` is no five-field expression."""
        trigger = CronTrigger.from_crontab(cron, timezone="UTC")
        self._scheduler.add_job(job, trigger, id=name)

    def start(self) -> None:
        """Begin to watch the clock, on the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop watching; a run in progress goes on by itself."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
