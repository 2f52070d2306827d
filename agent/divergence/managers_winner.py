"""What a manager on the winner has: asked by tenant and id, through SQL.

Theory of operation. The session is one that `values.settle` has set up, in the caller's
transaction, so that what is asked here is asked of the same moment as the rows. A table
or column that this manager's version does not have makes a PostgresError, which stops
nothing but this part of the report.
"""

from collections.abc import Sequence

from psycopg import sql

from agent.divergence.managers_words import SCHEMA, Key, Kind
from agent.divergence.values import array_literal, copy_out, identifier
from agent.postgres.connect import Session

_DOING = "the manager's tables cannot be read"


def tenants(session: Session) -> dict[str, str]:
    """Return the winner's tenants, number to name. Raises PostgresError."""
    query = sql.SQL("SELECT id, name FROM {}").format(identifier(SCHEMA, "tenants"))
    return {
        number: name
        for number, name in copy_out(session, _DOING, query)
        if number is not None and name is not None
    }


class Holdings:
    """Says which things the winner has. Raises PostgresError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, kind: Kind, keys: Sequence[Key]) -> set[Key]:
        """Return those of these keys that the winner has."""
        if not keys:
            return set()
        wanted = array_literal(sorted({id_ for _, id_ in keys}), "text")
        id_column = identifier("x", kind.id)
        joined: sql.Composable = sql.SQL("")
        name: sql.Composable = sql.SQL("''")
        if kind.tenant:
            name = sql.SQL("t.name")
            joined = sql.SQL(" JOIN {} t ON t.id = {}").format(
                identifier(SCHEMA, "tenants"), identifier("x", kind.tenant)
            )
        query = sql.SQL(
            "SELECT {}, CAST({} AS text) FROM {} x{} WHERE CAST({} AS text) = ANY ({})"
        ).format(
            name, id_column, identifier(SCHEMA, kind.table), joined, id_column, wanted
        )
        found = {
            (tenant or "", id_ or "")
            for tenant, id_ in copy_out(self._session, _DOING, query)
        }
        return found.intersection(keys)
