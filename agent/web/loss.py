"""The page of a loss report: one document that needs nothing else, not even a network.

Theory of operation. It is given the report in the shape of the API and puts its style
into the page, so that a file can be sent to whoever has to decide. The policy in the
page lets in that one style by its hash, and nothing else: no script, no image, no
address. First comes what was lost and what to do about it, then how much, when and by
whom, then table by table; what the two sides agree on is one line.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from agent.web.page import environment
from agent.web.words import clock, day_and_clock, size

Json = Mapping[str, Any]

FATES = {
    "lost": "lost",
    "changed": "changed",
    "deleted": "deleted",
    "conflict": "conflict",
    "collision": "collision",
}
RESCUES_MAX = 10
"""The last ones, that are named."""
_MEANINGS = (
    ("lost", "lost", "inserted by {loser}, {winner} has no such row"),
    ("changed", "changed", "by {loser}; {winner} left them as they were"),
    ("deleted", "deleted", "by {loser}; {winner} still has them"),
    ("conflicts", "conflicts", "rows of before, changed on both sides"),
    ("collisions", "collisions", "two different rows under one key"),
)
_COLUMNS = {
    "lost": "Lost",
    "changed": "Changed",
    "deleted": "Deleted",
    "conflicts": "Conflicts",
    "collisions": "Collisions",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the overview."""

    count: int
    word: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of when."""

    name: str
    text: str
    warn: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """One table with something to say."""

    database: str
    name: str
    notes: tuple[str, ...]
    counts: tuple[int, ...]
    samples: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What the template shows beside the report itself."""

    severity: str
    state: str
    title: str
    when: str
    about: str
    figures: tuple[Figure, ...]
    facts: tuple[Fact, ...]
    columns: tuple[str, ...]
    tables: tuple[TableRow, ...]
    databases: int
    alike: str
    redacted: bool
    things: Mapping[str, int]
    """Of each manager's database, how many things are counted."""


def render_loss(report: Json, version: str) -> str:
    """Return the whole document; `report` is in the shape of the API."""
    from markupsafe import Markup  # noqa: PLC0415 - it comes with jinja2, when asked

    template = environment().get_template("loss.html")
    return template.render(
        report=report,
        view=_view(report),
        fates=FATES,
        style=Markup(_style()),  # noqa: S704 - our own files
        policy=content_security_policy(),
        version=version,
    )


@cache
def content_security_policy() -> str:
    """Return the policy that the page carries: its own style and nothing else."""
    digest = hashlib.sha256(_style().encode()).digest()
    own = base64.b64encode(digest).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{own}'; base-uri 'none';"
        " form-action 'none'"
    )


@cache
def _style() -> str:
    folder = resources.files("agent.web").joinpath("static")
    sheets = (folder.joinpath(name) for name in ("page.css", "loss.css"))
    return "\n".join(sheet.read_text("utf-8") for sheet in sheets)


def _view(report: Json) -> View:
    totals, compared = report["totals"], report["winner"] is not None
    what, _, when = report["headline"].rpartition("; ")
    if not what:  # nothing is known of transactions
        what, when = when, ""
    return View(
        severity=_severity(report),
        state=_state(report),
        title=what[:1].upper() + what[1:],
        when=when,
        about=_about(report),
        figures=tuple(_figures(report)),
        facts=tuple(facts(report)),
        columns=tuple(_COLUMNS.values())
        if compared
        else ("Inserted", "Changed", "Deleted"),
        tables=tuple(_tables(report)),
        databases=len({each["database"] for each in report["tables"]}),
        alike=_alike(totals["equal"]) if compared else "",
        redacted=any(each["redacted"] and each["samples"] for each in report["tables"]),
        things={each["database"]: _things(each) for each in report["managers"]},
    )


def _severity(report: Json) -> str:
    if report["winner"] is None:
        return "warning"
    if _differing(report["totals"]) or report["managers"]:
        return "critical"
    unsure = report["objects"] or report["not_compared"] or report["totals"]["unknown"]
    return "warning" if unsure else "ok"


def _state(report: Json) -> str:
    if report["winner"] is None:
        return "not compared yet"
    return {
        "critical": "data is missing or in conflict",
        "warning": "no row is missing",
    }.get(_severity(report), "nothing is missing")


def _about(report: Json) -> str:
    winner, node = report["winner"], report["node"]
    if winner is None:
        return f"What {node} wrote alone. Nobody knows yet what of it the winner lacks."
    return (
        f"What {node} wrote alone, compared with {winner['name']} as it was at"
        f" {day_and_clock(winner['at'])} UTC."
    )


def _differing(counts: Json) -> int:
    return sum(int(counts[name]) for name in _COLUMNS)


def _things(manager: Json) -> int:
    return sum(_differing(each) for each in manager["counts"])


