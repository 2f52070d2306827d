"""Downloads of archives that break off, change, lie, or are not allowed."""

import hashlib
import json
import os
import pty
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.api.shelf import CatalogueShelf
from agent.cli.fetching import TRIES_MAX
from agent.snapshot.catalogue import Catalogue
from tests.fix_desk import Served, card, healthy, listening, serve, split_brain
from tests.shell.test_snapshot_catalogue import make_snapshot

CONTENT = {"manifest.json": b"{}", "data/big": bytes(range(256)) * 2000}


@pytest.fixture
def there(tmp_path: Path):
    """An agent elsewhere with one snapshot, its address and a token for its data."""
    served = serve(healthy())
    served.shelf.add(card("n1-abc"), CONTENT)
    token = tmp_path / "token"
    token.write_text(served.tokens["data"])
    with listening(served) as url:
        yield served, ("--url", url, "--token-file", token)


async def test_a_part_of_an_archive_is_given_by_range(served: Served):
    served.shelf.add(card("one"), CONTENT)
    path = "/v1/snapshots/one/archive"
    async with served.client("data") as client:
        whole = await client.get(path)
        tag = whole.headers["etag"]
        rest = await client.get(path, headers={"Range": "bytes=1000-"})
        part = await client.get(path, headers={"Range": "bytes=10-19", "If-Range": tag})
        other = await client.get(
            path, headers={"Range": "bytes=10-19", "If-Range": '"x"'}
        )
        strange = await client.get(path, headers={"Range": "bytes=0-1,5-6"})
        behind = await client.get(path, headers={"Range": "bytes=99999999-"})
        digest = (await client.get(f"{path}/digest")).json()
    size = len(whole.content)
    assert (whole.status_code, whole.headers["content-length"]) == (200, str(size))
    assert (rest.status_code, rest.content) == (206, whole.content[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert [other.status_code, strange.status_code, behind.status_code] == [
        200,
        200,
        416,
    ]
    assert behind.headers["content-range"] == f"bytes */{size}"
    assert digest == {
        "id": "one",
        "bytes": size,
        "sha256": hashlib.sha256(whole.content).hexdigest(),
        "etag": tag,
    }


def test_an_archive_is_fetched_checked_and_closed_to_others(
    splitguard, there, tmp_path
):
    served, where = there
    file = tmp_path / "it.tar"
    ran = splitguard(
        "snapshots", "download", "n1-abc", "-f", file, *where, "-o", "json"
    )
    assert ran.code == 0, ran.words
    content = file.read_bytes()
    assert json.loads(ran.out)["sha256"] == hashlib.sha256(content).hexdigest()
    assert content == served.shelf.archive("n1-abc").content
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".it.tar*"))
    again = splitguard("snapshots", "download", "n1-abc", "-f", file, *where)
    assert again.code == 1
    assert "is there already" in again.words


def test_the_folder_may_be_a_link(splitguard, there, tmp_path):
    served, where = there
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    file = tmp_path / "link" / "it.tar"
    ran = splitguard("snapshots", "download", "n1-abc", "-f", file, *where)
    assert ran.code == 0, ran.words
    found = (tmp_path / "folder" / "it.tar").read_bytes()
    assert found == served.shelf.archive("n1-abc").content


def test_a_transfer_that_breaks_off_goes_on_by_itself(splitguard, there, tmp_path):
    served, where = there
    served.shelf.breaks = [100_000, 60_000, 200_000]
    file = tmp_path / "it.tar"
    ran = splitguard("snapshots", "download", "n1-abc", "-f", file, *where)
    assert ran.code == 0, ran.words
    first, *later, _ = served.shelf.starts
    assert first == 0
    assert len(later) == 3
    assert sorted(later) == later
    assert later[0] > 0
    with tarfile.open(file) as tar:
        assert tar.getnames() == list(CONTENT)


def test_what_was_kept_is_taken_up_by_the_next_command(splitguard, there, tmp_path):
    served, where = there
    served.shelf.breaks = [4000] * TRIES_MAX
    file = tmp_path / "it.tar"
    ran = splitguard("snapshots", "download", "n1-abc", "-f", file, *where)
    assert ran.code == 1
    assert "are kept; the same command goes on from there" in ran.words
    kept = (tmp_path / ".it.tar.part").stat().st_size
    assert kept > 0
    assert not file.exists()
    served.shelf.starts.clear()
    assert splitguard("snapshots", "download", "n1-abc", "-f", file, *where).code == 0
    assert served.shelf.starts[0] == kept


