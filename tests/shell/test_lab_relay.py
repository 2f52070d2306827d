"""The lab's network: relays that pass, cut, hold and delay real TCP connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from agent.errors import LabError
from agent.lab.account import Account
from agent.lab.plan import NodePlan, Options, Plan, RelayPlan, Secrets
from agent.lab.ports import hold_port, listen_on, port_of
from agent.lab.relay import Network, Relay

PATIENCE_S = 10


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets; its port."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1000):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def relay(echo) -> AsyncIterator[Relay]:
    """An open relay to the echo server."""
    holder = hold_port()
    made = Relay(port_of(holder), echo)
    made.open()
    yield made
    made.cut()
    holder.close()


async def open_to(relay: Relay):
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.open_connection("127.0.0.1", relay.port)


async def said_back(reader, writer, text):
    writer.write(text)
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readexactly(len(text))


async def test_an_open_relay_passes_everything_on_both_ways(relay):
    reader, writer = await open_to(relay)
    text = bytes(range(256)) * 2000
    writer.write(text)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == text
    writer.close()


@pytest.mark.fact("mute-link")
async def test_a_cut_relay_resets_its_connections_and_refuses_new_ones(relay):
    reader, writer = await open_to(relay)
    assert await said_back(reader, writer, b"hello") == b"hello"
    relay.cut()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_S):
            await reader.read(1)
    with pytest.raises(ConnectionRefusedError):
        await open_to(relay)
    writer.close()


async def test_a_healed_relay_takes_connections_again(relay):
    relay.cut()
    relay.open()
    reader, writer = await open_to(relay)
    assert await said_back(reader, writer, b"again") == b"again"
    writer.close()


@pytest.mark.fact("mute-link")
async def test_a_mute_relay_holds_connections_open_and_loses_nothing(relay):
    reader, writer = await open_to(relay)
    assert await said_back(reader, writer, b"before") == b"before"
    relay.mute()
    later_reader, later_writer = await open_to(relay)
    writer.write(b"held")
    later_writer.write(b"held too")
    answers = {
        asyncio.create_task(reader.readexactly(4)),
        asyncio.create_task(later_reader.readexactly(8)),
    }
    done, _ = await asyncio.wait(answers, timeout=0.3)
    assert not done
    relay.open()
    async with asyncio.timeout(PATIENCE_S):
        assert sorted(await asyncio.gather(*answers)) == [b"held", b"held too"]
    writer.close()
    later_writer.close()


async def test_a_delay_holds_back_each_piece(relay):
    relay.delay_s = 0.2
    reader, writer = await open_to(relay)
    begun = time.monotonic()
    assert await said_back(reader, writer, b"slow") == b"slow"
    assert time.monotonic() - begun >= 0.4
    writer.close()


async def test_a_relay_to_nobody_closes_what_it_took(relay):
    with hold_port() as nobody:
        relay._target_port = port_of(nobody)
        reader, writer = await open_to(relay)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read(1) == b""
        writer.close()


def test_a_held_port_is_given_to_nobody_but_the_one_who_asks_for_it():
    with hold_port() as holder:
        port = port_of(holder)
        listener = listen_on(port)
        with pytest.raises(LabError, match="in use"):
            listen_on(port)
        listener.close()
        listen_on(port).close()


def plan_of_two(target_port: int, holders: contextlib.ExitStack) -> Plan:
    """Two nodes, both of which stand at the echo server."""

    def port() -> int:
        return port_of(holders.enter_context(hold_port()))

    return Plan(
        state_dir="/nowhere", bin_dir="/nowhere", version_num=0,
        account=Account(0, 0),
        nodes=tuple(
            NodePlan(name, target_port, target_port, target_port)
            for name in ("n1", "n2")
        ),
        relays=(
            RelayPlan("n1", "n2", "manager", port()),
            RelayPlan("n2", "n1", "manager", port()),
        ),
        receiver_port=0, secrets=Secrets(*[""] * 10), options=Options(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "cut"),
    [("in", "n2->n1"), ("out", "n1->n2"), ("both", "n1->n2 n2->n1")],
)
async def test_a_one_way_cut_leaves_the_other_way_whole(echo, direction, cut):
    with contextlib.ExitStack() as holders:
        network = Network(plan_of_two(echo, holders))
        network.open()
        assert network.troubles() == ()
        network.partition("n1", direction, mute=False)
        wanted = tuple(f"{way} manager: cut" for way in cut.split())
        assert network.troubles() == wanted
        network.open()
        assert network.troubles() == ()
        network.close()
