"""Clients of the managers: they write rows and keep what they were promised.

Theory of operation. A client creates numbered objects, each with a content of its
own that no other row has, at the manager that is active on its side. Only a 2xx
is a promise; it goes into `acknowledged.jsonl`, flushed, before the next write. No
answer, or any other one, promises nothing, whatever became of the row.
"""

import base64
import contextlib
import http.client
import json
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agent.lab.plan import HOST, TENANT, Plan
from agent.lab.schema import KINDS

TIMEOUT_S = 3.0
AGAIN_S = 0.1
OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class Promise:
    """One acknowledged write."""

    seq: int
    side: str
    node: str
    kind: str
    id: str
    content: str
    at: float
    """When the acknowledgement came, wall seconds."""

    @property
    def row(self) -> tuple[str, str, str]:
        """What must be found again."""
        return (self.kind, self.id, self.content)


class Ledger:
    """The acknowledged writes of all clients, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._kept: list[Promise] = []
        self._numbers = 0

    def number(self) -> int:
        """Return the next number of a row."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def keep(self, promise: Promise) -> None:
        """Note an acknowledgement."""
        line = {
            "seq": promise.seq,
            "side": promise.side,
            "node": promise.node,
            "kind": promise.kind,
            "id": promise.id,
            "content": promise.content,
            "at": promise.at,
        }
        with self._lock:
            self._kept.append(promise)
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def all(self) -> tuple[Promise, ...]:
        """Return every promise so far."""
        with self._lock:
            return tuple(self._kept)

    def count(self, side: str) -> int:
        """Return how many were made on a side."""
        return sum(promise.side == side for promise in self.all())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(slots=True)
class Side:
    """Where a client stands: the nodes that it can reach, and how fast it writes."""

    name: str
    nodes: tuple[str, ...]
    pause_s: float = 0.01
    writing: threading.Event = field(default_factory=threading.Event)


class Client(threading.Thread):
    """Writes to whichever manager of its side is active, until it is stopped."""

    def __init__(self, plan: Plan, side: Side, ledger: Ledger) -> None:
        super().__init__(name=f"client-{side.name}", daemon=True)
        self.side = side
        self._plan = plan
        self._ledger = ledger
        self._ending = threading.Event()

    def run(self) -> None:
        """Write until stopped."""
        while not self._ending.is_set():
            if not self.side.writing.wait(AGAIN_S):
                continue
            node = find_active(self._plan, self.side.nodes)
            if node is None:
                self._ending.wait(AGAIN_S)
                continue
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._write_to(node)

    def stop(self) -> None:
        """End after the write at hand."""
        self._ending.set()
        self.join()

    def _write_to(self, node: str) -> None:
        """Write to one node until it says no, or until told to pause."""
        connection = connect(self._plan, node)
        with contextlib.closing(connection):
            while self.side.writing.is_set() and not self._ending.is_set():
                promise = _write(connection, self._plan, node, self.side, self._ledger)
                if promise is None:
                    self._ending.wait(AGAIN_S)
                    return
                self._ledger.keep(promise)
                self._ending.wait(self.side.pause_s)


def write_rows(
    plan: Plan,
    ledger: Ledger,
    *,
    count: int | None,
    seconds: float | None,
    nodes: Sequence[str] = (),
) -> int:
    """Write rows to the active manager; return how many were acknowledged.

    Ends after `count` acknowledgements or `seconds`, whichever is given. Only through
    `nodes` where any are named. Raises LabError: there is no such node.
    """
    names = nodes or [node.name for node in plan.nodes]
    side = Side("lab", tuple(plan.node(name).name for name in names))
    client = Client(plan, side, ledger)
    until = time.monotonic() + (seconds if seconds is not None else 3600.0)
    side.writing.set()
    client.start()
    try:
        while time.monotonic() < until:
            if count is not None and ledger.count(side.name) >= count:
                break
            time.sleep(side.pause_s)
    finally:
        client.stop()
    return ledger.count(side.name)


def find_active(plan: Plan, nodes: tuple[str, ...]) -> str | None:
    """Return the first of these nodes whose manager says that it is active."""
    for node in nodes:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = connect(plan, node)
            with contextlib.closing(connection):
                connection.request("GET", "/api/v3.1/status")
                if connection.getresponse().status in OK:
                    return node
    return None


def order(
    connection: http.client.HTTPConnection, plan: Plan, line: str, body: object = None
) -> bool:
    """Send a request with the manager's password; whether the answer was a 2xx.

    `line` is method and path below `/api/v3.1`. Raises OSError, HTTPException: there
    was no answer.
    """
    method, _, path = line.partition(" ")
    known = base64.b64encode(f"admin:{plan.secrets.manager}".encode()).decode()
    headers = {
        "Authorization": f"Basic {known}",
        "Tenant": TENANT,
        "Content-Type": "application/json",
    }
    content = None if body is None else json.dumps(body)
    connection.request(method, f"/api/v3.1/{path}", content, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status in OK


def connect(plan: Plan, node: str) -> http.client.HTTPConnection:
    """Return a connection to a node's manager, to be closed; none is made yet."""
    port = plan.node(node).manager_port
    return http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)


def _write(
    connection: http.client.HTTPConnection,
    plan: Plan,
    node: str,
    side: Side,
    ledger: Ledger,
) -> Promise | None:
    number = ledger.number()
    kind = KINDS[number % len(KINDS)]
    name = f"{kind[:-1]}-{number:06d}-{side.name}-{secrets.token_hex(3)}"
    content = f"row {number} written on side {side.name}: {secrets.token_hex(16)}"
    if not order(connection, plan, f"PUT {kind}/{name}", {"content": content}):
        return None
    return Promise(number, side.name, node, kind, name, content, time.time())
