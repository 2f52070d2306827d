"""The lab's own routes for blueprints, deployments and plugins.

They are simpler than a manager's, which takes files and runs workflows: an object is a
row with a text. The lab's clients write through them, and count what they were
promised. They pass the same gates as every other request.
"""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql
from starlette.responses import Response

from agent.lab.schema import KINDS
from agent.lab.standin.answers import (
    Refusal,
    Shown,
    bad_parameter,
    missing,
    reply,
)
from agent.lab.standin.asked import Asked
from agent.lab.standin.desk import Desk
from agent.lab.standin.listing import listed
from agent.lab.standin.rows import stamp

CONTENT_MAX = 64 * 1024
FIELDS = ("id", "tenant_name", "content", "description", "created_at")


class Objects:
    """The objects of one kind."""

    def __init__(self, kind: str) -> None:
        self._word = kind[:-1].capitalize()
        self._table = sql.Identifier(kind)

    def all(self, desk: Desk, asked: Asked) -> Response:
        """List them, in order of their serial keys."""
        rows = self._run(
            desk,
            "SELECT * FROM {} WHERE tenant_name = %s ORDER BY _storage_id",
            asked.tenant,
        )
        return listed(asked, [_shown(row) for row in rows], FIELDS)

    def create(self, desk: Desk, asked: Asked, name: str) -> Response:
        """Add one."""
        content = _text(asked, "content")
        try:
            self._run(
                desk,
                "INSERT INTO {} (id, tenant_name, content) VALUES (%s, %s, %s)",
                name,
                asked.tenant,
                content,
            )
        except psycopg.errors.UniqueViolation as error:
            message = f"{self._word} {name} already exists"
            raise Refusal(409, "conflict_error", message) from error
        made = {"id": name, "tenant_name": asked.tenant, "content": content}
        return reply(made, 201)

    def describe(self, desk: Desk, asked: Asked, name: str) -> Response:
        """Change a description."""
        description = _text(asked, "description")
        rows = self._run(
            desk,
            "UPDATE {} SET description = %s WHERE tenant_name = %s AND id = %s "
            "RETURNING id",
            description,
            asked.tenant,
            name,
        )
        if not rows:
            raise missing(self._word, name)
        told = {"tenant_name": asked.tenant, "description": description}
        return reply({"id": name, **told})

    def remove(self, desk: Desk, asked: Asked, name: str) -> Response:
        """Delete one."""
        rows = self._run(
            desk,
            "DELETE FROM {} WHERE tenant_name = %s AND id = %s RETURNING id",
            asked.tenant,
            name,
        )
        if not rows:
            raise missing(self._word, name)
        return reply({"id": name, "tenant_name": asked.tenant})

    def _run(self, desk: Desk, statement: str, *values: str) -> list[dict[str, Any]]:
        return desk.rows.ask(sql.SQL(statement).format(self._table), values)


def handlers() -> tuple[tuple[str, str, Callable[..., Response]], ...]:
    """Return verb, path and handler of every route."""
    found: list[tuple[str, str, Callable[..., Response]]] = []
    for kind in KINDS:
        objects, one = Objects(kind), f"{kind}/<id>"
        found += [
            ("GET", kind, objects.all),
            ("PUT", one, objects.create),
            ("POST", one, objects.create),
            ("PATCH", one, objects.describe),
            ("DELETE", one, objects.remove),
        ]
    return tuple(found)


def _text(asked: Asked, key: str) -> str:
    value = asked.json(key).must(key)
    if not isinstance(value, str) or len(value) > CONTENT_MAX:
        raise bad_parameter(f"{key} must be a text of at most {CONTENT_MAX} characters")
    return value


def _shown(row: Shown) -> Shown:
    shown = {key: value for key, value in row.items() if key != "_storage_id"}
    return {**shown, "created_at": stamp(row["created_at"])}
