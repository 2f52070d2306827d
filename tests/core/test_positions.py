"""Where a standby's WAL ends is known only with the timeline that it is of."""

from dataclasses import replace

import pytest

from agent.core import positions, scene, view
from agent.core.event import ServerRead
from agent.core.lsn import Lsn
from agent.core.observation import Sight
from agent.core.prints import Label, Marks
from agent.core.state import State
from tests.core import given
from tests.core.test_view import fold

POLICY = given.policy()
FORK = 0x5000
SECOND = given.lineage(2, (1, FORK))


def read_disk(state: State, seconds: float, **facts) -> State:
    event = ServerRead(given.at(seconds), given.facts(standby=True, **facts))
    return view.fold(state, event, POLICY)


def place(state: State, seconds: float) -> tuple[int, int] | None:
    found = scene.build(state, given.at(seconds), POLICY).position("n1")
    return None if found is None else (found.timeline, int(found.lsn))


def standby(flush: int, *, named: int | None, mark: str | None = None):
    return given.sight(
        in_recovery=True, flush=flush, timeline=named, receiver_mark=mark
    )


def followed(to: int = FORK):
    """n1 has received up to here on timeline 1, and then lost its receiver."""
    return fold(State(), given.postgres("n1", standby(to, named=1, mark="a"), 1))


@pytest.mark.parametrize("claimed", [1, None])
def test_what_came_last_before_the_receiver_went_counts_once_the_disk_is_read(claimed):
    last = standby(FORK + 0x78, named=claimed)
    state = fold(followed(), given.postgres("n1", last, 2))
    state = read_disk(state, 2)
    assert place(state, 2.5) == (1, FORK)
    state = fold(state, given.postgres("n1", last, 4))
    state = read_disk(state, 4)
    assert place(state, 4.5) == (1, FORK + 0x78)


def test_a_standby_whose_control_file_is_late_is_not_placed_past_a_fork():
    """It has received timeline 2 and shows 1: no restart point was made since."""
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=1), 2))
    assert place(read_disk(state, 2, lineage=SECOND), 2.5) == (2, 0x101)
    state = fold(state, given.postgres("n1", standby(0x6000, named=1), 4))
    assert place(read_disk(state, 4, lineage=SECOND), 4.5) == (2, 0x6000)


def test_before_10_a_receiver_names_no_timeline():
    """It shows pg_control's, which is late, in a row that is always there."""
    late = replace(standby(0x6000, named=1, mark="a row"), version_num=90_524)
    state = fold(State(), given.postgres("n1", late, 1))
    assert "n1" not in state.view.positions
    told = replace(late, version_num=100_000)
    state = fold(State(), given.postgres("n1", told, 1))
    assert state.view.positions["n1"].timeline == 1


def test_a_position_that_moves_is_not_believed_before_it_stands():
    state = followed()
    for seconds in (2, 3, 4, 5):
        moving = standby(FORK + seconds, named=1)
        state = fold(state, given.postgres("n1", moving, seconds))
        state = read_disk(state, seconds)
        assert place(state, seconds) == (1, FORK)


def test_a_receiver_that_comes_back_names_the_timeline_again():
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=1), 2))
    back = standby(0x6000, named=2, mark="b")
    state = read_disk(fold(state, given.postgres("n1", back, 4)), 4, lineage=SECOND)
    assert place(state, 4.5) == (2, 0x6000)
    assert state.view.received == {}


def test_an_older_reading_of_a_peer_changes_nothing():
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=1), 4))
    told = given.postgres("n1", standby(0x5500, named=1), 0)
    sight = Sight("n1", told.channel, told.outcome, "", 3.0, 0, told.postgres, None)
    after = fold(state, given.heard("n2", given.report("n2", sights=(sight,)), 5))
    assert after.view.received == state.view.received
    assert after.view.positions == state.view.positions


@pytest.mark.parametrize(
    ("claimed", "known", "found"),
    [(1, given.lineage(), 0x6000), (1, SECOND, FORK), (None, given.lineage(), FORK)],
)
def test_where_nobody_reads_the_disk_pg_control_counts_unless_it_is_late(
    claimed, known, found
):
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=claimed), 2))
    place = positions.unread(state.view, "n1", known)
    assert place is not None
    assert int(place.lsn) == found


