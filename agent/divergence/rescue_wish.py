"""What a person can ask of a rescue.

Theory of operation. Plain choices, so that a command line can offer them without
loading what carries them out. Each default is the careful one: nothing of the winner's
is written over, and no row is left out that can be brought back.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from agent.divergence.model import Table


class Format(StrEnum):
    """The form of a rescue."""

    SQL = "sql"
    CSV = "csv"
    JSONL = "jsonl"


class Only(StrEnum):
    """Which rows are wanted."""

    LOST = "lost"
    """Rows that the winner lacks."""
    CONFLICTS = "conflicts"
    COLLISIONS = "collisions"


class OnConflict(StrEnum):
    """What to do with rows that both sides changed."""

    SKIP = "skip"
    """Keep the winner's version; the other one is named."""
    THEIRS = "theirs"
    """Write the losing side's version over the one that it was compared with."""


class Collisions(StrEnum):
    """What to do with rows whose key the winner gave to another row."""

    RENUMBER = "renumber"
    """Give them new keys from the winner's sequence."""
    SKIP = "skip"
    """Leave them out."""
    FAIL = "fail"
    """Make no rescue at all if there are any."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for."""

    patterns: tuple[str, ...] = ()
    """`schema.table` or `table`, with `*` and `?`; none: all."""
    only: Only | None = None
    on_conflict: OnConflict = OnConflict.SKIP
    collisions: Collisions = Collisions.RENUMBER

    def wants(self, table: Table) -> bool:
        """Whether a table is meant, by its own name or its topmost table's."""
        names = [name for name in (table.name, table.root) if name is not None]
        texts = [text for name in names for text in (str(name), name.name)]
        return not self.patterns or any(
            fnmatchcase(text, pattern) for text in texts for pattern in self.patterns
        )
