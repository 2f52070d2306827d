"""Archives compressed and encrypted: what was sealed comes back, or an error does."""

import io
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.archive import Archive
from agent.snapshot.manifest import FileEntry
from agent.snapshot.sealing import Seal, check_recipients, read_identities, seal
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_folder
from tests.shell.test_snapshot_catalogue import evil_member, make_snapshot

KEY = pyrage.x25519.Identity.generate()
PUBLIC = str(KEY.to_public())
OTHER = pyrage.x25519.Identity.generate()
WAYS = (
    Seal(),
    Seal(compress=True),
    Seal(recipients=(PUBLIC,)),
    Seal(compress=True, recipients=(str(OTHER.to_public()), PUBLIC)),
)
GIB = 1 << 30


def sealed(folder: Path, how: Seal, target: Path) -> Path:
    made = Archive(folder, how.recipients)
    target.write_bytes(b"".join(seal(made.stream(), how)))
    return target


def wrapped(content: bytes, how: Seal, target: Path) -> Path:
    target.write_bytes(b"".join(seal(iter([content]), how)))
    return target


@pytest.mark.parametrize("how", WAYS)
def test_what_was_sealed_comes_back_whole(tmp_path: Path, how: Seal):
    written = make_snapshot(tmp_path)
    file = sealed(tmp_path / "n1-1", how, tmp_path / f"anything{how.suffix}")
    unpack(file, tmp_path / "back", (KEY,))
    assert manifests.read(tmp_path / "back") == written
    assert verify_folder(tmp_path / "back").problems == ()
    assert {t.name for t in threading.enumerate()}.isdisjoint({"age"})


def test_the_suffix_says_which_programs_open_it():
    assert [how.suffix for how in WAYS] == [
        ".tar", ".tar.zst", ".tar.age", ".tar.zst.age",
    ]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("keep", [0, 40, 0.3, 0.9, -9, -30])
def test_what_was_cut_off_is_refused_and_leaves_nothing(
    tmp_path: Path, how: Seal, keep: float
):
    make_snapshot(tmp_path)
    file = sealed(tmp_path / "n1-1", how, tmp_path / "it")
    content = file.read_bytes()
    at = int(len(content) * keep) if 0 < keep < 1 else int(keep)
    file.write_bytes(content[:at])
    with pytest.raises(SnapshotError):
        unpack(file, tmp_path / "back", (KEY,))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("how", WAYS[1:])
def test_a_byte_that_was_changed_is_found(tmp_path: Path, how: Seal):
    make_snapshot(tmp_path)
    file = sealed(tmp_path / "n1-1", how, tmp_path / "it")
    content = file.read_bytes()
    for at in (len(content) // 3, len(content) // 2, len(content) - 2):
        bad = bytearray(content)
        bad[at] ^= 0x10
        file.write_bytes(bad)
        with pytest.raises(SnapshotError):
            unpack(file, tmp_path / "back", (KEY,))
        assert not (tmp_path / "back").exists()


def test_without_the_right_key_it_says_which_is_wanted(tmp_path: Path):
    make_snapshot(tmp_path)
    file = sealed(tmp_path / "n1-1", Seal(recipients=(PUBLIC,)), tmp_path / "it")
    with pytest.raises(SnapshotError, match="is encrypted") as found:
        unpack(file, tmp_path / "back")
    assert "--identity" in found.value.hint
    with pytest.raises(SnapshotError, match="the given key does not fit"):
        unpack(file, tmp_path / "back", (OTHER,))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\x03\x04" + bytes(5000), bytes(5000), b"\x28\xb5\x2f\xfdjunk"],
)
def test_a_file_of_another_kind_is_no_archive(tmp_path: Path, content: bytes):
    file = tmp_path / "it"
    file.write_bytes(content)
    with pytest.raises(SnapshotError):
        unpack(file, tmp_path / "back", (KEY,))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("how", WAYS[1:])
@pytest.mark.parametrize(
    "member",
    [
        evil_member("../outside"),
        evil_member("data/../../outside"),
        evil_member("data/link", tarfile.SYMTYPE, "../../outside"),
        evil_member("data/pipe", tarfile.FIFOTYPE),
    ],
)
def test_a_sealed_archive_cannot_leave_its_folder_either(
    tmp_path: Path, how: Seal, member: bytes
):
    text = make_snapshot_text(tmp_path)
    file = wrapped(text + member, how, tmp_path / "evil")
    with pytest.raises(SnapshotError):
        unpack(file, tmp_path / "home" / "back", (KEY,))
    assert not (tmp_path / "home" / "back").exists()
    assert not (tmp_path / "home" / "outside").exists()


