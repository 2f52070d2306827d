"""Work by the wall clock: what is due at a time of day and not in a round.

Theory of operation. APScheduler follows the wall clock, which a probe must never
do and a nightly snapshot should. Runs that were missed while the machine slept are
made up once (`coalesce`), however late (`misfire_grace_time=None`), and never
overlap. Jobs are declared at every start; there is no job store to go stale.

It counts weekdays from Monday, and crontab(5) from Sunday: numbers mean what they mean
in a crontab, so they are turned into names first.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBERS = re.compile(r"(?:\*|([0-9])(?:-([0-9]))?)(?:/([1-9]))?")


def next_after(cron: str, wall_s: float, time_zone: str = "UTC") -> float | None:
    """Return when the expression is due next after an instant; None for never.

    An hour that a change of clocks leaves out or repeats is due once. Raises ValueError
    when `cron` is no five-field expression.
    """
    trigger = _trigger(cron, time_zone)
    # An instant that is a due time itself counts as done.
    after_s = wall_s + 1.0
    while True:
        after = datetime.fromtimestamp(after_s, UTC)
        found = trigger.get_next_fire_time(None, after)
        if found is None:
            return None
        if not found.fold:  # else for the second time in one night
            return float(found.timestamp())
        after_s = found.timestamp() + 1.0


def _trigger(cron: str, time_zone: str) -> CronTrigger:
    """Return it with weekdays as in a crontab. Raises ValueError."""
    *fields, weekday = cron.split() or [""]
    named = ",".join(_weekday(part) for part in weekday.split(","))
    return CronTrigger.from_crontab(" ".join((*fields, named)), timezone=time_zone)


def _weekday(part: str) -> str:
    """Return a number, range or step of weekdays by names; others as they are."""
    found = _NUMBERS.fullmatch(part)
    if found is None or part == "*":
        return part
    first, last, step = (int(each) if each else None for each in found.groups())
    if first is None:
        first, last = 0, 6
    elif last is None:
        last = first if step is None else 6
    if not first <= last <= len(_WEEKDAYS):
        raise ValueError(f"weekday {part!r}: numbers go from 0 (Sunday) to 7 (Sunday)")
    days = range(first, last + 1, step or 1)
    return ",".join(_WEEKDAYS[day % len(_WEEKDAYS)] for day in days)


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
        trigger = _trigger(cron, "UTC")
        self._scheduler.add_job(job, trigger, id=name)

    def start(self) -> None:
        """Begin to watch the clock, on the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop watching; a run in progress goes on by itself."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
