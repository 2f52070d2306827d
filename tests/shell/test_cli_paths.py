"""Paths that people give to the snapshots commands, good and bad ones."""

import os
import pwd
import shutil
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.api.shelf import CatalogueShelf
from agent.snapshot.catalogue import Catalogue
from tests.fix_desk import card, healthy, serve, split_brain
from tests.shell.test_snapshot_catalogue import make_snapshot


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A capture folder with one snapshot, n1-1."""
    make_snapshot(tmp_path / "captures")
    return tmp_path / "captures"


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that nobody but root may look into, in one that anybody may."""
    above = Path(tempfile.mkdtemp(prefix="splitguard-paths-"))
    above.chmod(0o777)
    folder = above / "closed"
    folder.mkdir(0o700)
    make_snapshot(folder)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(above)


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Give up root's rights meanwhile, where the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def archived(splitguard, kept: Path, file: object):
    """Write the archive of n1-1 to a file."""
    return splitguard("snapshots", "archive", "n1-1", "--dir", kept, "-f", file)


def test_a_device_stays_a_device(splitguard, kept, tmp_path):
    for device, code in (("/dev/full", 1), ("/dev/null", 0)):
        ran = archived(splitguard, kept, device)
        assert ran.code == code, ran.words
        assert stat.S_ISCHR(Path(device).stat().st_mode)
    full = archived(splitguard, kept, "/dev/full")
    assert "/dev/full: No space left on device" in full.words
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    assert archived(splitguard, kept, link).code == 1
    assert link.is_symlink()


def test_a_pipe_is_written_into(splitguard, kept, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_bytes()))
    reader.start()
    ran = archived(splitguard, kept, pipe)
    reader.join(30)
    assert ran.code == 0, ran.words
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    file = tmp_path / "it.tar"
    assert archived(splitguard, kept, file).code == 0
    assert came == [file.read_bytes()]


