"""An agent that was held up blames itself first."""

from dataclasses import replace

import pytest

from agent.core import selfdoubt
from agent.core.event import Observed, Ticked
from agent.core.observation import Channel, Observation, Outcome, SelfHealth
from agent.core.reporting import doubt
from agent.core.selfdoubt import SelfDoubt
from tests.core import given
from tests.core.cluster import FINE, Cluster

POLICY = replace(given.policy(), fresh_s=2.8)  # two rounds and a probe's deadline
LATE = SelfHealth(loop_lag_s=6.0, wall_jump_s=0.0, suspended_s=0.0)
DOUBT = SelfDoubt("late", since_s=10.0, until_s=13.0)


def doubt_after(health, seconds=10.0, before=None):
    return selfdoubt.after(before, health, given.at(seconds), POLICY)


@pytest.mark.parametrize(
    ("health", "why"),
    [
        (LATE, "its own loop was 6.0 s late"),
        (SelfHealth(0.0, 0.0, 90.0), "this machine was suspended for 90 s"),
        (SelfHealth(89.0, -90.0, 90.0), "this machine was suspended for 90 s"),
        (SelfHealth(0.0, -30.0, 0.0), "the wall clock here jumped by -30.0 s"),
        (SelfHealth(0.0, 4.0, 0.0), "the wall clock here jumped by +4.0 s"),
        (SelfHealth(0.9, 0.9, 0.9), None),
        # As long as a round, or as far as a clock may be stepped: nobody's fault yet.
        (SelfHealth(1.0, 1.0, 1.0), None),
        (SelfHealth(0.0, -1.0, 0.0), None),
        (FINE, None),
    ],
)
def test_what_a_round_shows_of_the_agent_itself(health, why):
    found = doubt_after(health)
    assert (found.why if found is not None else None) == why


@pytest.mark.parametrize(
    ("health", "suspended"),
    [(SelfHealth(0.0, 0.0, 1.1), True), (SelfHealth(2.0, 0.0, 1.0), False)],
)
def test_only_a_sleep_makes_every_age_doubtful(health, suspended):
    found = doubt_after(health)
    assert found is not None
    assert found.suspended is suspended


@pytest.mark.parametrize(
    ("doubted", "seconds", "misses"),
    [(None, 11.0, 2), (DOUBT, 12.9, 4), (DOUBT, 13.0, 2), (DOUBT, 14.0, 2)],
)
def test_it_takes_twice_as_many_misses_until_the_doubt_is_over(
    doubted, seconds, misses
):
    assert selfdoubt.misses_to_accuse(doubted, given.at(seconds), POLICY) == misses


def test_doubt_lasts_three_rounds_and_begins_anew_with_another_reason():
    first = doubt_after(LATE, 10.0)
    assert first is not None
    assert doubt_after(FINE, 12.9, first) == first
    assert doubt_after(FINE, 13.0, first) is None
    again = doubt_after(SelfHealth(0.0, 5.0, 0.0), 12.0, first)
    assert again is not None
    assert (again.since_s, again.until_s) == (12.0, 15.0)


def seen(outcome, sent_s, received_s):
    return Observation("n2", Channel.AGENT, outcome, "", sent_s, received_s)


@pytest.mark.parametrize(
    ("observation", "doubted", "own"),
    [
        # In time, or late by less than a round: the other one's.
        (seen(Outcome.TIMED_OUT, 1.0, 1.8), None, False),
        (seen(Outcome.TIMED_OUT, 1.0, 2.7), None, False),
        # The loop was held up while it waited, and the round that says so is to come.
        (seen(Outcome.TIMED_OUT, 1.0, 7.8), None, True),
        (seen(Outcome.UNREACHABLE, 1.0, 7.8), None, True),
        # Somebody answered, nobody knows when: what it tells may be as old as that.
        (seen(Outcome.ANSWERED, 1.0, 7.8), None, True),
        (seen(Outcome.ANSWERED, 1.0, 2.7), None, False),
        # Asked before the round that was late; asked in it.
        (seen(Outcome.TIMED_OUT, 9.0, 10.1), DOUBT, True),
        (seen(Outcome.ANSWERED, 9.0, 10.1), DOUBT, False),
        (seen(Outcome.TIMED_OUT, 9.5, 10.4), DOUBT, True),
        (seen(Outcome.TIMED_OUT, 9.51, 10.4), DOUBT, False),
        (seen(Outcome.TIMED_OUT, 9.99, 10.8), DOUBT, False),
        # Asked before a sleep of unknown length: nothing of it can be timed.
        (seen(Outcome.ANSWERED, 9.0, 10.1), replace(DOUBT, suspended=True), True),
        (seen(Outcome.ANSWERED, 10.0, 10.1), replace(DOUBT, suspended=True), False),
    ],
)
def test_whose_fault_an_observation_is(observation, doubted, own):
    assert selfdoubt.own_fault(observation, doubted, POLICY) is own