def test_a_stopped_server_is_where_its_disk_ends_whatever_it_said():
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=1), 2))
    state = read_disk(state, 9, running=False, end=0x5800)
    assert place(state, 9.5) == (1, 0x5800)


def test_nothing_is_known_of_a_server_that_told_no_position():
    silent = replace(standby(0, named=1), flush_lsn=None, replay_lsn=None)
    state = fold(State(), given.postgres("n1", silent, 1))
    assert (state.view.positions, state.view.received) == ({}, {})
    assert positions.unread(state.view, "n1", None) is None
    assert positions.on_disk(given.facts(), None, None, given.at(1)).lsn == Lsn(0x101)


def marks(**more):
    label = more.pop("label", None)
    labels = () if label is None else (Label("label", label),)
    made = Marks("folder 1", labels, (), Lsn(0x5000), Lsn(0x5000))
    return replace(made, **more)


@pytest.mark.parametrize(
    ("then", "found"),
    [
        ({"folder": "folder 2"}, 0x5101),
        ({"label": Lsn(0x5800)}, 0x5101),
        ({"checkpoint_lsn": Lsn(0x4000)}, 0x5101),
        ({"label": None}, 0x6000),
        ({}, 0x6000),
    ],
)
def test_what_was_read_of_a_directory_that_was_replaced_counts_no_more(then, found):
    """Its upstream was set back, and it was cloned from that; now it follows nobody."""
    lost = standby(0x5000, named=1)
    here = {"checkpoint_lsn": Lsn(0x5100)}
    state = read_disk(followed(0x6000), 2, marks=marks(), **here)
    state = read_disk(
        fold(state, given.postgres("n1", lost, 3)), 4, marks=marks(**then)
    )
    state = read_disk(state, 5, marks=marks(**then), **here)
    old = given.postgres("n1", standby(0x6000, named=1, mark="a"), 0)
    sight = Sight("n1", old.channel, old.outcome, "", 3.5, 0, old.postgres, None)
    state = fold(state, given.heard("n2", given.report("n2", sights=(sight,)), 5.5))
    for seconds in (6, 8):
        state = fold(state, given.postgres("n1", lost, seconds))
    state = read_disk(state, 9, marks=marks(**then), **here)
    assert place(state, 9.5) == (1, found)


def test_a_server_whose_directory_was_replaced_is_stopped_as_its_disk_says():
    state = read_disk(followed(0x6000), 2, marks=marks())
    again = marks(folder="folder 2")
    state = read_disk(state, 7, running=False, end=0x5800, marks=again)
    assert scene.build(state, given.at(7), POLICY).stopped("n1")
    assert place(state, 7) == (1, 0x5800)


def test_a_peer_tells_that_its_directory_was_replaced():
    facts = given.facts(standby=True, marks=marks())
    state = fold(State(), given.heard("n2", given.report("n2", server=facts), 0.5))
    old = given.postgres("n2", standby(0x6000, named=1, mark="a"), 1)
    state = fold(state, old)
    facts = replace(facts, marks=marks(folder="folder 2"))
    told = given.report("n2", server=facts, server_age_s=0.5, sequence=2)
    state = fold(state, given.heard("n2", told, 3))
    assert int(state.view.positions["n2"].lsn) == 0x101
    assert 1 < state.view.positions["n2"].read_s < 2.501


def test_of_two_readings_of_one_instant_the_one_that_names_the_timeline_counts():
    state = fold(followed(), given.postgres("n1", standby(0x6000, named=1), 4))
    named = standby(0x6000, named=2, mark="b")
    state = fold(state, given.postgres("n1", named, 4))
    assert state.view.received == {}
    assert state.view.positions["n1"].timeline == 2


def test_a_directory_that_was_replaced_says_nothing_of_other_servers():
    lost = {
        node: given.postgres(node, standby(0x6000, named=1), 1) for node in ("n1", "n2")
    }
    state = fold(State(), *lost.values())
    assert set(state.view.received) == {"n1", "n2"}
    state = read_disk(state, 2, marks=marks())
    state = read_disk(state, 4, marks=marks(folder="folder 2"))
    assert set(state.view.received) == {"n2"}
