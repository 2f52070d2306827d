"""Which scheduled snapshots are kept: of so many days, weeks, months and years. Pure.

Theory of operation. Of each day that has a scheduled snapshot the last one stands for
that day, and likewise for weeks, months and years; as many of the latest of each are
kept as the settings say, and what none of them wants goes. Days are counted by the
snapshots and not by the calendar: after a month without any, last month's seven are
still there. Whatever a clock or a limit says, the newest one stays, and what was not
taken by the clock is not judged here: an incident's stays until a person removes it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

Season = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of how many of each the last snapshot is kept."""

    daily: int
    weekly: int
    monthly: int
    yearly: int


@dataclass(frozen=True, slots=True)
class Item:
    """One snapshot that was fetched whole and opened."""

    id: str
    created_wall_s: float
    scheduled: bool


def surplus(
    items: Iterable[Item], limits: Limits, zone: tzinfo = UTC
) -> tuple[str, ...]:
    """Return the ids that may go, oldest first.

    Days, weeks, months and years begin at midnight in `zone`.
    """
    newest = sorted(items, key=lambda one: (one.created_wall_s, one.id), reverse=True)
    stays = {one.id for one in newest[:1]}
    scheduled = [one for one in newest if one.scheduled]
    stays |= {one.id for one in scheduled[:1]}
    for count, season in (
        (limits.daily, _day),
        (limits.weekly, _week),
        (limits.monthly, _month),
        (limits.yearly, _year),
    ):
        stays |= _last_of_each(scheduled, count, season, zone)
    return tuple(one.id for one in reversed(scheduled) if one.id not in stays)


def _last_of_each(
    newest: Sequence[Item],
    count: int,
    season: Callable[[datetime], Season],
    zone: tzinfo,
) -> set[str]:
    """Return the latest snapshot of each of the latest `count` seasons."""
    found: dict[Season, str] = {}
    for one in newest:
        when = season(datetime.fromtimestamp(one.created_wall_s, zone))
        if when not in found and len(found) >= count:
            break
        found.setdefault(when, one.id)
    return set(found.values())


def _day(when: datetime) -> Season:
    return when.year, when.month, when.day


def _week(when: datetime) -> Season:
    year, week, _ = when.isocalendar()
    return year, week


def _month(when: datetime) -> Season:
    return when.year, when.month


def _year(when: datetime) -> Season:
    return (when.year,)
