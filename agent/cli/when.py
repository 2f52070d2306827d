"""Times on the command line: `30m` or `2026-11-23T03:15Z`.

Theory of operation. A person at night thinks in spans, a runbook in instants; both are
taken wherever a time is asked for. An instant without a zone is in UTC, as everything
that is printed.
"""

import re
from datetime import UTC, datetime

from agent.errors import SplitguardError

_SPAN = re.compile(r"([0-9]{1,6})\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DAY_S = 86_400.0
HINT = "give a span such as 30m, 2h or 1d, or an instant such as 2026-11-23T03:15Z"


def span_s(text: str) -> float | None:
    """Return the seconds of a span such as `30m`; None when it is none."""
    found = _SPAN.fullmatch(text.strip().lower())
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def ago(text: str, option: str) -> datetime:
    """Return the instant that lies so far back, or is meant. Raises SplitguardError."""
    return _instant(text, option, -1.0)


def ahead(text: str, option: str) -> datetime:
    """Return the instant that is so far off, or is meant. Raises SplitguardError."""
    return _instant(text, option, 1.0)


def _instant(text: str, option: str, way: float) -> datetime:
    from agent.daemon.clock import SystemClock

    span = span_s(text)
    try:
        if span is not None:
            now_s = SystemClock().moment().wall_s
            return datetime.fromtimestamp(now_s + way * span, UTC)
        given = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise SplitguardError(f"{option} {text[:60]!r}: no time", HINT) from error
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def text_of(wall_s: float) -> str:
    """Return an instant as all output has it, such as 2026-11-22T23:00:00.000Z."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
