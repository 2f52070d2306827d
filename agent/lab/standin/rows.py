"""The manager's rows: snapshots, executions, tokens, maintenance, audit. Blocking.

Theory of operation. A request has a connection of its own, and so has each step of a
worker: a write counts only once its commit came back on that very connection. Times
are kept with their zone and shown as the service shows them: UTC, milliseconds, `Z`.
The database's password, which the service keeps in an execution's parameters, is no
part of a row here.
"""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from agent.lab.standin.answers import Shown
from agent.lab.standin.traits import Connect

ACTIVE = (
    "pending",
    "started",
    "cancelling",
    "force_cancelling",
    "kill_cancelling",
)
"""The states of an execution that is under way."""
ENDS = ("terminated", "failed", "cancelled")


class TakenError(Exception):
    """A thing of that name is there already."""


@dataclass(frozen=True, slots=True)
class Order:
    """An execution to be made."""

    workflow: str
    tenant: str
    user: str
    parameters: Mapping[str, object]

    @property
    def blocking(self) -> bool:
        """Whether it needs that no other one is under way."""
        new_format = self.parameters.get("legacy") is False
        return self.workflow != "create_snapshot" or not new_format


class Rows:
    """The manager's tables. Methods raise psycopg.Error."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._request = threading.local()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Use one connection for all that this thread asks meanwhile."""
        with self._connect() as connection:
            self._request.connection = connection
            try:
                yield
            finally:
                del self._request.connection

    @contextlib.contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """Yield this thread's connection, or one of its own."""
        held = getattr(self._request, "connection", None)
        if held is not None:
            yield held
            return
        with self._connect() as connection:
            yield connection

    def ask(
        self,
        statement: str | sql.Composed,
        values: Sequence[object] | Mapping[str, object] = (),
    ) -> list[dict[str, Any]]:
        """Run one statement of ours; return its rows, if it has any."""
        query = sql.SQL(statement) if isinstance(statement, str) else statement
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    @property
    def in_recovery(self) -> bool:
        """Whether the database is a standby."""
        return bool(self.ask("SELECT pg_is_in_recovery() AS it")[0]["it"])

    # --- snapshots ----------------------------------------------------------

    def snapshots(self, tenant: str | None) -> list[Shown]:
        """Return a tenant's snapshots, or all, in the order of their making."""
        return self.ask(
            "SELECT * FROM snapshots WHERE %(tenant)s::text IS NULL "
            "OR tenant_name = %(tenant)s ORDER BY _storage_id",
            {"tenant": tenant},
        )

    def snapshot(self, tenant: str, name: str) -> Shown | None:
        """Return one of a tenant's snapshots."""
        found = self.ask(
            "SELECT * FROM snapshots WHERE tenant_name = %s AND id = %s",
            (tenant, name),
        )
        return found[0] if found else None

    def add_snapshot(self, tenant: str, name: str, status: str) -> Shown:
        """Add a snapshot. Raises TakenError."""
        try:
            return self.ask(
                "INSERT INTO snapshots (id, tenant_name, status) VALUES (%s, %s, %s) "
                "RETURNING *",
                (name, tenant, status),
            )[0]
        except psycopg.errors.UniqueViolation as error:
            raise TakenError(name) from error

    def set_snapshot(self, tenant: str, name: str, status: str, error: str) -> None:
        """Change a snapshot's status."""
        self.ask(
            "UPDATE snapshots SET status = %s, error = %s "
            "WHERE tenant_name = %s AND id = %s",
            (status, error, tenant, name),
        )

    def drop_snapshot(self, tenant: str, name: str) -> None:
        """Remove a snapshot."""
        self.ask(
            "DELETE FROM snapshots WHERE tenant_name = %s AND id = %s", (tenant, name)
        )

    # --- executions ---------------------------------------------------------

    def executions(self, tenant: str | None = None) -> list[Shown]:
        """Return a tenant's executions, or all, in the order of their making."""
        return self.ask(
            "SELECT * FROM executions WHERE %(tenant)s::text IS NULL "
            "OR tenant_name = %(tenant)s ORDER BY _storage_id",
            {"tenant": tenant},
        )

    def execution(self, name: str) -> Shown | None:
        """Return one execution, of any tenant."""
        found = self.ask("SELECT * FROM executions WHERE id = %s", (name,))
        return found[0] if found else None

    def add_execution(self, order: Order) -> Shown:
        """Add an execution, pending."""
        return self.ask(
            "INSERT INTO executions (id, tenant_name, workflow_id, status, created_by, "
            "parameters) VALUES (%s, %s, %s, 'pending', %s, %s) RETURNING *",
            (
                str(uuid.uuid4()),
                order.tenant,
                order.workflow,
                order.user,
                json.dumps(dict(order.parameters)),
            ),
        )[0]

    def drop_execution(self, name: str) -> None:
        """Remove an execution."""
        self.ask("DELETE FROM executions WHERE id = %s", (name,))

    def move_execution(
        self, name: str, status: str, was: Sequence[str], error: str = ""
    ) -> bool:
        """Change an execution's status if it is one of `was`; whether it was."""
        found = self.ask(
            "UPDATE executions SET status = %(status)s, error = %(error)s, "
            "started_at = CASE WHEN %(status)s = 'started' THEN clock_timestamp() "
            "ELSE started_at END, "
            "ended_at = CASE WHEN %(status)s = ANY(%(ends)s) THEN clock_timestamp() "
            "ELSE ended_at END WHERE id = %(name)s AND status = ANY(%(was)s) "
            "RETURNING id",
            {
                "status": status,
                "error": error,
                "name": name,
                "was": list(was),
                "ends": list(ENDS),
            },
        )
        return bool(found)

    def active_executions(self, but: str = "") -> list[Shown]:
        """Return what is under way, of all tenants, but for one."""
        return self.ask(
            "SELECT * FROM executions WHERE status = ANY(%s) AND id <> %s "
            "ORDER BY _storage_id",
            (list(ACTIVE), but),
        )

    def next_queued(self) -> str | None:
        """Return the oldest execution that waits for its turn."""
        found = self.ask(
            "SELECT id FROM executions WHERE status = 'queued' "
            "ORDER BY _storage_id LIMIT 1"
        )
        return str(found[0]["id"]) if found else None

    # --- the rest -----------------------------------------------------------

    def maintenance(self) -> Shown | None:
        """Return the maintenance mode's row; None: it is off."""
        found = self.ask("SELECT * FROM maintenance_mode")
        return found[0] if found else None

    def audit_log(self) -> list[Shown]:
        """Return the audit log, oldest first."""
        return self.ask("SELECT * FROM audit_log ORDER BY _storage_id")


def stamp(at: datetime | None) -> str | None:
    """Return a time as the service shows it."""
    if at is None:
        return None
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
