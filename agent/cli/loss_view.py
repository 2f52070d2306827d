"""A loss report on the terminal: the sentence, the facts, table by table, what next.

Theory of operation. It is drawn from the shape that the API gives. What a person needs
first stands first, and the next step last, where the eye is when a long report has run
by. What is none is left out, so that a narrow screen has room for what is. Examples are
shown below the counts, one line for each row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.cli.console import safe, stacked, words
from agent.web.loss import facts, singular

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = Mapping[str, Any]
KINDS = ("lost", "changed", "deleted", "conflicts", "collisions")
FATES = {
    "lost": "red",
    "changed": "cyan",
    "deleted": "cyan",
    "conflict": "yellow",
    "collision": "yellow",
}
VALUE_CHARS = 40
"""Of a value in an example."""
NAMES_CHARS = 16
"""Of the names beside the facts."""
ENTITIES_MAX = 40
"""Things of a manager that are named on the screen."""


def view(report: Json) -> "RenderableType":
    """Return the report as people read it."""
    return stacked(*_parts(report))


def _parts(report: Json) -> Iterator["RenderableType"]:
    compared = report["winner"] is not None
    bad = any(report["totals"][kind] for kind in KINDS) or report["managers"]
    style = "bold red" if bad else "bold" if compared else "bold yellow"
    yield words(safe(report["headline"]), style)
    yield _facts(report)
    for manager in report["managers"]:
        yield from _manager(manager)
    if report["tables"]:
        yield words("")
        yield _table(("TABLE", "ROWS", "NOTE"), list(_rows(report)))
    yield from _examples(report)
    if report["objects"]:
        yield words("")
        yield _table(
            ("BESIDE ROWS", "NAME", "BECAME", "DATABASE"),
            [
                [each["kind"], each["name"], each["what"], each["database"]]
                for each in report["objects"]
            ],
        )
    if report["not_compared"]:
        yield words("")
        yield _table(
            ("NOT COMPARED", "WHY"),
            [[each["what"], each["reason"]] for each in report["not_compared"]],
        )
    yield words("")
    yield words(safe(report["next_step"]), "bold")


def _facts(report: Json) -> "RenderableType":
    told = [(each.name, each.text, each.warn) for each in facts(report)]
    winner = report["winner"]
    if winner is not None:
        name, at = winner["name"], winner["at"]
        told.insert(0, ("Compared", f"with {name}, as it was at {at[:19]}Z", False))
    for one in report["released"]:
        past = one["protected_lsn"]
        kept = f"not protected past LSN {past}" if past else "nothing was protected"
        text = f"by {one['who']} at {one['at'][:19]}Z: {one['reason']}; {kept}"
        told.append((f"Released {one['node']}", text, True))
    return _plain(
        [
            (name, words(safe(text), "yellow" if warn else ""))
            for name, text, warn in told
        ]
    )


def _plain(rows: Sequence[tuple[str, "RenderableType"]]) -> "RenderableType":
    """Return names with what is said of them; no headers."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", overflow="fold", max_width=NAMES_CHARS)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(safe(name), text)
    return table


def _table(
    headers: Sequence[str], rows: Sequence[Sequence[str | None]]
) -> "RenderableType":
    """Return a table without lines; a column in which nothing stands is left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    used = [
        number for number in range(len(headers)) if any(row[number] for row in rows)
    ]
    for number in used:
        table.add_column(headers[number], overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[number]) for number in used))
    return table


def _cell(value: str | None) -> "RenderableType":
    return words(safe(value), FATES.get(value, "")) if value else words("-", "dim")


def _rows(report: Json) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each table with what became of its rows."""
    tables = report["tables"]
    several = len({each["database"] for each in tables}) > 1
    kinds = (*KINDS, "equal", "unknown")
    for table in tables:
        counts = table["wrote"]
        if report["winner"] is not None:
            counts = {kind: table[kind] for kind in kinds}
        told = (
            f"{count} {singular(kind, count)}"
            for kind, count in counts.items()
            if count
        )
        notes = (
            table["partition_of"] and f"partition of {table['partition_of']}",
            None if table["key"] else "no key",
            table["note"],
        )
        name = f"{table['schema_name']}.{table['table']}"
        yield (
            f"{table['database']}: {name}" if several else name,
            ", ".join(told) or None,
            "; ".join(filter(None, notes)) or None,
        )


def _manager(manager: Json) -> Iterator["RenderableType"]:
    things = manager["entities"]
    yield words("")
    yield _table(
        ("LOST BY THE MANAGER", "BECAME", "TENANT", "CREATED", "BY"),
        [
            [
                " ".join(filter(None, (each["kind"], each["id"], each["detail"]))),
                each["fate"],
                each["tenant"],
                (each["created"] or "")[:19] or None,
                each["who"],
            ]
            for each in things[:ENTITIES_MAX]
        ],
    )
    counted = sum(each[kind] for each in manager["counts"] for kind in KINDS)
    named = min(len(things), ENTITIES_MAX)
    if counted > named:
        yield words(f"{named} of {counted} are named; --output json has more", "dim")
    if manager["note"]:
        yield words(safe(manager["note"]), "dim")


def _examples(report: Json) -> Iterator["RenderableType"]:
    rows = [
        [
            f"{table['schema_name']}.{table['table']}",
            sample["kind"],
            ": ".join(filter(None, map(_held, (sample["key"], sample["row"])))),
            _differs(sample, report),
        ]
        for table in report["tables"]
        for sample in table["samples"]
    ]
    if rows:
        yield words("")
        yield _table(("FOR EXAMPLE", "IS A", "ROW", "DIFFERS IN"), rows)


def _differs(sample: Json, report: Json) -> str | None:
    loser, winner = report["node"], (report["winner"] or {}).get("name", "")
    told = [
        f"{each['column']}: {_short(each['loser'])} on {loser},"
        f" {_short(each['winner'])} on {winner}"
        for each in sample["contrasts"]
    ]
    return "; ".join([*told, *filter(None, (sample["note"],))]) or None


def _held(cells: Sequence[Json]) -> str:
    return ", ".join(f"{each['column']} = {_short(each['value'])}" for each in cells)


def _short(value: str | None) -> str:
    if value is None:
        return "NULL"
    return value if len(value) <= VALUE_CHARS else value[: VALUE_CHARS - 1] + "…"
