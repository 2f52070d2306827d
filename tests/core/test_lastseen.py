"""What only a living server tells of its writes is kept when it is gone."""

from dataclasses import replace

from agent.core import lastseen
from agent.core.event import Observed
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.observation import Observation, Outcome, Slot
from agent.core.state import LastSeen, Sent
from tests.core import given

SLOT = Slot("to_shop", "logical", True, Lsn(0x100), False, "shop", "pgoutput", Lsn(9))


def seen(state, second, node="n1", **sight):
    event = Observed(
        given.at(second), given.postgres(node, given.sight(**sight), second)
    )
    return step(state, event, given.policy()).state


def last(state) -> LastSeen:
    found = state.knowledge.last_seen
    assert isinstance(found, LastSeen)
    return found


def test_commits_that_wait_are_kept_with_the_time_of_their_waiting():
    state = seen(given.state(), 100, waiting_for_sync=2, waiting_for_sync_s=7.0)
    assert last(state).waiting == 2
    assert last(state).since_wall_s == given.at(93).wall_s
    later = seen(state, 101, waiting_for_sync=3, waiting_for_sync_s=7.9)
    assert last(later).waiting == 3
    assert last(later).since_wall_s == given.at(93).wall_s
    assert last(later).seen_wall_s == given.at(101).wall_s


def test_a_new_wait_has_a_beginning_of_its_own():
    state = seen(given.state(), 100, waiting_for_sync=1, waiting_for_sync_s=7.0)
    later = seen(state, 130, waiting_for_sync=1, waiting_for_sync_s=2.0)
    assert last(later).since_wall_s == given.at(128).wall_s


def test_a_wait_on_another_timeline_is_another_wait():
    state = seen(given.state(), 100, waiting_for_sync=1, waiting_for_sync_s=7.0)
    later = seen(state, 101, waiting_for_sync=1, waiting_for_sync_s=5.0, timeline=2)
    assert last(later).since_wall_s == given.at(96).wall_s


def test_who_waits_no_more_was_told():
    state = seen(given.state(), 100, waiting_for_sync=1, waiting_for_sync_s=7.0)
    assert last(seen(state, 101)) == LastSeen(timeline=1)


def test_what_was_seen_last_stays_when_the_server_is_gone_or_follows_another():
    state = seen(given.state(), 100, waiting_for_sync=1, waiting_for_sync_s=7.0)
    gone = Observation("n1", state_channel(), Outcome.UNREACHABLE, "refused", 101, 101)
    after = step(state, Observed(given.at(101), gone), given.policy()).state
    assert last(after).waiting == 1
    follows = seen(after, 102, in_recovery=True, timeline=2)
    assert last(follows).waiting == 1
    other = seen(follows, 103, node="n2", waiting_for_sync=9)
    assert last(other).waiting == 1


def state_channel():
    return given.postgres("n1", given.sight(), 1).channel


def test_an_idle_primary_is_no_news_in_each_round():
    state = seen(given.state(), 100)
    assert seen(state, 101).knowledge.last_seen is state.knowledge.last_seen


def test_logical_slots_are_kept_with_how_far_they_were_read():
    physical = Slot("n2", "physical", True, Lsn(0x100), False)
    unread = replace(SLOT, name="new", confirmed_lsn=None)
    state = seen(given.state(), 100, slots=(physical, SLOT, unread))
    assert last(state).sent == (Sent("to_shop", "shop", "pgoutput", Lsn(9)),)
    assert lastseen.past(last(state), 1, Lsn(8)) == last(state).sent
    assert lastseen.past(last(state), 1, Lsn(9)) == ()
    assert lastseen.past(last(state), 2, Lsn(8)) == ()
    assert lastseen.past(None, 1, Lsn(8)) == ()
