"""Whether an archive opens, what is in it, and what is none."""

import hashlib
import io
import json
import os
import struct
import zipfile

import pytest

from agent.errors import ManagerError
from agent.vnfm.archive import FREE_BYTES, check_archive
from tests.fix_vnfm import archive

LEGACY = json.dumps({"snapshot_version": "4.5.5", "schema_revision": "9aa"}).encode()
DUMP = (
    b"--\n-- PostgreSQL database dump\n--\nSET x = 1;\n\n"
    b"COPY blueprints (_storage_id, id) FROM stdin;\n"
    + b"".join(b"%d\tCOPY b%d\\n\n" % (number, number) for number in range(300_000))
    + b"\\.\n\n\nCOPY public.deployments (_storage_id, id) FROM stdin;\n\\.\n\n"
    b'COPY public."users" (id) FROM stdin;\n1\n2\n\\.\n'
    b"SELECT pg_catalog.setval('x', 1, false);\n"
)


@pytest.fixture
def put(tmp_path):
    def write(content: bytes):
        path = tmp_path / "a.zip"
        path.write_bytes(content)
        return path

    return write


def test_a_new_archive_is_read_and_its_items_are_counted(put):
    def shard(kind: str, count: int) -> bytes:
        return json.dumps({"type": kind, "items": [{}] * count}).encode()

    content = archive(
        mgmt_of_00000001__json=shard("tenants", 2),
        tenants_of_t1_of_00000001__json=shard("deployments", 3),
        tenants_of_t2_of_00000001__json=shard("deployments", 4),
        tenants_of_t2_of_00000002__json=shard("secrets", 0),
        tenants_of_t2_of_00000003__json=b"[1]",
        tenants_of_t2_of_plugins_of_x__wgn=b"not json",
    )
    found = check_archive(put(content))
    assert (found.format, found.version, found.members) == ("new", "7.0.5", 7)
    assert found.counts == {"deployments": 7, "secrets": 0, "tenants": 2}
    assert found.size_bytes == len(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_legacy_archive_is_read_and_its_rows_are_counted(put):
    found = check_archive(put(archive(metadata__json=LEGACY, pg_data=DUMP)))
    assert (found.format, found.version) == ("legacy", "4.5.5")
    assert found.counts == {"blueprints": 300_000, "deployments": 0, "users": 2}


def test_a_dump_that_ends_in_the_middle_is_no_good_snapshot(put):
    cut = DUMP[: DUMP.index(b"9\tCOPY b9")] + b"9"
    with pytest.raises(ManagerError, match="ends in the middle of table blueprints"):
        check_archive(put(archive(metadata__json=LEGACY, pg_data=cut)))
    whole = DUMP[: DUMP.index(b"\\.\n")] + b"\\."  # its last line has no line feed
    found = check_archive(put(archive(metadata__json=LEGACY, pg_data=whole)))
    assert found.counts == {"blueprints": 300_000}


def test_a_legacy_snapshot_without_rows_is_no_good_one(put):
    with pytest.raises(ManagerError, match="without its rows"):
        check_archive(put(archive(metadata__json=LEGACY)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"not a zip at all \x1b[31m", "no zip: it begins with 'not a zip at all"),
        (b"<html>404</html>", "no zip: it begins with '<html>404"),
        (b"age-encryption.org/v1\n", "sealed with age"),
        (archive()[:-30], "is a broken zip"),
        (archive(metadata__json=b"{"), "is a broken zip"),
        (archive(metadata__json=b"{}"), "of neither format"),
    ],
)
def test_what_is_no_archive_is_refused(put, content, words):
    with pytest.raises(ManagerError, match=words) as caught:
        check_archive(put(content))
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_a_zip_without_metadata_is_somebody_elses(put):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("holiday.jpg", b"x")
    with pytest.raises(ManagerError, match=r"has no metadata.json"):
        check_archive(put(out.getvalue()))


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_one_byte_that_turned_breaks_it(put, at):
    content = bytearray(archive(blob=os.urandom(4000)))
    content[int(len(content) * at)] ^= 1
    with pytest.raises(ManagerError, match="is a broken zip"):
        check_archive(put(bytes(content)))


def test_a_zip_with_a_password_is_refused(put):
    content = bytearray(archive())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    with pytest.raises(ManagerError, match="a zip with a password"):
        check_archive(put(bytes(content)))


def test_a_bomb_is_not_even_read(put):
    content = bytearray(archive())
    claimed = struct.pack("<L", FREE_BYTES + 1_000_000)
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = claimed
    with pytest.raises(ManagerError, match="would unpack to"):
        check_archive(put(bytes(content)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ManagerError, match=r"none.zip: No such file"):
        check_archive(tmp_path / "none.zip")
    with pytest.raises(ManagerError, match="Is a directory"):
        check_archive(tmp_path)