def test_a_link_is_followed_and_stays(splitguard, kept, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.tar"
    link.symlink_to("there/it.tar")
    assert archived(splitguard, kept, link).code == 0
    assert link.is_symlink()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["it.tar"]
    with tarfile.open(link) as archive:
        assert "manifest.json" in archive.getnames()


def test_a_file_that_is_there_is_not_overwritten(splitguard, kept, tmp_path):
    file = tmp_path / "n1-1.tar"
    file.write_text("dear")
    for named in (file, tmp_path):
        ran = archived(splitguard, kept, named)
        assert ran.code == 1
        assert f"{file} is there already\n  name another --file" in ran.words
    assert file.read_text() == "dear"


def test_a_file_below_a_file_is_one_sentence(splitguard, kept, tmp_path):
    (tmp_path / "file").write_text("x")
    for command in (("archive", "--dir", kept), ("download", "--socket", "/nobody")):
        ran = splitguard("snapshots", *command, "n1-1", "-f", tmp_path / "file" / "x")
        assert ran.code == 1
        assert "this is a bug" not in ran.words
    ran = archived(splitguard, kept, tmp_path / "file" / "x")
    assert "file/x: Not a directory" in ran.words


def test_what_may_not_be_looked_at_is_one_sentence(splitguard, kept, closed, tmp_path):
    archive = closed.parent / "it.tar"
    assert archived(splitguard, kept, archive).code == 0
    archive.chmod(0o644)
    with an_ordinary_user():
        for words in (
            ("verify", closed / "n1-1"),
            ("open", closed / "n1-1"),
            ("restore", closed / "n1-1", "--to", closed.parent / "new"),
            ("restore", archive, "--to", closed / "new"),
            ("restore", archive, "--to", closed / "deeper" / "new"),
            ("archive", closed / "n1-1", "-f", closed.parent / "x"),
            ("archive", "n1-1", "--dir", closed, "-f", closed.parent / "x"),
            ("show", "n1-1", "--dir", closed),
            ("verify", "n1-1", "--dir", closed),
            ("pin", "n1-1", "--dir", closed, "--reason", "x"),
            ("delete", "n1-1", "--dir", closed),
        ):
            ran = splitguard("snapshots", *words)
            assert ran.code == 1, (words, ran.words)
            assert "this is a bug" not in ran.words
            assert "Permission denied" in ran.words, (words, ran.words)
            assert ran.words.count(str(closed.parent)) <= 1, ran.words
        refused = splitguard("snapshots", "restore", archive, "--to", closed / "new")
        assert "nothing was written" in refused.words
    assert not (closed.parent / "new").exists()


def test_without_a_folder_for_temporary_files_no_archive_is_opened(
    splitguard, kept, tmp_path, monkeypatch
):
    file = tmp_path / "it.tar"
    assert archived(splitguard, kept, file).code == 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    for command in ("verify", "open"):
        ran = splitguard("snapshots", command, file)
        assert ran.code == 1
        assert "No such file or directory" in ran.words
        assert "this is a bug" not in ran.words


def test_a_folder_of_a_snapshot_that_is_closed_is_a_problem_not_a_bug(
    splitguard, closed
):
    for mode, place in ((0o755, closed), (0o755, closed / "n1-1")):
        place.chmod(mode)
    (closed / "n1-1" / "manifest.json").chmod(0o644)
    (closed / "n1-1" / "data").chmod(0)
    with an_ordinary_user():
        ran = splitguard("snapshots", "verify", closed / "n1-1")
        assert (ran.code, "this is a bug" in ran.words) == (1, False), ran.words
        assert "data/base cannot be read: Permission denied" in ran.out
    (closed / "n1-1" / "data").chmod(0o700)


def test_a_capture_folder_fails_alike_when_missing_and_when_closed(splitguard, closed):
    with an_ordinary_user():
        for folder in (closed, closed.parent / "none"):
            ran = splitguard("snapshots", "list", "--dir", folder)
            assert (ran.code, ran.out) == (1, "")
            assert "capture folder" in ran.words


def test_only_in_the_capture_folder_is_one_told_to_remove_a_folder(
    splitguard, kept, tmp_path
):
    (kept / "n1-2").mkdir()
    (tmp_path / "home").mkdir()
    inside = splitguard("snapshots", "verify", kept / "n1-2", "--dir", kept)
    outside = splitguard("snapshots", "verify", tmp_path / "home", "--dir", kept)
    for ran in (inside, outside):
        assert ran.code == 1
        assert "is no snapshot: it has no manifest.json" in ran.words
    assert "remove the folder" in inside.words
    assert "remove" not in outside.words


@pytest.mark.parametrize("content", [b"", b"some words\n" * 100])
def test_what_is_no_archive_is_called_so(splitguard, tmp_path, content):
    file = tmp_path / "words.tar"
    file.write_bytes(content)
    ran = splitguard("snapshots", "verify", file)
    assert ran.code == 1
    assert f"{file} is no archive" in ran.words
    assert "its end" not in ran.words


def test_a_cut_archive_is_still_called_cut(splitguard, kept, tmp_path):
    file = tmp_path / "it.tar"
    assert archived(splitguard, kept, file).code == 0
    os.truncate(file, file.stat().st_size - 512)
    ran = splitguard("snapshots", "verify", file)
    assert "is no whole archive: its end is missing" in ran.words


def test_an_archive_that_may_not_be_read_is_named_once(splitguard, closed):
    file = closed.parent / "it.tar"
    file.write_bytes(b"x")
    file.chmod(0)
    with an_ordinary_user():
        ran = splitguard("snapshots", "verify", file)
    assert ran.words.splitlines()[0] == (
        f"splitguard: {file} cannot be unpacked: Permission denied"
    )


@pytest.mark.parametrize("name", ["../../x", "..", "", "a/b", "x y"])
def test_what_is_no_id_is_never_asked_for(splitguard, agent_for, name):
    agent = agent_for(healthy())
    where = ("--socket", agent.socket)
    for words in (
        ("snapshots", "show", name),
        ("snapshots", "delete", name),
        ("snapshots", "pin", name, "--reason", "x"),
        ("snapshots", "unpin", name),
        ("snapshots", "download", name),
    ):
        ran = splitguard(*words, *where)
        assert ran.code == 1
        assert f"not a snapshot id: {name!r}" in ran.words, words
    for command in (["explain"], ["incidents", "show"]):
        ran = splitguard(*command, name, *where)
        assert ran.code == 1
        assert f"not an id: {name!r}" in ran.words
        assert "splitguard incidents list" in ran.words


def test_a_snapshot_beside_another_node_is_said_to_lie_there(
    splitguard, agent_for, tmp_path
):
    agent = agent_for(split_brain())
    [capture] = agent.served.desk.state.ledger.captures
    name = capture.order.capture_id
    agent.served.desk.me = "n2"
    where = ("--socket", agent.socket)
    for words in (("show", name), ("pin", name, "--reason", "x"), ("delete", name)):
        ran = splitguard("snapshots", *words, *where)
        assert ran.code == 1
        assert f"snapshot {name} lies beside n1" in ran.words, words
        assert f"splitguard snapshots download {name}" in ran.words
    make_snapshot(tmp_path / "here")
    nodes = "".join(
        f'[[nodes]]\nname = "{each}"\nagent = "http://127.0.0.1:{port}"\n'
        for port, each in enumerate(("n1", "n2", "n3"), start=1)
    )
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "sim"\nnode = "n2"\nsocket = "{agent.socket}"\n{nodes}'
        f'[capture]\ndir = "{tmp_path / "here"}"\n'
    )
    for command in (("verify",), ("open",), ("restore", "--to", tmp_path / "new")):
        ran = splitguard("snapshots", *command, name, "--config", config)
        assert f"snapshot {name} lies beside n1" in ran.words
    ran = splitguard("snapshots", "verify", "n1-x", "--config", config)
    assert f"there is no snapshot n1-x in {tmp_path / 'here'}" in ran.words


def test_a_decision_needs_words_that_say_why(splitguard, agent_for, kept):
    agent = agent_for(healthy())
    agent.served.shelf.add(card(), {"manifest.json": b"{}"})
    for where in (("--socket", agent.socket), ("--dir", kept)):
        for blank in ("", "  \t"):
            for words in (("pin", "n1-1"), ("delete", "n1-1", "--force")):
                ran = splitguard("snapshots", *words, "--reason", blank, *where)
                assert ran.code == 2
                assert "--reason" in ran.words
                assert "body" not in ran.words
    assert Catalogue(kept).show("n1-1").id == "n1-1"
    found = CatalogueShelf(Catalogue(kept), None).show("n1-1")
    assert found is not None
    assert found.kept is None


async def test_a_blank_reason_is_refused_over_http_too():
    served = serve(healthy())
    served.shelf.add(card("one"), {"manifest.json": b"{}"})
    async with served.client("operate") as client:
        pinned = await client.post("/v1/snapshots/one/pin", json={"reason": "  "})
        query = {"force": "true", "reason": " \n"}
        removed = await client.delete("/v1/snapshots/one", params=query)
    for answer in (pinned, removed):
        assert answer.status_code == 422
        assert "needs a reason" in answer.json()["detail"]
