"""Off-site: an archive counts as sent once it was read back, and never before.

A real S3 (moto, as a process) and a folder take archives; stores that hang, lie, lose
or are not there take none, and say so.
"""

import hashlib
import os
import re
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from obstore.store import S3Store
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from agent.core.moment import Moment
from agent.core.state import State
from agent.daemon.managers_shelf import pruner
from agent.daemon.sender import AGAIN_S, Sender
from agent.daemon.upkeep import Upkeep
from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot import marks
from agent.snapshot.archive import Archive
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.offsite import Offsite, Place, read_credentials
from agent.snapshot.retention import Limits
from agent.snapshot.sealing import Seal, seal
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_folder
from agent.store.memory import MemoryJournal
from agent.vnfm import seasons
from agent.vnfm.shelf import Shelf
from tests.fix_postgres import eventually, free_port
from tests.shell.test_runtime import running
from tests.shell.test_snapshot_catalogue import make_snapshot
from tests.shell.test_vnfm_shelf import CONTENT, put

SECRET = "s3cr3t-access-key"
KEYS = {"access_key_id": "somebody", "secret_access_key": SECRET}
KEY = pyrage.x25519.Identity.generate()
SEALED = Seal(compress=True, recipients=(str(KEY.to_public()),))
NOW = Moment(1000.0, 1_800_000_000.0)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 with the bucket `backups`."""
    port = free_port()
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1",
         "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually("the S3 answers", answers)
        url = f"http://127.0.0.1:{port}"
        bucket = urllib.request.Request(f"{url}/backups", method="PUT")
        urllib.request.urlopen(bucket, timeout=10).close()
        yield url
    finally:
        server.kill()
        server.wait(10)


def place(endpoint: str, url: str = "s3://backups/pre/fix", **changes) -> Place:
    return replace(
        Place(url, endpoint=endpoint, credentials=KEYS, timeout_s=2.0), **changes
    )


def large(tmp_path: Path) -> Path:
    """A snapshot of 20 MB that zstd cannot shrink: it goes in several parts."""
    manifest = make_snapshot(tmp_path / "captures")
    folder = tmp_path / "captures" / "n1-1"
    content = os.urandom(20_000_000)
    (folder / "data" / "base" / "1").write_bytes(content)
    files = tuple(
        replace(one, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        if one.path == "data/base/1"
        else one
        for one in manifest.files
    )
    manifests.write(folder, replace(manifest, files=files))
    return folder


@pytest.mark.parametrize("how", [Seal(), SEALED])
def test_an_archive_in_a_bucket_is_what_was_sent(tmp_path: Path, s3: str, how: Seal):
    folder = large(tmp_path)
    sent = Offsite(place(s3), how).send(folder)
    name = f"c/n1-1{how.suffix}"
    assert sent.url == f"s3://backups/pre/fix/{name}"
    bucket = S3Store(
        "backups",
        endpoint=s3,
        access_key_id=KEYS["access_key_id"],
        secret_access_key=KEYS["secret_access_key"],
        client_options={"allow_http": True},
    )
    content = bytes(bucket.get(f"pre/fix/{name}").bytes())
    assert (len(content), hashlib.sha256(content).hexdigest()) == (
        sent.size,
        sent.sha256,
    )
    line = bytes(bucket.get(f"pre/fix/{name}.sha256").bytes()).decode()
    assert line == f"{sent.sha256}  n1-1{how.suffix}\n"
    file = tmp_path / "fetched"
    file.write_bytes(content)
    unpack(file, tmp_path / "back", (KEY,))
    assert verify_folder(tmp_path / "back").problems == ()


def test_a_folder_elsewhere_is_private_and_checks_with_stock_programs(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    there = tmp_path / "there with blank"
    there.mkdir()
    offsite = Offsite(Place(there.as_uri()), Seal(compress=True))
    sent = offsite.send(tmp_path / "captures" / "n1-1")
    assert (there / "c" / "n1-1.tar.zst").stat().st_size == sent.size
    assert (there / "c").stat().st_mode & 0o077 == 0
    subprocess.run(
        ["sha256sum", "-c", "--quiet", "n1-1.tar.zst.sha256"],
        cwd=there / "c", check=True,
    )  # fmt: skip
    assert {path.name for path in (there / "c").iterdir()} == {
        "n1-1.tar.zst",
        "n1-1.tar.zst.sha256",
    }
    again = offsite.send(tmp_path / "captures" / "n1-1")
    assert again == sent


def refused(tmp_path: Path, where: Place, match: str) -> None:
    """See that nothing counts as sent, and that no secret is told."""
    make_snapshot(tmp_path / "captures")
    with pytest.raises(SnapshotError, match=match) as found:
        Offsite(where, Seal()).send(tmp_path / "captures" / "n1-1")
    assert SECRET not in str(found.value)
    assert "Debug source" not in str(found.value)


def test_a_store_that_hangs_is_an_error_within_its_time(tmp_path: Path):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        where = place(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout_s=1.0)
        refused(tmp_path, where, "cannot be sent to s3://backups/pre/fix")


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path, s3: str):
    refused(tmp_path, place("http://127.0.0.1:1"), "cannot be sent")


@pytest.mark.parametrize(
    ("url", "match"),
    [("s3://no-such-bucket", "NoSuchBucket"), ("file:///no/such/folder", "be used")],
)
def test_a_place_that_does_not_exist_is_named(
    tmp_path: Path, s3: str, url: str, match: str
):
    refused(tmp_path, place(s3, url), match)


def xml(name: str, content: str) -> Response:
    text = f"<{name}>{content}</{name}>"
    return Response(text, 200, {"Content-Type": "application/xml"})


class Liar:
    """An S3 that says yes to everything; what it gives back is its own affair."""

    def __init__(self, server: HTTPServer, give_back: str) -> None:
        self.give_back = give_back
        self.content = b""
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        if request.method == "PUT":
            self.content += request.get_data()
            return Response(b"", 200, {"ETag": '"0"'})
        if request.method == "POST" and "uploads" in request.args:
            return xml("InitiateMultipartUploadResult", "<UploadId>1</UploadId>")
        if request.method == "POST":
            return xml("CompleteMultipartUploadResult", "<ETag>0</ETag>")
        return self.kept(request)

    def kept(self, request: Request) -> Response:
        given = {
            "nothing": None,
            "half of it": self.content[: len(self.content) // 2],
            "something else": bytes(len(self.content)),
        }[self.give_back]
        if given is None:
            return Response(b"", 404)
        head = {"ETag": '"0"', "Last-Modified": "Mon, 23 Nov 2026 03:00:00 GMT"}
        start, end = 0, len(given)
        wanted = request.headers.get("Range", "")
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", wanted):
            start, end = int(asked[1]), min(int(asked[2]) + 1, end)
            head["Content-Range"] = f"bytes {start}-{end - 1}/{len(given)}"
        body = given[start:end]
        if request.method == "HEAD":
            answer = Response(b"", 200, head)
            answer.headers["Content-Length"] = str(len(body))
            return answer
        return Response(body, 206 if asked else 200, head)


@pytest.mark.parametrize(
    ("give_back", "match"),
    [
        ("nothing", "cannot be sent"),
        ("half of it", "is not what was sent"),
        ("something else", "is not what was sent"),
    ],
)
def test_a_store_that_lies_about_success_is_found_out(
    tmp_path: Path, httpserver: HTTPServer, give_back: str, match: str
):
    Liar(httpserver, give_back)
    refused(tmp_path, place(httpserver.url_for("").rstrip("/")), match)


def test_a_snapshot_that_cannot_be_read_leaves_nothing_there(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    os.truncate(tmp_path / "captures/n1-1/data/base/1", 5)
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(SnapshotError, match="has 5 bytes"):
        Offsite(Place(there.as_uri()), Seal()).send(tmp_path / "captures" / "n1-1")
    assert not list(there.rglob("n1-1*"))


def sender(tmp_path: Path, there: Path, now: list[Moment]) -> Sender:
    catalogue = Catalogue(tmp_path / "captures")
    return Sender(Offsite(Place(there.as_uri()), Seal()), catalogue, lambda: now[0])


def later(now: list[Moment], seconds: float) -> None:
    now[0] = Moment(now[0].monotonic_s + seconds, now[0].wall_s + seconds)


def test_what_failed_is_tried_again_later_and_later_until_it_is_there(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    folder, there, now = tmp_path / "captures" / "n1-1", tmp_path / "there", [NOW]
    worker = sender(tmp_path, there, now)
    worker.look()
    worker.look()
    twin = marks.twin(folder)
    assert twin is not None
    assert (twin.attempts, twin.verified) == (1, False)
    assert "cannot be" in twin.error
    later(now, AGAIN_S + 1)
    worker.look()
    later(now, AGAIN_S + 1)
    worker.look()
    twin = marks.twin(folder)
    assert twin is not None
    assert twin.attempts == 2
    there.mkdir()
    later(now, AGAIN_S + 1)
    worker.look()
    twin = marks.twin(folder)
    assert twin is not None
    assert (twin.verified, twin.attempts, twin.error) == (True, 0, "")
    assert (there / "c" / "n1-1.tar").read_bytes() == b"".join(Archive(folder).stream())
    before = (there / "c" / "n1-1.tar").stat().st_ino
    worker.look()
    assert (there / "c" / "n1-1.tar").stat().st_ino == before


def test_a_clock_that_went_back_puts_nothing_off_for_ever(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    there, now = tmp_path / "there", [NOW]
    worker = sender(tmp_path, there, now)
    worker.look()
    there.mkdir()
    later(now, -40 * 86_400)
    worker.look()
    twin = marks.twin(tmp_path / "captures" / "n1-1")
    assert twin is not None
    assert twin.verified


def test_what_is_not_finished_is_not_sent(tmp_path: Path):
    made = make_snapshot(tmp_path / "captures")
    manifests.write(tmp_path / "captures" / "n1-1", replace(made, closed=False))
    there = tmp_path / "there"
    there.mkdir()
    sender(tmp_path, there, [NOW]).look()
    assert not list(there.iterdir())
    assert marks.twin(tmp_path / "captures" / "n1-1") is None


def test_the_thread_sends_and_ends_when_it_is_told(tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    there = tmp_path / "there"
    there.mkdir()
    worker = sender(tmp_path, there, [NOW])
    worker.start()
    eventually(
        "the twin is noted",
        lambda: (twin := marks.twin(tmp_path / "captures" / "n1-1")) and twin.verified,
    )
    worker.stop()
    worker.stop()


@pytest.mark.parametrize("sealed", [True, False])
def test_a_managers_snapshot_goes_as_it_lies_here_and_stays_until_it_is_there(
    tmp_path: Path, sealed: bool
):
    shelf, there, now = Shelf(tmp_path / "shelf"), tmp_path / "there", [NOW]
    stored = b"".join(seal(iter([CONTENT]), SEALED)) if sealed else CONTENT
    for name, created in (("sg-n1-1", 1e9), ("sg-n1-2", 2e9)):
        put(shelf, name, stored, sealed=sealed, at=created)
    prune = pruner(shelf, seasons.Limits(1, 0, 0, 0), "UTC", float, there.as_uri())
    offsite = Offsite(Place(there.as_uri()), SEALED if sealed else Seal())
    captures = Catalogue(tmp_path / "captures")
    captures.place.mkdir()
    worker = Sender(offsite, captures, lambda: now[0], shelf=shelf)
    worker.look()
    prune()
    assert len(shelf.list()) == 2
    there.mkdir()
    later(now, AGAIN_S + 1)
    worker.look()
    prune()
    assert [one.id for one in shelf.list()] == ["sg-n1-2"]
    with tarfile.open(there / "c" / "sg-n1-1.tar") as tar:
        tar.extractall(tmp_path / "back", filter="data")
    back = Shelf(tmp_path / "back")
    assert back.check("sg-n1-1") == ()
    assert back.archive("sg-n1-1").read_bytes() == stored


async def test_no_snapshot_is_given_up_before_its_twin_was_read_back(tmp_path: Path):
    for name, created in (("n1-old", 1.0), ("n1-new", 5.0)):
        make = make_snapshot(tmp_path / "captures", name, created)
        folder = tmp_path / "captures" / name
        manifests.write(folder, replace(make, incident_ids=()))
    there = tmp_path / "there"
    catalogue = Catalogue(tmp_path / "captures")
    limits = Limits(scheduled=1, others=1)
    old = tmp_path / "captures" / "n1-old"
    async with running(MemoryJournal(), State()) as (runtime, _):
        wanting = Upkeep(runtime, catalogue, limits, there.as_uri())
        await wanting.run()
        assert old.exists()
        sender(tmp_path, there, [NOW]).look()
        await wanting.run()
        assert old.exists()
        there.mkdir()
        later(now := [NOW], 10 * AGAIN_S)
        sender(tmp_path, there, now).look()
        await Upkeep(runtime, catalogue, limits, "s3://elsewhere").run()
        assert old.exists()
        await wanting.run()
        assert not old.exists()
    record = (tmp_path / "captures" / "removed.jsonl").read_text()
    assert f"{there.as_uri()}/c/n1-old.tar" in record


def test_credentials_come_from_a_file_and_are_never_told(tmp_path: Path):
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\n# ours\naws_access_key_id = somebody\n"
        f"aws_secret_access_key = '{SECRET}'\n"
    )
    assert read_credentials(file) == KEYS
    assert SECRET not in repr(place("http://x"))
    file.write_text(f"aws_secret_access_key={SECRET}\n")
    with pytest.raises(SnapshotError, match="lacks access_key_id") as found:
        read_credentials(file)
    assert SECRET not in str(found.value)
    with pytest.raises(SnapshotError, match="No such file"):
        read_credentials(tmp_path / "none")


def test_the_list_says_what_lies_off_site_and_why_not(splitguard, tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    there, now = tmp_path / "there", [NOW]
    worker = sender(tmp_path, there, now)
    ask = ("--dir", tmp_path / "captures")
    worker.look()
    listed = splitguard("snapshots", "list", *ask)
    assert listed.out.splitlines()[1].endswith("failed 1 times")
    assert "cannot be used" in splitguard("snapshots", "show", "n1-1", *ask).out
    there.mkdir()
    later(now, AGAIN_S + 1)
    worker.look()
    assert splitguard("snapshots", "list", *ask).out.splitlines()[1].endswith("yes")
    assert (
        f"{there.as_uri()}/c/n1-1.tar"
        in splitguard("snapshots", "show", "n1-1", *ask).out
    )


def test_an_agent_sends_what_it_finds_and_stops_at_once(spawned, tmp_path: Path):
    make_snapshot(tmp_path / "captures")
    there = tmp_path / "there"
    there.mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "c"\nnode = "w1"\nlisten = "127.0.0.1:{free_port()}"\n'
        f'state_dir = "{tmp_path / "state"}"\nsocket = "{tmp_path / "sock"}"\n'
        f'capture.dir = "{tmp_path / "captures"}"\noffsite.url = "{there.as_uri()}"\n'
        '[[nodes]]\nname = "n1"\nagent = "http://127.0.0.1:1"\n'
        f'[[witnesses]]\nname = "w1"\nagent = "http://127.0.0.1:2"\n'
    )
    agent = spawned.start("run", "--config", config)
    try:
        eventually(
            "the twin is noted",
            lambda: (
                marks.twin(tmp_path / "captures" / "n1-1") is not None
                or agent.poll() is not None
            ),
        )
        listed = spawned("snapshots", "list", "--config", config, "-o", "json")
        agent.terminate()
        assert agent.wait(20) == 0, agent.stderr.read()
    finally:
        agent.kill()
        agent.communicate()
    assert f'"url": "{there.as_uri()}/c/n1-1.tar"' in listed.out, listed.words
    assert (there / "c" / "n1-1.tar.sha256").exists()