def _figures(report: Json) -> Iterator[Figure]:
    totals, winner = report["totals"], report["winner"]
    if winner is None:
        for name in ("inserted", "changed", "deleted"):
            yield Figure(totals["wrote"][name], name, f"by {report['node']} alone")
        return
    for name, word, meaning in _MEANINGS:
        text = meaning.format(loser=report["node"], winner=winner["name"])
        yield Figure(totals[name], singular(word, totals[name]), text)
    if totals["unknown"]:
        yield Figure(totals["unknown"], "unknown", "could not be found out")


def facts(report: Json) -> Iterator[Fact]:
    """Yield when what a report is about was written, and by whom, where it is known."""
    fork, today = report["fork"], report["made"]
    yield Fact(
        "Fork",
        f"at {fork['lsn']}, the end of the common timeline {fork['timeline']};"
        f" {report['node']} went on to {report['end_lsn']}: {size(report['bytes'])}"
        " of WAL",
    )
    yield Fact(f"Written by {report['node']}", _side(report["loser"], today))
    winner = report["winner"]
    if winner is not None:
        stood = f"; read at {winner['lsn']}" if winner["lsn"] else ""
        yield Fact(f"Written by {winner['name']}", _side(winner, today) + stood)
    yield Fact("Who", _who(report))
    for one in report["rescues"][-RESCUES_MAX:]:
        yield Fact("Rescued", _rescue(one), warn=not one["counted"])
    for one in report["perhaps_never_acknowledged"]:
        yield Fact(
            "Perhaps never acknowledged",
            f"{_counted(one['count'], 'commit')} still waited for a synchronous standby"
            f"{_span(one, today)}: whoever asked may have been told of a failure",
            warn=True,
        )
    for one in report["perhaps_delivered"]:
        yield Fact(
            "Perhaps delivered",
            f"slot {one['slot']} ({one['plugin']}, database {one['database']}) stood at"
            f" {one['lsn']}, past the fork: who reads it may have got writes that are"
            " lost here",
            warn=True,
        )


def singular(kind: str, count: int) -> str:
    """Return the word for rows of a kind: one of them is a conflict, a collision."""
    return kind.removesuffix("s") if count == 1 else kind


def _who(report: Json) -> str:
    nobody = "a server's log has no names, so nobody can tell who wrote a row"
    if any(each["audited"] for each in report["managers"]):
        return f"{nobody}; those of the manager's audit log stand beside its things"
    return nobody


def _rescue(one: Json) -> str:
    rows = (
        "it is not known how many rows" if one["rows"] is None else _rows(one["rows"])
    )
    later = "" if one["counted"] else "; the counts are from before it"
    return (
        f"{rows} put into database {one['database']} of {one['server']} at"
        f" {day_and_clock(one['at'])} UTC by {one['who']}: {one['reason']}{later}"
    )


def _side(side: Json, today: str) -> str:
    if side["committed"] is None:
        return "not known how many transactions"
    count = _counted(side["committed"], "transaction")
    parts = [f"{count} committed{_span(side, today)}"]
    if side["maintenance"]:
        own = "was" if side["maintenance"] == 1 else "were"
        parts.append(f"of which {side['maintenance']} {own} the server's own")
    if side["aborted"]:
        parts.append(f"{side['aborted']} rolled back")
    return ", ".join(parts)


def _span(one: Json, today: str) -> str:
    """Return from when to when; the day only where it is another than the report's."""
    first, last = one["first"], one["last"]
    if first is None or last is None:
        return ""
    if first[:19] == last[:19]:
        told = clock if first[:10] == today[:10] else day_and_clock
        return f" at {told(first)} UTC"
    if first[:10] == last[:10] == today[:10]:
        return f" from {clock(first)} to {clock(last)} UTC"
    return f" from {day_and_clock(first)} to {day_and_clock(last)} UTC"


def _tables(report: Json) -> Iterator[TableRow]:
    compared = report["winner"] is not None
    for table in report["tables"]:
        counts: tuple[int, ...] = tuple(table["wrote"].values())
        if compared:
            counts = tuple(int(table[name]) for name in _COLUMNS)
        if any(counts) or table["unknown"] or not compared:
            yield TableRow(
                database=table["database"],
                name=f"{table['schema_name']}.{table['table']}",
                notes=tuple(_notes(table)),
                counts=counts,
                samples=tuple(table["samples"]),
            )


def _notes(table: Json) -> Iterator[str]:
    if table["partition_of"]:
        yield f"partition of {table['partition_of']}"
    if table["unknown"]:
        rows = _rows(table["unknown"])
        yield f"{rows} could not be compared"
    if not table["key"]:
        yield "no key: rows are told apart by all that they hold"
    if table["note"]:
        yield table["note"]


def _alike(equal: int) -> str:
    if not equal:
        return ""
    alike = "is" if equal == 1 else "are"
    return f"{_rows(equal)} that the losing side wrote {alike} the same on the winner."


def _rows(count: int) -> str:
    return _counted(count, "row")


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
