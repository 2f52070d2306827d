"""Downloads: as large as they like, never silent for long, never cut unnoticed."""

import asyncio

import pytest

from agent.transport import (
    BODY_LIMIT_BYTES,
    DeadlineError,
    HttpClient,
    Request,
    UnreachableError,
    UnreadableAnswerError,
)
from tests.fix_network import head_of, http


@pytest.fixture
async def client():
    made = HttpClient()
    yield made
    await made.close()


async def test_a_body_beyond_every_limit_is_poured_out_in_pieces(client, network):
    body = bytes(BODY_LIMIT_BYTES + 1000)
    there = await network.answer(http("200 OK", body))
    pieces: list[bytes] = []
    answer = await client.download(Request("GET", there.url), pieces.append, 5)
    assert (answer.status, answer.body) == (200, b"")
    assert b"".join(pieces) == body


async def test_a_refusal_is_an_answer_and_nothing_is_poured_out(client, network):
    there = await network.answer(http("403 No", b"because"))
    pieces: list[bytes] = []
    answer = await client.download(Request("GET", there.url), pieces.append, 5)
    assert (answer.status, answer.body, pieces) == (403, b"because", [])


async def test_a_refusal_without_end_is_not_read_to_it(client, network):
    there = await network.answer(http("500 Oh", b"x" * 2000))
    request = Request("GET", there.url, limit_bytes=1000)
    with pytest.raises(UnreadableAnswerError, match="more than 1000 bytes"):
        await client.download(request, lambda _: None, 5)


async def test_a_body_that_ends_too_early_is_an_error(client, network):
    async def hang_up(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await writer.drain()

    there = await network.listen(hang_up)
    with pytest.raises(UnreachableError, match="cut"):
        await client.download(Request("GET", there.url), lambda _: None, 5)


async def test_silence_in_the_middle_ends_the_download(client, network):
    forever = asyncio.Event()

    async def stall(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await writer.drain()
        await forever.wait()

    there = await network.listen(stall)
    pieces: list[bytes] = []
    with pytest.raises(DeadlineError, match=r"silent for 0.2 s"):
        await client.download(Request("GET", there.url), pieces.append, 0.2)
    assert b"".join(pieces) == b"abc"
    forever.set()


async def test_a_download_from_nowhere_names_the_place(client):
    with pytest.raises(UnreachableError, match="not an address"):
        await client.download(Request("GET", "gopher://x"), lambda _: None, 1)


async def test_a_slow_taker_is_waited_for_between_two_pieces(client, network):
    there = await network.answer(http("200 OK", bytes(300_000)))
    running = 0
    taken: list[int] = []

    async def take(piece):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        taken.append(len(piece))
        running -= 1

    await client.download(Request("GET", there.url), take, 5)
    assert sum(taken) == 300_000
