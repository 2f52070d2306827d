"""Archives to a manager and off it: whole or not at all, and never another's."""

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest

from agent.errors import ManagerError
from agent.vnfm.records import SnapshotStatus
from agent.vnfm.transfer import COPIED_S
from tests.fix_network import head_of, http
from tests.fix_vnfm import archive, html, refused, snapshot, told

WHOLE = archive(blob=os.urandom(3_000_000))
ETAG = 'etag: "abc-1"'
UNKNOWN = refused(
    "404 NOT FOUND", "not_found_error", "Requested `Snapshot` with ID `a` was not found"
)
CREATED = told(snapshot("a"))


def there_are(folder: Path) -> list[str]:
    """What is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def given(body: bytes = WHOLE) -> bytes:
    """What nginx streams."""
    return http("200 OK", body, "content-type: application/octet-stream", ETAG)


def rest(start: int, body: bytes = WHOLE, tag: str = ETAG) -> bytes:
    """The part of it that was asked for."""
    part = f"content-range: bytes {start}-{len(body) - 1}/{len(body)}"
    return http("206 Partial Content", body[start:], part, tag)


class Breaking:
    """A manager whose downloads break after so many bytes, as often as is said."""

    def __init__(self, after: int, often: int, body: bytes = WHOLE) -> None:
        self.after, self.often, self.body = after, often, body
        self.starts: list[int] = []
        self.then: int | None = None

    async def __call__(self, reader, writer):
        while True:
            request = (await head_of(reader)).decode().lower()
            if "/archive" not in request:
                writer.write(CREATED)
                await writer.drain()
                continue
            start = 0
            if "range: bytes=" in request:
                assert 'if-range: "abc-1"' in request
                start = int(request.partition("range: bytes=")[2].partition("-")[0])
            self.starts.append(start)
            answer = rest(start, self.body) if start else given(self.body)
            if len(self.starts) <= self.often:
                head = answer.index(b"\r\n\r\n") + 4
                writer.write(answer[: head + self.after])
                await writer.drain()
                self.after = self.after if self.then is None else self.then
                return
            writer.write(answer)
            await writer.drain()


async def test_a_download_is_whole_opens_and_has_its_hash(manager_says, tmp_path):
    client, asked = await manager_says(CREATED, given())
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "a.zip"
    fetched = await client.download("a", target, lambda *x: seen.append(x))
    assert fetched.path == target
    assert target.read_bytes() == WHOLE
    assert fetched.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert (fetched.size_bytes, fetched.archive.format) == (len(WHOLE), "new")
    assert target.stat().st_mode & 0o777 == 0o600
    assert there_are(tmp_path) == ["a.zip"]
    assert seen[0] == (0, len(WHOLE))
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert len(seen) > 3
    assert b"range" not in asked[1].lower()


async def test_a_download_goes_into_a_folder_that_is_a_link(manager_says, tmp_path):
    client, _ = await manager_says(CREATED, given())
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    await client.download("a", tmp_path / "link" / "a.zip")
    assert there_are(tmp_path / "folder") == ["a.zip"]


async def test_what_breaks_off_goes_on_where_it_was(network, client_of, tmp_path):
    breaking = Breaking(after=1_000_000, often=2)
    there = await network.listen(breaking)
    await client_of(there.url).download("a", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == WHOLE
    assert breaking.starts[0] == 0
    assert 0 < breaking.starts[1] < breaking.starts[2]


async def test_what_goes_on_breaking_is_kept_for_the_next_command(
    network, client_of, tmp_path
):
    breaking = Breaking(after=1_500_000, often=10**6)
    there = await network.listen(breaking)
    client = client_of(there.url)
    breaking.then = 0
    with pytest.raises(ManagerError, match="cut") as caught:
        await client.download("a", tmp_path / "a.zip")
    assert "bytes are kept; the same command goes on" in caught.value.hint
    assert not (tmp_path / "a.zip").exists()

    breaking.often = 0
    again = client_of(there.url)
    await again.download("a", tmp_path / "a.zip")
    assert breaking.starts[-1] > 0
    assert (tmp_path / "a.zip").read_bytes() == WHOLE
    assert there_are(tmp_path) == ["a.zip"]


async def test_the_beginning_of_another_archive_is_not_gone_on_with(
    manager_says, tmp_path
):
    (tmp_path / ".a.zip.part").write_bytes(b"of another one")
    note = {"source": "10.0.0.9:443 b", "etag": '"abc-1"'}
    (tmp_path / ".a.zip.part.json").write_text(json.dumps(note))
    client, asked = await manager_says(CREATED, given())
    await client.download("a", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == WHOLE
    assert b"range" not in asked[1].lower()


async def test_an_archive_that_was_made_anew_meanwhile_is_fetched_whole(
    manager_says, tmp_path
):
    client, asked = await manager_says(CREATED, given())
    begun(tmp_path, client.place, b"of the one before", '"old"')
    await client.download("a", tmp_path / "a.zip")
    assert b'if-range: "old"' in asked[1].lower()
    assert (tmp_path / "a.zip").read_bytes() == WHOLE


def begun(folder: Path, place: str, content: bytes, tag: str = '"abc-1"') -> None:
    """What an earlier download of the same snapshot has left."""
    (folder / ".a.zip.part").write_bytes(content)
    note = {"source": f"{place} a", "etag": tag}
    (folder / ".a.zip.part.json").write_text(json.dumps(note))


async def test_a_beginning_that_is_too_long_is_given_up(manager_says, tmp_path):
    beyond = http("416 Range Not Satisfiable")
    client, _ = await manager_says(CREATED, beyond, given())
    begun(tmp_path, client.place, b"x" * 5_000_000)
    await client.download("a", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == WHOLE


async def test_another_part_than_was_asked_for_is_not_taken(manager_says, tmp_path):
    client, _ = await manager_says(CREATED, rest(3))
    begun(tmp_path, client.place, b"a beginning")
    with pytest.raises(ManagerError, match="another part"):
        await client.download("a", tmp_path / "a.zip")
    assert there_are(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"garbage", "no zip"),
        (WHOLE[:-1000], "broken zip"),
        (b"", "an empty answer"),
    ],
)
async def test_what_does_not_open_gets_no_name(manager_says, tmp_path, content, words):
    client, _ = await manager_says(CREATED, given(content))
    with pytest.raises(ManagerError, match=words):
        await client.download("a", tmp_path / "a.zip")
    assert there_are(tmp_path) == []


async def test_the_internal_port_is_named_for_an_empty_answer(manager_says, tmp_path):
    client, _ = await manager_says(CREATED, http("200 OK"))
    with pytest.raises(ManagerError) as caught:
        await client.download("a", tmp_path / "a.zip")
    assert "8100" in caught.value.hint


async def test_one_that_is_being_made_is_not_asked_for(manager_says, tmp_path):
    client, asked = await manager_says(told(snapshot("a", "creating")))
    with pytest.raises(ManagerError, match="still being made"):
        await client.download("a", tmp_path / "a.zip")
    assert len(asked) == 1


async def test_one_that_failed_says_why(manager_says, tmp_path):
    client, _ = await manager_says(told(snapshot("a", "failed", error="disk full")))
    with pytest.raises(ManagerError, match="snapshot a failed: disk full") as caught:
        await client.download("a", tmp_path / "a.zip")
    assert "make a new one" in caught.value.hint


async def test_an_archive_that_is_still_being_copied_is_waited_for(
    manager_says, tmp_path
):
    missing = html("404 Not Found")
    client, asked = await manager_says(CREATED, missing, missing, given())
    await client.download("a", tmp_path / "a.zip")
    assert len(asked) == 4
    assert len(client.clock.slept) == 2


async def test_an_archive_that_never_comes_lies_on_another_manager(
    manager_says, tmp_path
):
    client, _ = await manager_says(CREATED, html("404 Not Found"))
    with pytest.raises(ManagerError, match="not on this manager's disk") as caught:
        await client.download("a", tmp_path / "a.zip")
    assert "Syncthing" in caught.value.hint
    assert COPIED_S <= sum(client.clock.slept) < 2 * COPIED_S
    assert there_are(tmp_path) == []


async def test_a_refusal_of_the_managers_is_told(manager_says, tmp_path):
    message = "Failed snapshot cannot be downloaded"
    answer = refused("400 BAD REQUEST", "snapshot_action_error", message)
    client, _ = await manager_says(CREATED, answer)
    with pytest.raises(ManagerError, match=message):
        await client.download("a", tmp_path / "a.zip")
    assert there_are(tmp_path) == []


async def test_what_is_there_already_is_left_alone(manager_says, tmp_path):
    (tmp_path / "a.zip").write_text("mine")
    client, _ = await manager_says(CREATED, given())
    with pytest.raises(ManagerError, match="is there already"):
        await client.download("a", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"
    assert there_are(tmp_path) == ["a.zip"]


async def test_a_folder_that_is_not_there_is_named(manager_says, tmp_path):
    client, _ = await manager_says(CREATED)
    with pytest.raises(ManagerError, match="No such file") as caught:
        await client.download("a", tmp_path / "none" / "a.zip")
    assert "name a folder" in caught.value.hint


async def test_two_do_not_fetch_into_one_file(network, client_of, tmp_path):
    breaking = Breaking(after=1000, often=0)
    there = await network.listen(breaking)
    first, second = client_of(there.url), client_of(there.url)
    ended = await asyncio.gather(
        first.download("a", tmp_path / "a.zip"),
        second.download("a", tmp_path / "a.zip"),
        return_exceptions=True,
    )
    failed = [str(each) for each in ended if isinstance(each, ManagerError)]
    assert len(failed) == 1
    assert "by another process" in failed[0] or "already" in failed[0]
    assert (tmp_path / "a.zip").read_bytes() == WHOLE


async def test_a_download_that_is_cancelled_can_be_gone_on_with(
    network, client_of, tmp_path
):
    half, forever = asyncio.Event(), asyncio.Event()

    async def stall(reader, writer):
        await head_of(reader)
        writer.write(CREATED)
        await head_of(reader)
        writer.write(given()[:1_600_000])
        await writer.drain()
        await forever.wait()

    def told_of(done: int, _: int | None) -> None:
        if done:
            half.set()

    there = await network.listen(stall)
    task = asyncio.create_task(
        client_of(there.url).download("a", tmp_path / "a.zip", told_of)
    )
    await half.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    forever.set()
    assert there_are(tmp_path) == [".a.zip.part", ".a.zip.part.json"]
    part = (tmp_path / ".a.zip.part").read_bytes()
    assert part
    assert WHOLE.startswith(part)


async def test_more_than_there_is_room_for_is_not_begun(manager_says, tmp_path):
    huge = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000000000000\r\n\r\n"
    client, _ = await manager_says(CREATED, huge)
    with pytest.raises(ManagerError, match="9000000000000000 bytes are to come"):
        await client.download("a", tmp_path / "a.zip")
    assert there_are(tmp_path) == []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "up.zip"
    path.write_bytes(WHOLE)
    return path


def length(size: int) -> bytes:
    """The answer to a HEAD."""
    return f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode()


async def test_an_upload_streams_the_file_under_a_free_id(manager_says, file):
    up = snapshot("a", "uploaded")
    client, asked = await manager_says(
        UNKNOWN, told(up, "201 CREATED"), length(len(WHOLE)), told(up)
    )
    seen: list[tuple[int, int | None]] = []
    sent = await client.upload("a", file, lambda *x: seen.append(x))
    assert sent.status is SnapshotStatus.UPLOADED
    head, _, body = asked[1].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /api/v3.1/snapshots/a/archive ")
    assert b"content-type: application/octet-stream" in head.lower()
    assert body == WHOLE
    assert seen[-1] == (len(WHOLE), len(WHOLE))


async def test_an_upload_onto_an_existing_id_is_not_sent(manager_says, file):
    client, asked = await manager_says(CREATED)
    with pytest.raises(ManagerError, match="has a snapshot a already") as caught:
        await client.upload("a", file)
    assert caught.value.code == "conflict_error"
    assert len(asked) == 1


async def test_an_upload_that_overwrote_another_one_says_so(manager_says, file):
    nulls = dict.fromkeys(snapshot())
    client, _ = await manager_says(UNKNOWN, told(nulls, "201 CREATED"))
    with pytest.raises(ManagerError, match="its archive is overwritten"):
        await client.upload("a", file)


async def test_garbage_is_not_sent(manager_says, tmp_path):
    path = tmp_path / "up.zip"
    path.write_bytes(b"garbage")
    client, asked = await manager_says(UNKNOWN)
    with pytest.raises(ManagerError, match="is no zip"):
        await client.upload("a", path)
    assert len(asked) == 1


async def test_an_upload_that_arrived_cut_is_seen(manager_says, file):
    up = told(snapshot("a", "uploaded"), "201 CREATED")
    client, _ = await manager_says(UNKNOWN, up, length(1000))
    with pytest.raises(ManagerError, match="holds 1000 bytes") as caught:
        await client.upload("a", file)
    assert "disk full" in caught.value.hint


async def test_an_upload_by_address_keeps_the_address_to_itself(manager_says):
    url = "http://user:hunter2@files:8080/a.zip?signature=hunter2"
    message = f"Cannot fetch {url}: timed out"
    answer = refused("400 BAD REQUEST", "bad_parameters_error", message)
    client, asked = await manager_says(UNKNOWN, answer)
    with pytest.raises(ManagerError, match="Cannot fetch") as caught:
        await client.upload_from_url("a", url)
    assert "hunter2" not in str(caught.value)
    assert b"/a/archive?snapshot_archive_url=http%3A%2F%2Fuser" in asked[1]


async def test_an_upload_by_address_is_looked_at_afterwards(manager_says):
    up = snapshot("a", "uploaded")
    client, _ = await manager_says(UNKNOWN, told(up, "201 CREATED"), told(up))
    sent = await client.upload_from_url("a", "http://files/a.zip")
    assert sent.status is SnapshotStatus.UPLOADED
