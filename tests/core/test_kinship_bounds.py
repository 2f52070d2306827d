"""Lineages that differ late, in more than one place, or in what nobody can read."""

import pytest

from agent.core.kinship import fork_timeline, past_fork, relate
from agent.core.lineage import Fork, Kinship, Relation
from agent.core.lsn import Lsn
from agent.core.state import Position
from tests.core.test_kinship import line


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        # They share one fork and part at the next.
        (
            line(3, (1, 9), (2, 20)),
            line(4, (1, 9), (2, 30)),
            Relation(Kinship.FORKED, Fork(2, Lsn(20))),
        ),
        # They left one timeline at one place for two others.
        (
            line(3, (1, 9), (2, 20)),
            line(5, (1, 9), (2, 20), (4, 40)),
            Relation(Kinship.FORKED, Fork(2, Lsn(20))),
        ),
        # And later use one number twice.
        (
            line(5, (1, 9), (3, 20)),
            line(5, (1, 9), (4, 40)),
            Relation(Kinship.TWIN, Fork(1, Lsn(9))),
        ),
        (
            line(4, (1, 9), (2, 20)),
            line(4, (1, 9), (2, 30)),
            Relation(Kinship.TWIN, Fork(2, Lsn(20))),
        ),
        # They parted at the very beginning.
        (
            line(2, (1, 0)),
            line(3, (1, 0)),
            Relation(Kinship.FORKED, Fork(1, Lsn(0))),
        ),
        # One goes on where the other still is.
        (
            line(2, (1, 9)),
            line(3, (1, 9), (2, 20)),
            Relation(Kinship.DESCENDS, Fork(2, Lsn(20))),
        ),
        (
            line(3, (1, 9), (2, 20)),
            line(2, (1, 9)),
            Relation(Kinship.ANCESTOR, Fork(2, Lsn(20))),
        ),
    ],
)
def test_the_last_thing_that_both_share_is_the_fork(first, second, relation):
    assert relate(first, second) == relation


def test_of_several_places_with_other_wal_the_first_is_the_fork():
    ours = [(2, 9, "a"), (3, 20, "a")]
    theirs = [(2, 9, "b"), (3, 20, "b")]
    first = line(3, (1, 9), (2, 20), prints=ours)
    second = line(3, (1, 9), (2, 20), prints=theirs)
    assert relate(first, second) == Relation(Kinship.TWIN, Fork(1, Lsn(9)))
    late = line(3, (1, 9), (2, 20), prints=[(2, 9, "a"), (3, 20, "b")])
    assert relate(first, late) == Relation(Kinship.TWIN, Fork(2, Lsn(20)))


def test_one_fingerprint_in_common_is_enough():
    first = line(2, (1, 9), prints=[(2, 9, "a"), (2, 9, "b")])
    second = line(2, (1, 9), prints=[(2, 9, "b"), (2, 9, "c")])
    assert relate(first, second).kinship is Kinship.SAME


def test_a_fingerprint_past_what_both_share_says_nothing():
    first = line(3, (1, 9), (2, 20), prints=[(3, 20, "a")])
    second = line(2, (1, 9), prints=[(3, 20, "b")])
    assert relate(first, second).kinship is Kinship.ANCESTOR


def test_the_fork_that_a_position_lies_past_is_named():
    primary = line(3, (1, 100), (2, 200))
    assert past_fork(Position(1, Lsn(101), 0.0), None, primary) == Fork(1, Lsn(100))
    assert past_fork(Position(2, Lsn(201), 0.0), None, primary) == Fork(2, Lsn(200))
    assert past_fork(Position(2, Lsn(101), 0.0), None, primary) is None


@pytest.mark.parametrize(
    ("lineages", "timelines", "text"),
    [
        # A lineage of another timeline than the one that was read does not fit.
        ((line(4, (3, 9)), line(5, (3, 9))), (4, 5), "3"),
        ((line(4, (3, 9)), line(5, (3, 9))), (6, 5), "5"),
        ((line(4, (3, 9)), line(5, (3, 9))), (None, None), "3"),
        ((line(4, (3, 9)), None), (4, None), "4"),
        ((line(), line(system="2")), (1, 1), "1"),
    ],
)
def test_a_fork_is_named_by_what_fits(lineages, timelines, text):
    assert fork_timeline(lineages, timelines) == text
