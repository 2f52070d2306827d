"""Loopback servers and relays that misbehave on demand, for tests of what listens.

`listen` starts a server whose every connection is handled by the test's own
function; `relay` stands between a client and a server and can fall mute or be cut.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

QUESTIONS = (b"Q", b"P")
"""How a message begins with which a PostgreSQL client asks: simple query, or parse."""
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Listener:
    """A server on a free loopback port."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """Read one request's head and its body as Content-Length says."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """One HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Network:
    """Everything that one test has listening."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._open: set[asyncio.Task[Any]] = set()

    async def listen(self, handler: Handler, **kwargs: Any) -> Listener:
        """Serve each connection with `handler` until the test ends."""
        listener = Listener()

        async def handle(reader, writer):
            listener.connections += 1
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self._open.discard(task)
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, **kwargs)
        listener.port = server.sockets[0].getsockname()[1]
        self._stack.callback(server.close)
        return listener

    async def answer(self, *answers: bytes) -> Listener:
        """Serve these answers one after the other, the last one again and again."""
        left = list(answers)

        async def handler(reader, writer):
            while True:
                listener.requests.append(await head_of(reader))
                writer.write(left.pop(0) if len(left) > 1 else left[0])
                await writer.drain()

        listener = await self.listen(handler)
        return listener

    async def silence(self) -> Listener:
        """Take connections and never say a word."""

        async def handler(reader, writer):
            while await reader.read(4096):
                pass

        return await self.listen(handler)

    async def relay(self, host: str, port: int) -> "Relay":
        """Stand between a client and the server at host and port."""
        relay = Relay(host, port)
        relay.listener = await self.listen(relay.handle)
        return relay

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._stack.aclose()


class Relay:
    """Passes bytes on, both ways, as long as `flowing` is set."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.cuts_questions = False
        """Whether a connection is cut when something is asked over it."""
        self.listener = Listener()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        return self.listener.port

    def mute(self) -> None:
        """Hold every connection open and pass nothing on."""
        self.flowing.clear()

    def speak(self) -> None:
        self.flowing.set()

    def cut(self) -> None:
        """Reset what is connected."""
        for writer in self._writers:
            writer.transport.abort()

    async def handle(self, reader, writer) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._there)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, asks=True),
                self._pump(there_reader, writer),
            )
        finally:
            self._writers -= {writer, there_writer}
            there_writer.close()

    async def _pump(self, reader, writer, asks=False) -> None:
        while chunk := await reader.read(65536):
            if asks and self.cuts_questions and chunk[:1] in QUESTIONS:
                break
            await self.flowing.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    yield made
    await made.close()
