"""Rows of a rescue for other programs: CSV and JSON lines.

Theory of operation. These hold the rows as the losing side had them, with what the
winner has beside them: nothing is renumbered, because only the winner can give out new
keys. CSV has a line for each version of a row and follows PostgreSQL's own manner: NULL
is nothing, an empty text is a pair of quotes. Bytes that are no UTF-8 stand as they are
in CSV, and as escaped surrogates in JSON, which is ASCII.
"""

import json
from collections.abc import Iterator

from agent.divergence.model import Difference, Table, Values

OWN = ("splitguard_kind", "splitguard_side", "splitguard_xid", "splitguard_note")
"""Columns of ours before the table's."""
_QUOTED = frozenset(',"\n\r')


def csv_head(table: Table) -> str:
    """Return the first line."""
    return _line([*OWN, *(column.name for column in table.columns)])


def csv_lines(one: Difference) -> Iterator[str]:
    """Yield a line for each version of a row."""
    versions = {
        "loser": one.loser,
        "winner": one.winner,
        "fork": one.fork,
        "twin": one.twin,
    }
    xid = None if one.xid is None else str(one.xid)
    for side, values in versions.items():
        if values is not None:
            own = [one.kind.value, side, xid if side == "loser" else None]
            yield _line([*own, one.note or None, *values])


def json_line(table: Table, one: Difference) -> str:
    """Return one row with all of its versions."""
    plain = {
        "kind": one.kind.value,
        "xid": one.xid,
        "note": one.note,
        "loser": _named(table, one.loser),
        "winner": _named(table, one.winner),
        "fork": _named(table, one.fork),
        "twin": _named(table, one.twin),
    }
    return json.dumps(plain)


def _named(table: Table, values: Values | None) -> dict[str, str | None] | None:
    if values is None:
        return None
    names = (column.name for column in table.columns)
    return dict(zip(names, values, strict=True))


def _line(values: list[str | None]) -> str:
    return ",".join(map(_cell, values))


def _cell(value: str | None) -> str:
    if value is None:
        return ""
    if not value or value == "\\." or _QUOTED & set(value) or value != value.strip():
        return '"' + value.replace('"', '""') + '"'
    return value
