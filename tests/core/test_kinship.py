"""How lineages relate, and who has gone past a fork."""

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core.kinship import fork_timeline, mirrored, past_fork, relate
from agent.core.lineage import Fingerprint, Fork, Kinship, Lineage, Relation, Switch
from agent.core.lsn import Lsn
from agent.core.state import Position

CHAINS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 4)),
    max_size=4,
    unique_by=lambda s: s[0],
)


def line(timeline=1, *switches, prints=(), system="1"):
    return Lineage(
        system,
        timeline,
        tuple(Switch(number, Lsn(lsn)) for number, lsn in switches),
        tuple(Fingerprint(number, Lsn(lsn), sha) for number, lsn, sha in prints),
    )


@st.composite
def lineages(draw):
    steps = sorted(draw(CHAINS))
    lsns = sorted(lsn for _, lsn in steps)
    switches = [(number, lsn) for (number, _), lsn in zip(steps, lsns, strict=True)]
    last = max((number for number, _ in steps), default=0)
    prints = draw(
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.sampled_from("ab")))
    )
    system = draw(st.sampled_from("12"))
    return line(last + draw(st.integers(1, 2)), *switches, prints=prints, system=system)


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        (line(), line(), Relation(Kinship.SAME, None)),
        (line(), line(2, (1, 9)), Relation(Kinship.DESCENDS, Fork(1, Lsn(9)))),
        (line(2, (1, 9)), line(), Relation(Kinship.ANCESTOR, Fork(1, Lsn(9)))),
        (
            line(2, (1, 9)),
            line(3, (1, 9)),
            Relation(Kinship.FORKED, Fork(1, Lsn(9))),
        ),
        (
            line(2, (1, 9)),
            line(3, (1, 7)),
            Relation(Kinship.FORKED, Fork(1, Lsn(7))),
        ),
        (line(2, (1, 9)), line(2, (1, 7)), Relation(Kinship.TWIN, Fork(1, Lsn(7)))),
        (
            line(3, (1, 9), (2, 12)),
            line(2, (1, 7)),
            Relation(Kinship.TWIN, Fork(1, Lsn(7))),
        ),
        (line(), line(system="2"), Relation(Kinship.FOREIGN, None)),
        (line(3), line(2, (1, 9)), Relation(Kinship.SAME, None)),
    ],
)
def test_the_first_difference_of_two_chains_decides(first, second, relation):
    assert relate(first, second) == relation


@pytest.mark.parametrize(
    ("ours", "theirs", "kinship"),
    [
        ([(2, 9, "a")], [(2, 9, "a")], Kinship.SAME),
        ([(2, 9, "a")], [(2, 9, "b")], Kinship.TWIN),
        ([(2, 9, "a")], [], Kinship.SAME),
        ([(2, 8, "a")], [(2, 8, "b")], Kinship.SAME),
    ],
)
def test_fingerprints_tell_equal_history_files_apart(ours, theirs, kinship):
    relation = relate(line(2, (1, 9), prints=ours), line(2, (1, 9), prints=theirs))
    assert relation.kinship is kinship


def test_a_fingerprint_of_a_timeline_that_one_has_left_counts_too():
    first = line(2, (1, 9), prints=[(2, 9, "a")])
    second = line(3, (1, 9), (2, 20), prints=[(2, 9, "b")])
    assert relate(first, second) == Relation(Kinship.TWIN, Fork(1, Lsn(9)))


@over(lineages(), lineages())
def test_a_relation_seen_from_the_other_side_is_mirrored(first, second):
    one, other = relate(first, second), relate(second, first)
    assert mirrored(one.kinship) is other.kinship
    assert one.fork == other.fork


@over(lineages())
def test_everybody_is_the_same_as_oneself(lineage):
    assert relate(lineage, lineage).kinship is Kinship.SAME


@over(lineages(), lineages())
def test_only_relatives_that_parted_have_a_fork(first, second):
    relation = relate(first, second)
    parted = relation.kinship not in (Kinship.SAME, Kinship.FOREIGN)
    assert (relation.fork is not None) == parted


PRIMARY = line(2, (1, 100))


@pytest.mark.parametrize(
    ("timeline", "lsn", "own", "diverged"),
    [
        (1, 101, line(), True),
        (1, 100, line(), False),
        (1, 101, None, True),
        (1, 100, None, False),
        (2, 500, PRIMARY, False),
        (2, 500, None, False),
        (3, 500, None, False),
        (3, 101, line(3, (1, 100)), True),
        (2, 101, line(2, (1, 90)), True),
        # The history file of timeline 2 came before the first byte of it.
        (1, 100, PRIMARY, False),
        # A lineage of another timeline than the position says nothing of it.
        (2, 500, line(), False),
    ],
)
def test_a_position_past_the_fork_has_diverged(timeline, lsn, own, diverged):
    found = past_fork(Position(timeline, Lsn(lsn), 0.0), own, PRIMARY)
    assert (found is not None) == diverged


@pytest.mark.fact("fork-of-two")
def test_a_loser_on_a_younger_timeline_than_the_winner_has_diverged():
    loser = line(2, (1, 100))
    found = past_fork(Position(2, Lsn(150), 0.0), loser, line())
    assert found == Fork(1, Lsn(100))


@pytest.mark.parametrize(
    ("lineages", "timelines", "text"),
    [
        ((line(), line(2, (1, 9))), (1, 2), "1"),
        ((line(2, (1, 9)), line(3, (1, 9))), (2, 3), "1"),
        ((None, None), (1, 2), "1"),
        ((None, line(2, (1, 9))), (3, 2), "2"),
        ((None, None), (3, 3), "2"),
        ((None, None), (1, 1), "1"),
        ((None, None), (None, 4), "4"),
        ((None, None), (None, None), "?"),
        # The history has not been read yet: the timelines must do.
        ((line(), line()), (1, 2), "1"),
        ((line(), line()), (None, None), "?"),
    ],
)
def test_both_sides_name_the_fork_alike(lineages, timelines, text):
    assert fork_timeline(lineages, timelines) == text
    assert fork_timeline(lineages[::-1], timelines[::-1]) == text
