"""Log sequence numbers read and print as PostgreSQL prints them."""

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core.lsn import Lsn, wal_file_name

SEGMENT = 1 << 24


@over(st.integers(0, 2**64 - 1))
def test_an_lsn_reads_what_it_prints(number):
    assert Lsn.parse(str(Lsn(number))) == number


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "0/123456789", "0/1 "])
def test_other_texts_are_no_lsn(text):
    with pytest.raises(ValueError, match="not an LSN"):
        Lsn.parse(text)


def test_an_lsn_shows_itself_in_postgresqls_form():
    assert repr(Lsn.parse("16/b374d848")) == "Lsn('16/B374D848')"


@pytest.mark.parametrize(
    ("timeline", "lsn", "name"),
    [
        (1, "0/0", "000000010000000000000000"),
        (1, "0/30286D8", "000000010000000000000003"),
        (11, "1A/FF000000", "0000000B0000001A000000FF"),
    ],
)
def test_a_wal_file_is_named_by_timeline_and_segment(timeline, lsn, name):
    assert wal_file_name(timeline, Lsn.parse(lsn), SEGMENT) == name


@over(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_segments_keep_the_order_of_positions(one, other):
    lower, higher = sorted((Lsn(one), Lsn(other)))
    assert lower.segment(SEGMENT) <= higher.segment(SEGMENT)
