"""A row to write, and what it refers to.

Theory of operation. What a row refers to may lie on the winner under another key, which
the ledger tells (`Link`), or is put in under its own key by the same rescue (`Need`):
then that very row has to be there, not just any with its key.
"""

from dataclasses import dataclass

from agent.divergence.model import Column, ForeignKey, Name, Table, Values
from agent.divergence.rescue_quote import fingerprint


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to a row that lies on the winner under another key."""

    key: ForeignKey
    relation: Name
    """What the row is in: the topmost table, of a partition."""
    was: tuple[str, ...]
    """The columns referred to, as the losing side has them."""


@dataclass(frozen=True, slots=True)
class Need:
    """A row of the losing side that has to be on the winner as it is there."""

    relation: Name
    names: tuple[str, ...]
    was: tuple[str, ...]
    later: bool = False
    """It comes after what refers to it: its key may be free as well."""

    @property
    def note(self) -> str:
        """What stands for it among the rows that are there."""
        return fingerprint((str(self.relation), *self.names, *self.was))


@dataclass(frozen=True, slots=True)
class Row:
    """One row to write, and what of it is not as on the losing side."""

    table: Table
    values: Values
    links: tuple[Link, ...] = ()
    drawn: Column | None = None
    """Takes its value from the winner's sequence."""
    blank: frozenset[str] = frozenset()
    """Columns that stay NULL for now."""
    aliases: tuple[tuple[str, ...], ...] = ()
    """Keys to note in the ledger, as the row's key will be another one."""
    needs: tuple[Need, ...] = ()
    """What it refers to and what is put in too, under its own key."""
    notes: tuple[Need, ...] = ()
    """What others need of it."""
