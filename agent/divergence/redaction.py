r"""Values as a report may show them: short, printable, and secrets as hashes.

Theory of operation. A column that a pattern names is never shown. In its place stands
the beginning of a keyed SHA-256: the key is drawn for one report, and kept nowhere, so
that equal values are seen to be equal within one report, and nobody can try out values
against it afterwards or compare it with another report. NULL is no secret and stays
what it is. Every other value is cut to a length that a person reads. Bytes that are no
UTF-8 (a database in SQL_ASCII) are shown as `\xNN`.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from functools import cached_property

from agent.divergence.model import Name, Table

HASH_CHARS = 12
"""Of the hash in hexadecimal: 48 bits, enough to tell the values of a report apart."""
SHOWN_CHARS = 80
"""Of a value; a text of megabytes tells a reader no more than its beginning."""

Show = Callable[[str | None], str | None]
"""From one value of a column to what is shown of it."""


class Redaction:
    """What must not be shown, for one report.

    `patterns` are texts "schema.table.column" as `[loss] redact` has them; `salt` is
    drawn for this one report by the caller, and forgotten with it.
    """

    def __init__(self, patterns: Sequence[str], salt: bytes) -> None:
        self._patterns = tuple(patterns)
        self._salt = salt

    @cached_property
    def _expressions(self) -> tuple[tuple["re.Pattern[str]", ...], ...]:
        return tuple(
            tuple(_expression(part) for part in pattern.split("."))
            for pattern in self._patterns
        )

    def covers(self, table: Name, column: str) -> bool:
        """Whether the values of this column must not be shown."""
        names = (table.schema, table.name, column)
        return any(
            all(part.fullmatch(name) for part, name in zip(parts, names, strict=True))
            for parts in self._expressions
        )

    def columns(self, table: Table) -> tuple[str, ...]:
        """Return the columns of a table that are not shown.

        A partition is covered by a pattern that names it, or its topmost parent.
        """
        names = (table.name, *((table.root,) if table.root else ()))
        return tuple(
            column.name
            for column in table.columns
            if any(self.covers(name, column.name) for name in names)
        )

    def shower(self, table: Table) -> dict[str, Show]:
        """Return for each column of a table how its values are shown."""
        covered = frozenset(self.columns(table))
        return {
            column.name: self.hashed if column.name in covered else shown
            for column in table.columns
        }

    def hashed(self, value: str | None) -> str | None:
        """Return what is shown in place of a secret value."""
        if value is None:
            return None
        raw = value.encode("utf-8", "surrogateescape")
        digest = hmac.new(self._salt, raw, hashlib.sha256).hexdigest()
        return f"sha256:{digest[:HASH_CHARS]}…"


def shown(value: str | None) -> str | None:
    """Return a value as it is shown: printable, on one line, and not too long."""
    if value is None:
        return None
    text = printable(value[: SHOWN_CHARS + 1])
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def printable(text: str) -> str:
    r"""Return a text as UTF-8 that steers no terminal: what is no sign is `\xNN`."""
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else _named(sign) for sign in valid)


def _named(sign: str) -> str:
    return {"\n": "↵", "\t": "⇥", "\r": ""}.get(sign, "\N{REPLACEMENT CHARACTER}")


def _expression(part: str) -> "re.Pattern[str]":
    """Return a shell's pattern as a regular expression, in which only * and ? vary."""
    signs = {"*": ".*", "?": "."}
    text = "".join(signs.get(sign, re.escape(sign)) for sign in part)
    return re.compile(text, re.IGNORECASE | re.DOTALL)
