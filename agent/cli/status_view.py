"""The status as people read it, within 80 columns.

Theory of operation. First what is so and what to do about it, then what it rests on:
the nodes and who sees them, what stands between their writes and a resync, and the open
incidents. All text comes from the agent; only what could steer a terminal is taken out.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.cli.console import (
    STYLES,
    bytes_text,
    duration_text,
    grid,
    safe,
    severity,
    stacked,
    words,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = dict[str, Any]
GRAVE = frozenset({"unknown", "warning", "critical"})


def standing(incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of the incidents that are open or acknowledged."""
    return [each for each in incidents if each["status"] in STANDING]


STANDING = frozenset({"open", "acknowledged"})


def page(status: Status, incidents: list[dict[str, Any]]) -> "RenderableType":
    """Return the whole page."""
    return stacked(
        *_headline(status),
        words(""),
        nodes(status),
        *_doubts(status),
        *_troubles(status),
        *_others(status),
        *_protection(status),
        *_managers(status),
        *_incidents(status, incidents),
        *_decisions(status),
        words(""),
        words(footer(status), "dim"),
    )


def _headline(status: Status) -> "list[RenderableType]":
    headline = status["headline"]
    style = STYLES.get(headline["severity"], "")
    since = since_text(headline.get("since"), status["as_of"])
    first = f"{safe(status['cluster'])}: {headline['severity'].upper()}"
    subject = (
        "" if headline["subject"] == "cluster" else f" {safe(headline['subject'])}"
    )
    lines = [
        words(f"{first} {headline['verdict']}{subject}{since}", style),
        words(safe(headline["sentence"])),
    ]
    if headline["next_step"] and headline["severity"] in GRAVE:
        lines.append(words(f"Next: {safe(headline['next_step'])}", "bold"))
    return lines


def _decisions(status: Status) -> "list[RenderableType]":
    """Return what people announced or decided; an older agent does not say."""
    told = status.get("decisions") or []
    return [words(""), *(words(safe(one)) for one in told)] if told else []


def nodes(status: Status) -> "RenderableType":
    """Return the table of nodes; `*` marks the one whose agent tells this."""
    rows = [
        [
            f"{safe(node['name'])}{'*' if node['me'] else ''}",
            node["role"],
            node["timeline"],
            place_text(node),
            lag_text(node),
            seen_text(node),
        ]
        for node in status["nodes"]
    ]
    return grid(("NODE", "ROLE", "TL", "LSN", "LAG", "SEEN BY"), rows, ("bold",))


def place_text(node: dict[str, Any]) -> str | None:
    """Return where a node's WAL ends, and how old that is where it is no news."""
    if node["lsn"] is None or node["lsn_known"] or node["lsn_age_s"] is None:
        return safe(node["lsn"]) if node["lsn"] else None
    return f"{safe(node['lsn'])}, {duration_text(node['lsn_age_s'])} ago"


def lag_text(node: dict[str, Any]) -> str | None:
    """Return how far a standby is behind."""
    lag = node["lag_bytes"]
    return None if lag is None else bytes_text(lag)


def seen_text(node: dict[str, Any]) -> str:
    """Return who sees the node on any channel, who on none, and who on some only."""
    channels = {name: node[name] for name in ("agent", "postgres", "manager")}
    seen = {one for each in channels.values() for one in each["seen_by"]}
    missed = {name: set(each["unseen_by"]) for name, each in channels.items()}
    blind = set().union(*missed.values()) - seen
    parts = [", ".join(sorted(seen)) or "nobody"]
    if blind:
        parts.append(f"not by {', '.join(sorted(blind))}")
    for name, by in missed.items():
        if partly := sorted(by - blind):
            parts.append(f"{name} not by {', '.join(partly)}")
    return safe("; ".join(parts))


def _doubts(status: Status) -> "list[RenderableType]":
    """Return which agents doubt themselves: what they miss may be their own fault."""
    return [
        words(safe(f"The agent of {node['name']} doubts itself: {node['doubt']}."))
        for node in status["nodes"]
        if node["doubt"]
    ]


def _troubles(status: Status) -> "list[RenderableType]":
    """Return what is wrong with slots and archivers; an older agent does not say."""
    return [
        words(safe(f"PostgreSQL of {node['name']}: {node['trouble']}."), "yellow")
        for node in status["nodes"]
        if node.get("trouble")
    ]


def _others(status: Status) -> "list[RenderableType]":
    """Return the verdicts beside the headline."""
    others = [each for each in status["verdicts"][1:] if each["severity"] in GRAVE]
    if not others:
        return []
    rows = [
        [
            severity(each["severity"]),
            each["verdict"],
            safe(each["subject"]),
            safe(each["sentence"]),
        ]
        for each in others
    ]
    return [words(""), words("Also", "bold"), _bare(rows)]


def _protection(status: Status) -> "list[RenderableType]":
    if not status["protection"]:
        return []
    rows = []
    for name, each in status["protection"].items():
        line = safe(each["line"]).removeprefix("protection: ")
        rows.append([safe(name), words(f"{line}{_progress(each['capture'])}")])
    return [words(""), words("Protection", "bold"), _bare(rows)]


def _managers(status: Status) -> "list[RenderableType]":
    """Return what each manager says and what is kept of it, where there are any."""
    rows = [
        [safe(node["name"]), words(safe(node["manager_line"]))]
        for node in status["nodes"]
        if node.get("manager_line")
    ]
    return [words(""), words("Managers", "bold"), _bare(rows)] if rows else []


def _progress(capture: dict[str, Any] | None) -> str:
    """Return how far a running capture is."""
    if capture is None or capture["phase"] not in {"copying", "verifying"}:
        return ""
    total = capture["bytes_total"]
    share = f", {100 * capture['bytes_done'] // total} %" if total else ""
    left = capture["seconds_left"]
    time_left = "" if left is None else f", {duration_text(left)} left"
    return f" [{capture['phase']}{share}{time_left}]"


def _incidents(
    status: Status, incidents: list[dict[str, Any]]
) -> "list[RenderableType]":
    count = status["incidents_open"]
    if not count:
        return []
    title = words(f"Open incidents: {count}", "bold")
    if not incidents:
        return [words(""), title]
    rows = [
        [
            each["id"],
            severity(each["severity"]),
            each["verdict"],
            safe(each["subject"]),
            _taken(each),
            age_text(each["stage_since"], status["as_of"]),
        ]
        for each in incidents
    ]
    return [words(""), title, _bare(rows)]


def _taken(incident: dict[str, Any]) -> str:
    who = incident["acknowledged_by"]
    return f"taken by {safe(who)}" if who else incident["status"]


def footer(status: Status) -> str:
    """Return who says all this, how fresh it is, and whether news got out."""
    age = status["data_age_s"]
    fresh = "nothing seen yet" if age is None else f"seen {age:.1f} s ago"
    undelivered = status["notices"]["undelivered"]
    news = f"; {undelivered} notices undelivered" if undelivered else ""
    return f"told by {safe(status['observer'])} at {status['as_of']}; {fresh}{news}"


def age_text(instant: str | None, now: str) -> str:
    """Return how long ago an instant was, as the agent's clock tells."""
    try:
        passed = datetime.fromisoformat(now) - datetime.fromisoformat(instant or "")
    except ValueError:
        return "-"
    return duration_text(max(0.0, passed.total_seconds()))


def since_text(instant: str | None, now: str) -> str:
    """Return ` for 3 min` where the beginning is known."""
    return f", for {age_text(instant, now)}" if instant else ""


def _bare(rows: list[list[Any]]) -> "RenderableType":
    """Return a table without headers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*row)
    return table
