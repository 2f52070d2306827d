"""Small wordings of the page: sizes, times, ages, and commands inside a sentence."""

import re
from datetime import datetime

KIB = 1024
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
QUOTED = re.compile(r"`([^`]*)`")


def size(number: int | None) -> str:
    """Return a number of bytes in the unit that a person would use."""
    if number is None:
        return "not known"
    value = float(number)
    for unit in ("bytes", "kiB", "MiB", "GiB"):
        if value < KIB:
            if unit == "bytes":
                return "1 byte" if number == 1 else f"{number} bytes"
            return f"{value:.1f} {unit}"
        value /= KIB
    return f"{value:.1f} TiB"


def clock(instant: str) -> str:
    """Return the time of day of an RFC 3339 instant, in UTC."""
    return instant[11:19]


def day_and_clock(instant: str) -> str:
    """Return day and time of day of an RFC 3339 instant, in UTC."""
    return f"{instant[:10]} {instant[11:19]}"


def ago(instant: str, now: str) -> str:
    """Return how long before `now` an instant was, in one unit."""
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(instant)
    return age(max(0.0, passed.total_seconds())) + " ago"


def age(seconds: float | None) -> str:
    """Return a duration in the unit that a person would use."""
    if seconds is None:
        return "never"
    if seconds < 10:  # noqa: PLR2004 - below ten seconds tenths still matter
        return f"{seconds:.1f} s"
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    if seconds < 2 * DAY_S:
        return f"{seconds / HOUR_S:.0f} h"
    return f"{seconds / DAY_S:.0f} days"


def title(verdict: str) -> str:
    """Return a verdict's code as words, such as `Split brain suspected`."""
    return verdict.replace("-", " ").capitalize()


def parts(sentence: str) -> list[tuple[bool, str]]:
    """Split a sentence at its backquotes: (whether it is a command, text)."""
    pieces = QUOTED.split(sentence)
    return [(index % 2 == 1, text) for index, text in enumerate(pieces) if text]
