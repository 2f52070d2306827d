"""One page of WAL is printed when its own header says that it is that page.

A file of pg_wal may hold other pages than its name promises: it was recycled, begun
with the parent timeline's WAL, cut off, or not written so far. Then there is no print,
which proves nothing.
"""

import struct
from pathlib import Path

import pytest

from agent.core.lsn import Lsn, wal_file_name
from agent.postgres.records import page_print

SEGMENT = 1 << 20
PAGE = 8192
PLACE = Lsn(3 * SEGMENT + 2 * PAGE)


def header(*, magic=0xD110, timeline=2, address=PLACE) -> bytes:
    return struct.pack("=HHIQI4x", magic, 0, timeline, address, 0)


NEXT = header(address=PLACE + PAGE)


def written(folder: Path, raw: bytes) -> None:
    """Put these bytes into a segment, where the page belongs."""
    path = folder / wal_file_name(2, PLACE, SEGMENT)
    path.write_bytes(bytes(PLACE % SEGMENT) + raw)


def test_a_page_that_is_there_is_printed_by_all_of_its_bytes(tmp_path):
    whole = header().ljust(PAGE, b"a")
    written(tmp_path, whole + NEXT + b"what follows")
    first = page_print(tmp_path, 2, PLACE, SEGMENT)
    assert first is not None
    assert (first.timeline, first.lsn, len(first.digest)) == (2, PLACE, 32)
    written(tmp_path, whole + NEXT + b"something else")
    assert page_print(tmp_path, 2, PLACE, SEGMENT) == first
    written(tmp_path, whole[:-1] + b"b" + NEXT)
    other = page_print(tmp_path, 2, PLACE, SEGMENT)
    assert other is not None
    assert other.digest != first.digest


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(PAGE),
        header().ljust(PAGE - 1, b"a"),
        header(address=PLACE - SEGMENT).ljust(PAGE, b"a") + NEXT,
        header(timeline=1).ljust(PAGE, b"a") + NEXT,
        header(magic=0xBEEF).ljust(PAGE, b"a") + NEXT,
        header().ljust(PAGE, b"a") + bytes(PAGE),
        header().ljust(PAGE, b"a") + header(address=PLACE + PAGE - SEGMENT),
    ],
    ids=[
        "no such page",
        "zeros",
        "cut off",
        "recycled",
        "the parent's",
        "no WAL",
        "perhaps half written",
        "perhaps half written over what was recycled",
    ],
)
def test_what_is_not_that_page_has_no_print(tmp_path, raw):
    written(tmp_path, raw)
    assert page_print(tmp_path, 2, PLACE, SEGMENT) is None


def test_a_segment_that_is_gone_or_cannot_be_read_has_no_print(tmp_path):
    assert page_print(tmp_path, 2, PLACE, SEGMENT) is None
    (tmp_path / wal_file_name(2, PLACE, SEGMENT)).mkdir()
    assert page_print(tmp_path, 2, PLACE, SEGMENT) is None
    assert page_print(tmp_path / "nowhere", 2, PLACE, SEGMENT) is None


def test_the_last_page_of_a_segment_is_whole_when_the_next_segment_has_begun(tmp_path):
    last = Lsn(4 * SEGMENT - PAGE)
    first = tmp_path / wal_file_name(2, last, SEGMENT)
    first.write_bytes(bytes(SEGMENT - PAGE) + header(address=last).ljust(PAGE, b"a"))
    assert page_print(tmp_path, 2, last, SEGMENT) is None
    following = tmp_path / wal_file_name(2, Lsn(4 * SEGMENT), SEGMENT)
    following.write_bytes(header(address=4 * SEGMENT))
    assert page_print(tmp_path, 2, last, SEGMENT) is not None
