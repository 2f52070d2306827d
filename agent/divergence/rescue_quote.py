r"""Names and values of a rescue as SQL that psql and the server read alike.

Theory of operation. A value is an untyped constant, which the server reads by the
column's own input function: unlike a cast this never cuts a text off. Backslashes,
control characters and bytes that are no UTF-8 make it an `E''` constant, which reads
the same whatever standard_conforming_strings is. So a statement is one line of UTF-8,
whatever is in it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agent.divergence.model import Column, Name, Table, Values

_ESCAPED = re.compile(r"[\x00-\x1f\x7f\\\u0085\u2028\u2029\udc80-\udcff]")


def identifier(name: str) -> str:
    """Return a name quoted."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: Name) -> str:
    """Return the name of a table or sequence, quoted."""
    return f"{identifier(name.schema)}.{identifier(name.name)}"


def literal(value: str | None) -> str:
    """Return a value as a constant without a type."""
    if value is None:
        return "NULL"
    doubled = value.replace("'", "''")
    escaped, count = _ESCAPED.subn(_escape, doubled)
    return f"E'{escaped}'" if count else f"'{doubled}'"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] == "\\":
        return "\\\\"
    if code > 0xFFFF or 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - a surrogate escape
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code > 0x7F else f"\\x{code:02x}"  # noqa: PLR2004


def array(values: Iterable[str | None]) -> str:
    """Return texts as an array."""
    return f"ARRAY[{', '.join(map(literal, values))}]::text[]"


def shown(table: Table, values: Values) -> str:
    """Return a row as JSON on one line, fit for a comment."""
    names = (column.name for column in table.columns)
    return json.dumps(dict(zip(names, values, strict=True)))


def column_of(table: Table, name: str) -> Column:
    """Return a column by its name. Raises ValueError."""
    return table.columns[table.position(name)]


def key_of(
    table: Table, values: Values, names: Sequence[str]
) -> tuple[str, ...] | None:
    """Return a key as it is compared with others'; None where a part of it is NULL.

    Types whose equal values may print differently are brought into one form.
    """
    found = []
    for place, normal in _places(table, tuple(names)):
        value = values[place]
        if value is None:
            return None
        found.append(value if normal is None else normal(value))
    return tuple(found)


Normal = Callable[[str], str]
_known: dict[tuple[int, tuple[str, ...]], tuple[Table, list[tuple[int, Any]]]] = {}
_KNOWN_MAX = 4096


def _places(
    table: Table, names: tuple[str, ...]
) -> Sequence[tuple[int, Normal | None]]:
    """Return where a key's columns stand; remembered, as it is asked for each row."""
    found = _known.get((id(table), names))
    if found is None or found[0] is not table:
        if len(_known) > _KNOWN_MAX:
            _known.clear()
        places = [
            (table.position(name), _normal(column_of(table, name).type))
            for name in names
        ]
        found = _known[id(table), names] = table, places
    return found[1]


def _normal(kind: str) -> Normal | None:
    if kind.startswith("numeric"):
        return lambda value: value.rstrip("0").rstrip(".") if "." in value else value
    if kind.startswith("character("):
        return lambda value: value.rstrip(" ")
    if kind.endswith("citext"):
        return str.lower
    return None


def fingerprint(values: Values) -> str:
    """Return what stands for a whole row."""
    plain = json.dumps(values, separators=(",", ":"))
    return hashlib.sha256(plain.encode("ascii")).hexdigest()[:32]