def make_snapshot_text(tmp_path: Path, **changes) -> bytes:
    """Return the first member of an archive: the manifest, changed."""
    manifest = replace(make_snapshot(tmp_path / "captures"), **changes)
    folder = tmp_path / "changed"
    folder.mkdir()
    manifests.write(folder, manifest)
    content = (folder / "manifest.json").read_bytes()
    info = tarfile.TarInfo("manifest.json")
    info.size = len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def test_a_compressed_bomb_gets_no_more_room_than_its_manifest_says(tmp_path: Path):
    text = make_snapshot_text(tmp_path)
    info = tarfile.TarInfo("data/x")
    info.size = 3 * GIB
    head = text + info.tobuf(tarfile.GNU_FORMAT)
    file = wrapped(head + bytes(1 << 20), Seal(compress=True), tmp_path / "bomb")
    with pytest.raises(SnapshotError, match="more than it holds"):
        unpack(file, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_manifest_that_announces_more_than_there_is_room_for_is_refused(
    tmp_path: Path,
):
    huge = (FileEntry("data/x", 1 << 60, "ab", 0o600),)
    text = make_snapshot_text(tmp_path, files=huge)
    file = wrapped(text + bytes(1024), Seal(compress=True), tmp_path / "bomb")
    with pytest.raises(SnapshotError, match="no room on the volume"):
        unpack(file, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_compressed_archive_must_say_first_what_it_holds(tmp_path: Path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("data/x"), io.BytesIO())
    file = wrapped(made.getvalue(), Seal(compress=True), tmp_path / "it")
    with pytest.raises(SnapshotError, match=r"does not begin with manifest\.json"):
        unpack(file, tmp_path / "back")


def test_a_frame_that_wants_too_much_memory_is_refused(tmp_path: Path):
    text = make_snapshot_text(tmp_path)
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    maker = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    file = tmp_path / "it"
    file.write_bytes(maker.compress(text + bytes(1024)) + maker.flush())
    with pytest.raises(SnapshotError, match="changed or cut off"):
        unpack(file, tmp_path / "back")


def test_what_fails_while_it_is_read_fails_while_it_is_sealed(tmp_path: Path):
    def broken():
        yield b"x" * 5_000_000
        raise SnapshotError("the disk is gone")

    for how in WAYS[1:]:
        with pytest.raises(SnapshotError, match="the disk is gone"):
            list(seal(broken(), how))


def test_nobody_who_stops_reading_leaves_a_thread_behind():
    def endless():
        while True:
            yield os.urandom(1_000_000)

    pieces = seal(endless(), WAYS[3])
    assert next(pieces)
    pieces.close()
    assert {t.name for t in threading.enumerate()}.isdisjoint({"age"})


@pytest.mark.parametrize("key", ["age1nonsense", "ssh-ed25519 AAAA", "", "rsa"])
def test_a_wrong_recipient_is_named(key: str):
    with pytest.raises(SnapshotError, match="not a recipient"):
        check_recipients((PUBLIC, key))


def test_a_private_key_is_no_recipient_and_is_not_shown():
    with pytest.raises(SnapshotError, match="a private key") as found:
        check_recipients((str(KEY),))
    assert str(KEY) not in str(found.value)


def test_private_keys_are_read_from_the_files_of_their_makers(tmp_path: Path):
    age, ssh = tmp_path / "age.key", tmp_path / "ssh.key"
    age.write_text(f"# created: today\n# public key: {PUBLIC}\n{KEY}\n")
    pair = Ed25519PrivateKey.generate()
    ssh.write_bytes(
        pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    how = Seal(recipients=(PUBLIC, public.decode()))
    make_snapshot(tmp_path)
    file = sealed(tmp_path / "n1-1", how, tmp_path / "it")
    for number, key in enumerate((age, ssh)):
        unpack(file, tmp_path / f"back{number}", read_identities(key))
    secret = "AGE-SECRET-KEY-1NOTHINGREAL"
    (tmp_path / "bad").write_text(secret)
    (tmp_path / "public").write_bytes(public)
    for path in (tmp_path / "bad", tmp_path / "none", tmp_path / "public"):
        with pytest.raises(SnapshotError) as found:
            read_identities(path)
        assert secret not in str(found.value)
