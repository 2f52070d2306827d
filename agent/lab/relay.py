"""The network between the nodes: TCP relays that can fail on demand.

Theory of operation. Each ordered pair of nodes has one relay per service, so a
direction can be cut by itself: the relay n1 -> n2 carries what n1 asks of n2. A
cut relay resets its connections and refuses new ones. A mute one holds them open
and passes nothing on until it is healed. A delay holds back each piece. The relay
reads no further than what it could pass on, so it holds at most one piece each
way per connection.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from enum import StrEnum

from agent.lab.plan import HOST, Plan, RelayPlan
from agent.lab.ports import listen_on

PIECE_BYTES = 64 * 1024
CONNECT_S = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, with no time: closing sends a reset."""


class Mode(StrEnum):
    """What a relay does with connections."""

    OPEN = "open"
    CUT = "cut"
    MUTE = "mute"


class Relay:
    """Passes TCP connections on from one port to another."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.mode = Mode.OPEN
        self.delay_s = 0.0
        self._target_port = target_port
        self._listener: socket.socket | None = None
        self._passing = asyncio.Event()
        self._links: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Accept connections and pass them on; what was mute flows again."""
        self.mode = Mode.OPEN
        self._passing.set()
        self._listen()

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self.mode = Mode.CUT
        self._close()

    def mute(self) -> None:
        """Hold all connections open, take new ones, and pass nothing on."""
        self.mode = Mode.MUTE
        self._passing.clear()
        self._listen()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = listen_on(self.port)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _close(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for link in self._links:
            link.cancel()

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            link = asyncio.get_running_loop().create_task(self._link(client))
            self._links.add(link)
            link.add_done_callback(self._links.discard)

    async def _link(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setblocking(False)
        try:
            await self._passing.wait()
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(server, (HOST, self._target_port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(client, server))
                pumps.create_task(self._pump(server, client))
        except* (OSError, TimeoutError):
            pass  # one end is gone: both are closed below
        finally:
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(source, PIECE_BYTES):
            if self.delay_s > 0:
                await asyncio.sleep(self.delay_s)
            await self._passing.wait()
            await loop.sock_sendall(sink, piece)
        await self._passing.wait()
        sink.shutdown(socket.SHUT_WR)


class Network:
    """All relays of a lab. Must be made inside the running loop."""

    def __init__(self, plan: Plan) -> None:
        self._relays = {
            relay: Relay(relay.port, plan.node(relay.target).port(relay.service))
            for relay in plan.relays
        }

    def open(self) -> None:
        """Let everything through, without delay."""
        for relay in self._relays.values():
            relay.delay_s = 0.0
            relay.open()

    def close(self) -> None:
        """Refuse everything; the end of the lab."""
        for relay in self._relays.values():
            relay.cut()

    def partition(self, node: str, direction: str = "both", *, mute: bool) -> None:
        """Cut a node off: what comes `in` to it, what goes `out`, or `both`."""
        for relay in self._around(node, direction):
            if mute:
                relay.mute()
            else:
                relay.cut()

    def delay(self, node: str, delay_s: float) -> None:
        """Hold back each piece from and to a node by so many seconds."""
        for relay in self._around(node, "both"):
            relay.delay_s = delay_s

    def troubles(self) -> tuple[str, ...]:
        """Name every relay that is not open, as `n1->n2 postgres: cut`."""
        return tuple(
            f"{way.source}->{way.target} {way.service}: {relay.mode}"
            for way, relay in self._relays.items()
            if relay.mode is not Mode.OPEN
        )

    def _around(self, node: str, direction: str) -> Iterable[Relay]:
        for way, relay in self._relays.items():
            if _touches(way, node, direction):
                yield relay


def _touches(way: RelayPlan, node: str, direction: str) -> bool:
    incoming = direction in ("both", "in") and way.target == node
    outgoing = direction in ("both", "out") and way.source == node
    return incoming or outgoing
