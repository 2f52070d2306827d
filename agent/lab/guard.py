"""How the stand-in manager asks the agent beside it whether it may resync.

Theory of operation. The permit is asked for when the server is stopped, over the
agent's unix socket. An agent that is away, refuses or has lost the permit is asked
again, for ever: waiting is safe, going on is not. Only `granted` and `released`
let the resync pass.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from agent.lab.plan import NodeLayout
from agent.lab.web import CallError, send_json

BASE = "http://agent/v1/guard/permits"
WAIT_S = 10
AGAIN_S = 0.5
PASSING = frozenset({"granted", "released"})


class Permits:
    """Asks the agent beside this node."""

    def __init__(self, node: NodeLayout, say: Callable[[str], None]) -> None:
        self._socket = node.agent_socket
        self._kept = node.permits
        self._say = say

    async def granted(self) -> str:
        """Return the permit's id once there is one that lets the resync pass."""
        permit: dict[str, Any] | None = None
        asked_at = time.time()
        while True:
            if permit is None or permit.get("state") == "void":
                permit = await self._call("POST", BASE, {"purpose": "resync"})
            else:
                url = f"{BASE}/{permit['id']}?wait={WAIT_S}"
                permit = await self._call("GET", url, None)
            if permit is not None and permit["state"] in PASSING:
                self._keep(permit, asked_at)
                return str(permit["id"])
            if permit is None or permit["state"] == "void":
                await asyncio.sleep(AGAIN_S)

    async def still_granted(self, permit_id: str) -> bool:
        """Whether the permit holds now; False also when the agent is away."""
        permit = await self._call("GET", f"{BASE}/{permit_id}", None)
        return permit is not None and permit["state"] in PASSING

    def _keep(self, permit: dict[str, Any], asked_at: float) -> None:
        """Note how long the wait was, for whoever tells the story."""
        line = {"permit": permit["id"], "asked_at": asked_at, "granted_at": time.time()}
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    async def _call(self, method: str, url: str, body: object) -> dict[str, Any] | None:
        """Return the permit, or None when the agent gave none."""
        try:
            reply = await asyncio.to_thread(
                send_json,
                method,
                url,
                body,
                timeout_s=WAIT_S + 5,
                unix_socket=self._socket,
            )
            found = reply.json() if reply.ok else None
        except CallError as error:
            self._say(f"no answer to the permit request: {error.message}")
            return None
        if not isinstance(found, dict):
            self._say(f"no permit: {reply.status} {reply.body[:300]!r}")
            return None
        self._say(f"permit {found.get('state')}: {found.get('reason')}")
        return found
