"""What was rescued from a snapshot already, as the record beside its rows tells.

Theory of operation. A rescue writes a line before its transaction and one after it
(`rescue_journal`). Here they are put together again for a report: done, or begun and
never ended, so that nobody knows; what failed wrote nothing and is left out. A line
that cannot be read is passed over: a report does not fail for it.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.divergence import report as reports
from agent.divergence.redaction import printable
from agent.divergence.report import Report, Rescued

NAME = "rescues.jsonl"
BYTES_MAX = 16 << 20
"""Of the record's end, that are read."""
RESCUES_MAX = 100
"""The last ones, that a report names."""
TEXT_MAX = 200
_WRITTEN = ("inserted", "renumbered", "updated", "deleted")


def load(folder: Path) -> Report | None:
    """Return the report that is kept there, with what was rescued; None without one.

    Raises SnapshotError when it cannot be read or is of another format.
    """
    report = reports.load(folder)
    if report is None:
        return None
    return replace(report, rescues=rescues_in(folder))


def rescues_in(folder: Path) -> tuple[Rescued, ...]:
    """Return the rescues that a folder of losses records, the last one last."""
    found: dict[tuple[str, ...], Rescued] = {}
    for line in _lines(folder / NAME):
        act = tuple(str(line[name]) for name in ("at", "who", "database", "server"))
        if line["phase"] == "failed":
            found.pop(act, None)
        else:
            found[act] = _rescued(line)
    return tuple(found.values())[-RESCUES_MAX:]


def is_counted(rescue: Rescued, report: Report) -> bool:
    """Whether the report's comparison saw what the rescue wrote.

    The record knows whole seconds; within one second it is taken for unseen.
    """
    return report.winner is not None and rescue.at_s < int(report.winner.at_s)


def uncounted(report: Report) -> tuple[Rescued, ...]:
    """Return the rescues since the report's comparison."""
    return tuple(each for each in report.rescues if not is_counted(each, report))


def words(report: Report) -> str:
    """Return what a headline says of rescues since the comparison; empty without."""
    later = [each for each in uncounted(report) if each.ended]
    if not later:
        return ""
    rows = sum(each.rows for each in later)
    count = "1 row" if rows == 1 else f"{rows} rows"
    return f"; since then {count} rescued by {later[-1].who}"


def written_ns(folder: Path) -> int:
    """Return when the record was last written, nanoseconds since 1970; 0: never."""
    try:
        return (folder / NAME).stat().st_mtime_ns
    except OSError:
        return 0


def _rescued(line: dict[str, Any]) -> Rescued:
    tables = line.get("tables", {}).values()
    return Rescued(
        at_s=datetime.fromisoformat(line["at"]).timestamp(),
        who=_text(line["who"]),
        reason=_text(line["reason"]),
        database=_text(line["database"]),
        server=_text(line["server"]),
        rows=sum(int(each.get(name, 0)) for each in tables for name in _WRITTEN),
        ended=line["phase"] == "done",
    )


def _text(value: object) -> str:
    return printable(str(value)[:TEXT_MAX])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole and ours."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - BYTES_MAX))
            text = file.read(BYTES_MAX)
    except OSError:
        return
    for raw in text.splitlines():
        try:
            line = json.loads(raw)
            _rescued(line)
            str(line["phase"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        yield line