@pytest.mark.parametrize(
    ("fresh_s", "took_s", "own"),
    [(1.5, 1.0, False), (1.5, 1.1, True), (4.0, 3.0, False)],
)
def test_a_miss_may_take_a_round_or_what_is_fresh_less_a_round(fresh_s, took_s, own):
    policy = replace(POLICY, fresh_s=fresh_s)
    missed = seen(Outcome.TIMED_OUT, 0.0, took_s)
    assert selfdoubt.own_fault(missed, None, policy) is own


@pytest.mark.parametrize(
    ("offset_s", "parted"),
    [
        (None, False),
        (0.0, False),
        (1.0, False),
        (1.1, True),
        (-1.0, False),
        (-1.1, True),
    ],
)
def test_the_clocks_part_by_more_than_a_wall_clock_is_slewed(offset_s, parted):
    moment = given.at(7.0)
    before = None if offset_s is None else moment.wall_s - 7.0 + offset_s
    assert selfdoubt.clocks_parted(before, moment) is parted


@pytest.mark.parametrize(("asleep_s", "down"), [(0.0, True), (600.0, False)])
def test_what_is_known_from_before_a_sleep_accuses_nobody(asleep_s, down):
    """The round that tells of it comes after what had waited for its deadline."""
    cluster = Cluster()
    cluster.run(3)
    cluster.kill("n3")
    for name in ("n2", "n2", "n1"):
        cluster.run_only(name)
    assert cluster.codes("n1") == {"node-suspect"}
    now = cluster.at("n1", 1.6)
    now = replace(now, wall_s=now.wall_s + asleep_s)
    for channel in (Channel.AGENT, Channel.POSTGRES):
        sent_s = now.monotonic_s - 0.8
        missed = Observation(
            "n3", channel, Outcome.TIMED_OUT, "", sent_s, now.monotonic_s
        )
        cluster.agents["n1"].step(Observed(now, missed))
    assert cluster.codes("n1") == {"node-down" if down else "node-suspect"}


def test_who_was_held_up_accuses_nobody_on_waking():
    cluster = Cluster(fresh_s=2.8)
    cluster.run(3)
    woken = cluster.agents["n1"]
    asked_s = cluster.at("n1", 1.0).monotonic_s
    cluster.now_s += 8.0
    for node, channel in (
        ("n2", Channel.AGENT), ("n2", Channel.POSTGRES),
        ("n3", Channel.AGENT), ("n3", Channel.POSTGRES),
    ):  # fmt: skip
        late = Observation(node, channel, Outcome.TIMED_OUT, "", asked_s, asked_s + 7.0)
        for _ in range(3):
            woken.step(Observed(cluster.at("n1"), late))
            assert cluster.codes("n1") <= {"healthy", "unknown"}
    woken.step(Ticked(cluster.at("n1", 0.1), LATE))
    assert cluster.codes("n1") <= {"healthy", "unknown"}
    assert doubt(woken.state, woken.policy) == "its own loop was 6.0 s late"
    cluster.run(1)
    assert cluster.codes("n1") == {"healthy"}
    cluster.run(3)
    assert doubt(woken.state, woken.policy) is None


def test_who_doubts_itself_takes_twice_as_many_misses_to_accuse():
    cluster = Cluster()
    cluster.run(3)
    cluster.deaf = {("n1", "n3", channel) for channel in Channel}
    cluster.health = {"n1": LATE}
    cluster.run(3)
    missed = cluster.agents["n1"].state.view.missed["n3/agent"]
    assert missed == 3
    assert cluster.codes("n1") == {"healthy"}
    cluster.run(1)
    assert "link-down" in cluster.codes("n1")


def test_who_was_held_up_blames_no_link_for_what_others_missed_of_it():
    cluster = Cluster()
    cluster.run(3)
    # n2 has missed n1, and n3 sees it again already: n2 has not looked since.
    cluster.agents["n1"].up = False
    cluster.run(3)
    cluster.agents["n1"].up = True
    cluster.run_only("n3")
    cluster.health = {"n1": LATE}
    cluster.run_only("n1")
    assert "link-down" not in cluster.codes("n1")
    cluster.health = {}
    cluster.run(2)
    assert cluster.codes("n1") == {"healthy"}