def test_the_rest_of_another_archive_is_not_appended(splitguard, there, tmp_path):
    served, where = there
    file = tmp_path / "it.tar"
    (tmp_path / ".it.tar.part").write_bytes(b"of a former one")
    (tmp_path / ".it.tar.part.json").write_text('{"etag": "\\"old\\""}')
    assert splitguard("snapshots", "download", "n1-abc", "-f", file, *where).code == 0
    assert file.read_bytes() == served.shelf.archive("n1-abc").content


def test_a_beginning_that_was_changed_is_found_by_the_digest(
    splitguard, there, tmp_path
):
    served, where = there
    tag = served.shelf.archive("n1-abc").tag
    file = tmp_path / "it.tar"
    (tmp_path / ".it.tar.part").write_bytes(b"x" * 1000)
    (tmp_path / ".it.tar.part.json").write_text(json.dumps({"etag": f'"{tag}"'}))
    ran = splitguard("snapshots", "download", "n1-abc", "-f", file, *where)
    assert ran.code == 1
    assert "its SHA-256 is another one" in ran.words
    assert list(tmp_path.glob("*it.tar*")) == []


def test_a_download_needs_the_scope_data_and_an_id_that_is_there(
    splitguard, there, tmp_path
):
    served, where = there
    file = tmp_path / "it.tar"
    ran = splitguard("snapshots", "download", "n1-x", "-f", file, *where)
    assert (ran.code, "no snapshot of this id" in ran.words) == (1, True)
    weak = tmp_path / "weak"
    weak.write_text(served.tokens["read"])
    ran = splitguard("snapshots", "download", "n1-abc", "-f", file, *where[:3], weak)
    assert (ran.code, "lacks the scope data" in ran.words) == (1, True)
    assert list(tmp_path.glob("*it.tar*")) == []


def test_the_agent_here_says_where_a_snapshot_lies(splitguard, agent_for, tmp_path):
    other = serve(split_brain(), "n1")
    [capture] = other.desk.state.ledger.captures
    name = capture.order.capture_id
    other.shelf.add(card(name), CONTENT)
    token = tmp_path / "token"
    token.write_text(other.tokens["data"])
    with listening(other) as url:
        agent = agent_for(split_brain())
        agent.served.desk.me = "n2"
        agent.served.options.agent_urls["n1"] = url
        ask = ("--socket", agent.socket, "--token-file", token)
        ran = splitguard("snapshots", "download", name, "-f", tmp_path / "it.tar", *ask)
        assert ran.code == 0, ran.words
        assert "it lies beside n1" in ran.words
        ran = splitguard("snapshots", "download", "n9-x", *ask)
        assert "no agent is known to have snapshot n9-x" in ran.words


def test_a_snapshot_on_disk_is_fetched_whole(splitguard, tmp_path):
    make_snapshot(tmp_path / "captures")
    served = serve(healthy())
    shelf = CatalogueShelf(Catalogue(tmp_path / "captures"), None)
    served.app.state.context.shelf = shelf
    token = tmp_path / "token"
    token.write_text(served.tokens["data"])
    with listening(served) as url:
        ran = splitguard(
            "snapshots", "download", "n1-1", "-f", tmp_path, "--url", url,
            "--token-file", token,
        )  # fmt: skip
    assert ran.code == 0, ran.words
    assert splitguard("snapshots", "verify", tmp_path / "n1-1.tar").code == 0


async def test_a_snapshot_that_was_changed_is_no_missing_one(served, tmp_path):
    make_snapshot(tmp_path)
    (tmp_path / "n1-1" / "data" / "PG_VERSION").write_text("changed and longer")
    served.app.state.context.shelf = CatalogueShelf(Catalogue(tmp_path), None)
    async with served.client("data") as client:
        for path in ("archive", "archive/digest"):
            answer = await client.get(f"/v1/snapshots/n1-1/{path}")
            assert answer.status_code == 500
            assert "data/PG_VERSION" in answer.json()["detail"]
            assert answer.json()["hint"] == "verify the snapshot"


def test_progress_is_shown_on_a_terminal_and_nowhere_else(spawned, there, tmp_path):
    _, where = there
    words = ["snapshots", "download", "n1-abc", *map(str, where), "-f"]
    master, slave = pty.openpty()
    try:
        subprocess.run(
            [*spawned.program, *words, str(tmp_path / "seen.tar")],
            check=True, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=slave, env={**spawned.plain(), "TERM": "xterm"}, cwd=tmp_path,
        )  # fmt: skip
        shown = os.read(master, 65_536).decode()
    finally:
        os.close(slave)
        os.close(master)
    assert "fetching" in shown
    assert "100" in shown or "kB" in shown
    blind = spawned(*words, tmp_path / "blind.tar")
    assert blind.code == 0
    assert "fetching" not in blind.words
