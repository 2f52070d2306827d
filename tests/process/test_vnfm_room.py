"""A manager's snapshot and a disk that is full, before and half-way."""

import os
from pathlib import Path

import pytest

from agent.errors import ManagerError
from tests.fix_apart import MIB, fill, free_bytes
from tests.fix_network import head_of, http
from tests.fix_vnfm import archive, snapshot, told

pytestmark = pytest.mark.system
SOME_BYTES = 4 * MIB


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def chunked(body: bytes) -> bytes:
    """An answer that does not say how long it is."""
    head = b'HTTP/1.1 200 OK\r\netag: "x"\r\ntransfer-encoding: chunked\r\n\r\n'
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.apart(small="64m")
async def test_a_disk_that_fills_half_way_is_named_and_emptied_again(
    small_disk: Path, network, client_of
):
    whole = archive(blob=os.urandom(3 * SOME_BYTES))
    fill(small_disk, SOME_BYTES)

    async def serve(reader, writer):
        while True:
            asked = await head_of(reader)
            is_archive = b"/archive" in asked
            writer.write(chunked(whole) if is_archive else told(snapshot()))
            await writer.drain()

    there = await network.listen(serve)
    before = names(small_disk)
    with pytest.raises(ManagerError, match="no room left after") as caught:
        await client_of(there.url).download("a", small_disk / "a.zip")
    assert str(small_disk) in caught.value.message
    assert "still on the manager" in caught.value.hint
    assert names(small_disk) == before
    assert free_bytes(small_disk) >= SOME_BYTES - MIB


@pytest.mark.apart(small="64m")
async def test_a_disk_without_room_is_seen_before_the_first_byte(
    small_disk: Path, network, client_of
):
    whole = archive(blob=os.urandom(3 * SOME_BYTES))
    fill(small_disk, SOME_BYTES)
    there = await network.answer(told(snapshot()), http("200 OK", whole))
    with pytest.raises(ManagerError, match="bytes are to come") as caught:
        await client_of(there.url).download("a", small_disk / "a.zip")
    assert "choose another folder" in caught.value.hint
    assert names(small_disk) == ["of-somebody-else"]


@pytest.mark.apart(small="64m", plain=True)
async def test_a_folder_that_may_not_be_written_is_named(
    frozen_view: Path, network, client_of
):
    there = await network.answer(told(snapshot()))
    with pytest.raises(ManagerError, match="Read-only file system"):
        await client_of(there.url).download("a", frozen_view / "a.zip")
