"""The parts of a rescue's statements: which row is meant, and how it has to be still.

Theory of operation. A row of the winner is called `t` here; entries of the ledger that
tell new keys `m0`, `m1` and so on. A row counts as unchanged when each of its columns
still prints as it did when it was compared; `concat` prints with the type's own output
function, as COPY did when it was read.
"""

from collections.abc import Iterable, Sequence

from agent.divergence.model import Column, Name, Table, Values
from agent.divergence.rescue_ground import THERE
from agent.divergence.rescue_order import target
from agent.divergence.rescue_quote import (
    array,
    column_of,
    identifier,
    key_of,
    literal,
    qualified,
)
from agent.divergence.rescue_row import Need, Row


def plain(table: Table) -> str:
    """Return what rows are put into: the topmost table finds the partition itself."""
    return qualified(target(table))


def written(table: Table) -> str:
    """Return what rows are changed in: not in tables that inherit from this one."""
    return f"{'' if table.root else 'ONLY '}{qualified(target(table))}"


def names_in(aliases: Iterable[Sequence[str]]) -> list[str]:
    """Return the columns of some keys, each once."""
    return list(dict.fromkeys(name for names in aliases for name in names))


def part(table: Table, values: Values, names: Sequence[str]) -> tuple[str, ...]:
    """Return a key that is noted; only keys without a NULL are."""
    return key_of(table, values, names) or ()


def entry(prefix: str, relation: Name, names: Sequence[str], was: Values) -> str:
    """Return the condition under which a row of the ledger is of this key."""
    return (
        f"{prefix}relation = {literal(str(relation))} AND {prefix}columns ="
        f" {array(names)} AND {prefix}was = {array(was)}"
    )


def at(alias: str, names: Sequence[str], was: Values) -> str:
    """Return the condition that a row has this key."""
    pairs = zip(names, was, strict=True)
    return " AND ".join(f"{alias}.{identifier(n)} = {literal(v)}" for n, v in pairs)


def needed(need: Need) -> str:
    """Return the condition that what a row refers to is there."""
    note = f"SELECT FROM {THERE} AS n WHERE n.note = {literal(need.note)}"
    if not need.later:
        return f"EXISTS ({note})"
    key = at("p", need.names, need.was)
    free = f"SELECT FROM {qualified(need.relation)} AS p WHERE {key}"
    return f"(EXISTS ({note}) OR NOT EXISTS ({free}))"


def linked(row: Row) -> dict[str, str]:
    """Return the new values of columns that refer to a row with another key."""
    found: dict[str, str] = {}
    for number, link in enumerate(row.links):
        for place, name in enumerate(link.key.columns, start=1):
            kind = column_of(row.table, name).type
            if name not in row.blank:
                found.setdefault(name, f"(m{number}.now[{place}])::{kind}")
    return found


def keyed(table: Table, values: Values) -> list[str]:
    """Return the conditions under which row `t` has this key; none without one."""
    found = []
    for name in table.keys[0] if table.keys else ():
        value = values[table.position(name)]
        told = "IS NULL" if value is None else f"= {literal(value)}"
        found.append(f"t.{identifier(name)} {told}")
    return found


def as_it_was(
    table: Table, before: Values, columns: Iterable[Column], *, by_key: bool = True
) -> list[str]:
    """Return the conditions under which row `t` has these values."""
    found = keyed(table, before) if by_key else []
    for column in columns:
        if column.generated:
            continue
        name, value = identifier(column.name), before[table.position(column.name)]
        if value is None:
            found.append(f"num_nulls(t.{name}) = 1")
        else:
            found.append(f'concat(t.{name}) COLLATE "C" = {literal(value)}')
        if value == "":
            found.append(f"num_nulls(t.{name}) = 0")
    return found or ["true"]
