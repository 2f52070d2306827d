"""One statement of a rescue, and what is said of it.

Theory of operation. A step carries its SQL, the row that it is about and what it would
do, so that a file can count what it holds, and whoever runs it what happened. What is
left out is a step as well: a comment that names the row and the reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from agent.divergence.model import Difference, DifferenceKind, Table, Values
from agent.divergence.rescue_quote import shown
from agent.divergence.rescue_row import Link, Need, Row


class Deed(StrEnum):
    """What a step does to the winner when it finds what it expects."""

    INSERTED = "inserted"
    RENUMBERED = "renumbered"
    UPDATED = "updated"
    DELETED = "deleted"
    BOUND = "bound"
    """A row that was put in refers to what was put in after it."""
    PREPARED = "prepared"
    """No row: a sequence moved on, or a twin noted."""
    LEFT_OUT = "left-out"
    """Nothing; its SQL is a comment."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement."""

    deed: Deed
    sql: str
    kind: DifferenceKind | None = None
    values: Values = ()
    """The row as the losing side has it, or as it was before it deleted it."""
    reason: str = ""
    """Of what is left out."""
    links: tuple[Link, ...] = ()
    """What has to be on the winner under a new key before."""
    again: bool = False
    """Tried before, when another row may have held it."""
    row: Row | None = None
    """What is inserted, where the table has a key."""
    needs: tuple[Need, ...] = ()
    """What has to be on the winner as the losing side has it before."""
    done: Callable[[], str] | None = None
    """The query whether the winner has already what this would do."""
    chosen: bool = True
    """Whether a person chose to leave it out, or the winner has it."""
    retried: bool = False
    """Another step tries it again."""


@dataclass(frozen=True, slots=True)
class Part:
    """The steps of one table; `late` ones come when all tables have had theirs."""

    table: Table
    late: bool
    steps: Callable[[], Iterator[Step]]
    """Reads the rows again, and yields them."""


def left_out(
    table: Table,
    one: Difference,
    reason: str,
    detail: str = "",
    *,
    chosen: bool = False,
) -> Step:
    """Return the step of a row that is not written, with all of its versions."""
    versions = [
        f"{name}: {shown(table, values)}"
        for name, values in (("loser", one.loser), ("winner", one.winner))
        if values is not None
    ]
    text = f"-- {one.kind.value}, left out: {reason}{detail}; {'; '.join(versions)}"
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    values = one.loser or one.winner or ()
    return Step(Deed.LEFT_OUT, plain, one.kind, values, reason, chosen=chosen)
