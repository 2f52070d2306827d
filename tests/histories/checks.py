"""Is the oracle right about what exists? The servers' own answer, row by row.

Theory of operation. What the client's model holds is set against COPY of every table on
both servers, under the settings under which the values were drawn. This is a test of
the model, before anything is derived from it.
"""

from collections import Counter
from typing import Any

import psycopg

from tests.histories.client import Side, table_id
from tests.histories.history import Player
from tests.histories.schema import DATABASES, TableSpec, names
from tests.histories.texts import name

SETTLE = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'"


def held(
    session: psycopg.Connection[Any], spec: TableSpec, leaf: str, columns: list[str]
) -> Counter[tuple[str | None, ...]]:
    """Return what a server has in a table."""
    order = (
        f"COPY (SELECT {names(columns)} FROM ONLY {name(spec.schema)}.{name(leaf)})"
        " TO STDOUT"
    )
    with session.cursor().copy(order.encode()) as copy:
        return Counter(copy.rows())


def known(
    side: Side, spec: TableSpec, leaf: str, columns: list[str]
) -> Counter[tuple[str | None, ...]]:
    """Return what the client says that it has."""
    rows = side.leaves(spec).get(leaf, [])
    return Counter(tuple(row[each] for each in columns) for row in rows)


def disagreement(player: Player) -> str:
    """Return the first row on which client and server are not agreed, or nothing."""
    for database in DATABASES:
        with player.server.session(database) as session:
            session.execute(SETTLE)
            for spec in player.schema.tables:
                table = table_id(spec)
                if spec.database != database or table in player.side.missing:
                    continue
                columns = [each.name for each in spec.columns]
                columns += player.side.added.get(table, ())
                for leaf in spec.leaves or (spec.name,):
                    server = held(session, spec, leaf, columns)
                    client = known(player.side, spec, leaf, columns)
                    if server != client:
                        return (
                            f"{player.side.name}, {spec.sql} {leaf}: the server alone"
                            f" has {dict(server - client)}, the client alone"
                            f" {dict(client - server)}"
                        )
    return ""
