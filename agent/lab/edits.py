"""What clients change and delete while the cluster is split.

Theory of operation. New rows alone would make a split look tamer than it is. So some
objects from before the split are described anew, a few of them on both sides: those are
conflicts, which a person has to settle. Others are deleted, on one side each; they are
made for it, and are not among the acknowledged writes, since nobody shall find them
again. Only a 2xx counts; each is a line in `edited.jsonl`, flushed.
"""

import contextlib
import http.client
import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import IO

from agent.lab.client import Promise, Side, connect, find_active, order
from agent.lab.plan import Plan
from agent.lab.schema import KINDS

SHARED = 4
"""Objects that are described anew on both sides."""
OWN = 3
"""Objects that are described anew on one side, and as many that are deleted there."""
Key = tuple[str, str]
"""Kind, id."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change that was acknowledged."""

    side: str
    node: str
    kind: str
    id: str
    description: str | None
    """None: the object was deleted."""
    at: float
    """When the acknowledgement came, wall seconds."""

    @property
    def key(self) -> Key:
        """Which object it was."""
        return (self.kind, self.id)


class Editor:
    """Changes objects on either side, and keeps what was acknowledged."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._file: IO[str] = plan.layout.edited.open("a", encoding="utf-8")
        self._kept: list[Edit] = []
        self._unanswered: set[Key] = set()
        self._passing: list[Key] = []

    def all(self) -> tuple[Edit, ...]:
        """Return every edit so far."""
        return tuple(self._kept)

    @property
    def unanswered(self) -> frozenset[Key]:
        """Objects that were to be changed, and nobody said that they are."""
        return frozenset(self._unanswered)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def prepare(self, side: Side) -> None:
        """Make the objects that shall be deleted; once, before the split."""
        for number in range(2 * OWN):
            kind = KINDS[number % len(KINDS)]
            name = f"passing-{number}-{secrets.token_hex(3)}"
            body = {"content": f"made to be deleted: {secrets.token_hex(16)}"}
            if self._asked(side, f"PUT {kind}/{name}", body):
                self._passing.append((kind, name))

    def edit(self, sides: Sequence[Side], oldest: Iterable[Promise]) -> None:
        """Change and delete objects on both sides.

        `oldest` are rows from before the split, the oldest ones, which both sides have.
        """
        rows = [(row.kind, row.id) for row in oldest][: SHARED + OWN * len(sides)]
        shared, own = rows[:SHARED], rows[SHARED:]
        for number, side in enumerate(sides):
            mine = slice(number * OWN, (number + 1) * OWN)
            for kind, name in (*shared, *own[mine]):
                description = f"described on side {side.name}: {secrets.token_hex(8)}"
                body = {"description": description}
                node = self._asked(side, f"PATCH {kind}/{name}", body)
                self._keep(side, node, (kind, name), description)
            for kind, name in self._passing[mine]:
                node = self._asked(side, f"DELETE {kind}/{name}")
                self._keep(side, node, (kind, name), None)

    def _asked(self, side: Side, line: str, body: object = None) -> str | None:
        """Ask the active manager of a side; return its node if it said yes."""
        node = find_active(self._plan, side.nodes)
        if node is None:
            return None
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connect(self._plan, node)) as connection,
        ):
            return node if order(connection, self._plan, line, body) else None
        return None

    def _keep(
        self, side: Side, node: str | None, key: Key, description: str | None
    ) -> None:
        if node is None:
            self._unanswered.add(key)
            return
        edit = Edit(side.name, node, *key, description, time.time())
        self._kept.append(edit)
        self._file.write(json.dumps(asdict(edit)) + "\n")
        self._file.flush()
