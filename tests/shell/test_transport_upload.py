"""Uploads: as large as they like, never silent for long, never sent twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.transport import DeadlineError, HttpClient, Request, UnreachableError
from tests.fix_network import head_of, http

SIZE = 700_000


@pytest.fixture
async def client():
    made = HttpClient()
    yield made
    await made.close()


async def pieces(size: int = SIZE) -> AsyncIterator[bytes]:
    for offset in range(0, size, 100_000):
        yield bytes([offset // 100_000]) * min(100_000, size - offset)


async def test_a_body_goes_out_in_pieces_with_its_length(client, network):
    there = await network.answer(http("201 Created", b"taken"))
    answer = await client.upload(
        Request("PUT", f"{there.url}/archive", {"content-type": "text/x"}),
        pieces(),
        SIZE,
        idle_s=5,
        answer_s=5,
    )
    assert (answer.status, answer.body) == (201, b"taken")
    (request,) = there.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /archive HTTP/1.1")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"".join([piece async for piece in pieces()])


async def test_a_refusal_in_the_middle_is_an_answer(client, network):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http("401 No", b"who are you"))
        await writer.drain()
        await reader.read()

    there = await network.listen(refuse)
    request = Request("PUT", there.url)
    answer = await client.upload(request, pieces(), SIZE, idle_s=5, answer_s=5)
    assert (answer.status, answer.body) == (401, b"who are you")


async def test_a_taker_that_stops_reading_ends_the_upload(client, network):
    stuck = asyncio.Event()

    async def stall(reader, writer):
        await stuck.wait()

    there = await network.listen(stall)
    request, size = Request("PUT", there.url), 64_000_000
    with pytest.raises(DeadlineError, match=r"silent for 0.3 s"):
        await client.upload(request, pieces(size), size, idle_s=0.3, answer_s=9)
    stuck.set()


async def test_after_the_last_piece_the_answer_has_a_time_of_its_own(client, network):
    taken = asyncio.Event()

    async def think(reader, writer):
        await head_of(reader)
        taken.set()
        await asyncio.sleep(0.5)  # longer than any silence while it is sent
        writer.write(http("200 OK"))
        await writer.drain()

    there = await network.listen(think)
    request = Request("PUT", there.url)
    answer = await client.upload(request, pieces(), SIZE, idle_s=0.2, answer_s=9)
    assert answer.status == 200
    assert taken.is_set()


async def test_an_upload_that_is_cut_is_not_sent_again(client, network):
    async def hang_up(reader, writer):
        there.requests.append(await head_of(reader))

    there = await network.listen(hang_up)
    request = Request("PUT", there.url)
    with pytest.raises(UnreachableError, match="connection was cut"):
        await client.upload(request, pieces(), SIZE, idle_s=5, answer_s=5)
    assert len(there.requests) == 1


async def test_a_request_that_is_sent_once_is_not_sent_again(client, network):
    async def once(reader, writer):
        await head_of(reader)
        writer.write(http("200 OK", b"a"))
        await writer.drain()
        there.requests.append(await head_of(reader))  # and hang up

    there = await network.listen(once)
    assert (await client.get(there.url, 2)).ok
    with pytest.raises(UnreachableError, match="connection was cut"):
        await client.request(Request("PUT", there.url, content=b"x", once=True), 2)
    assert len(there.requests) == 1


async def test_what_the_pieces_raise_goes_through(client, network):
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise OSError(5, "the disk says no")

    there = await network.answer(http("200 OK"))
    with pytest.raises(OSError, match="the disk says no"):
        await client.upload(
            Request("PUT", there.url), broken(), 9, idle_s=5, answer_s=5
        )
