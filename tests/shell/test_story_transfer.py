"""A story goes over the wire whole, or is known not to."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.lsn import Lsn
from agent.divergence.model import Relation
from agent.divergence.story import Ended, Rows, Story
from agent.divergence.transfer import PIECE, story_lines
from agent.errors import DivergenceError
from tests.fix_losses import read_story_lines

numbers = st.integers(0, (1 << 48) - 1)
xids = st.integers(3, (1 << 32) - 1)
files = st.builds(Relation, st.just(1663), st.integers(1, 5), st.integers(1, 9))
times = st.floats(0, 4e9, allow_nan=False)
rows = st.builds(
    Rows, st.dictionaries(numbers, numbers), st.sets(numbers), st.sets(numbers)
)
ended = st.builds(
    Ended,
    xids,
    numbers.map(Lsn),
    times,
    st.booleans(),
    st.frozensets(files, max_size=3),
    st.frozensets(st.text(max_size=9), max_size=2),
)
stories = st.builds(
    Story,
    fork_lsn=numbers.map(Lsn),
    end_lsn=numbers.map(Lsn),
    rows=st.dictionaries(files, rows.filter(len), max_size=3),
    ended=st.lists(ended, max_size=3),
    committed=st.dictionaries(xids, times, max_size=3),
    created=st.dictionaries(files, xids, max_size=3),
    carried=st.dictionaries(files, numbers, max_size=3),
    dropped=st.dictionaries(files, xids, max_size=3),
    sequences=st.sets(files, max_size=3),
    databases=st.sets(st.integers(1, 9), max_size=3),
    prepared=st.dictionaries(xids, st.text(max_size=9), max_size=3),
    early=st.sets(xids, max_size=3),
    outside=st.dictionaries(st.text(max_size=9), st.integers(1, 9), max_size=3),
    fork_next_xid=st.none() | xids,
    fork_open=st.sets(xids, max_size=3),
)
SMALL = Story(Lsn(1), Lsn(2), rows={Relation(1663, 5, 9): Rows(born={7, 8})})


@given(stories)
@settings(max_examples=60, deadline=None)
def test_a_story_comes_out_as_it_went_in(story):
    assert read_story_lines(story_lines(story)) == story


def test_every_part_of_a_story_is_sent():
    sent = {name for name in Story.__dataclass_fields__ if name != "rows"}
    text = b"".join(story_lines(full())).decode()
    kinds = {json.loads(line)[0] for line in text.splitlines()}
    assert sent - {"fork_lsn", "end_lsn", "fork_next_xid"} <= kinds


def full() -> Story:
    file = Relation(1663, 5, 9)
    return Story(
        Lsn(1),
        Lsn(2),
        {file: Rows({1: 2}, {3}, {4})},
        [Ended(7, Lsn(1), 1.5, True, frozenset({file}), frozenset({"Heap"}))],
        {7: 1.5},
        {file: 7},
        {file: 3},
        {file: 7},
        {file},
        {5},
        {8: "gid"},
        {7},
        {"XLOG/X": 1},
        9,
        {6},
    )


def test_many_rows_go_in_pieces():
    born = set(range(2 * PIECE + 1))
    story = Story(Lsn(1), Lsn(2), rows={Relation(1663, 5, 9): Rows(born=born)})
    lines = list(story_lines(story))
    assert len(lines) == 1 + 1 + 3 + 1
    assert read_story_lines(lines) == story


@pytest.mark.parametrize("cut", range(4))
def test_a_story_that_breaks_off_is_none(cut):
    lines = list(story_lines(SMALL))
    assert len(lines) == 4
    with pytest.raises(DivergenceError):
        read_story_lines(lines[:cut] + lines[cut + 1 :])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"[7]",
        b'["story", 2, "0/1", "0/2", null]',
        b'["born", 0, [-1]]',
        b'["born", 5, [1]]',
        b'["born", 0, [1.5]]',
        b'["moved", 0, [[1]]]',
        b'["ended", [[1]]]',
        b'["committed", [[1, Infinity]]]',
        b'["prepared", [[1, 2]]]',
        b'["a new kind", [1]]',
        b"[" * 100_000,
        b'["' + b"x" * (2 << 20) + b'"]',
    ],
)
def test_what_is_no_story_is_refused(line):
    lines = list(story_lines(SMALL))
    with pytest.raises(DivergenceError) as refused:
        read_story_lines([*lines[:2], line, *lines[2:]])
    assert len(refused.value.message) <= 300
