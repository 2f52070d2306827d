"""The stand-in managers' naive mind: who becomes active, who wins, who gives up."""

from dataclasses import replace

from agent.core.lsn import Lsn
from agent.lab.naive import (
    BecomeActive,
    Follow,
    GiveUp,
    Habits,
    Naive,
    Stay,
    StepDown,
)
from agent.lab.standing import ServerStanding, Standing, contains, outranks

HABITS = Habits()
UPSTREAMS = {101: "n1", 102: "n2", 103: "n3"}


def server(timeline=1, lsn=1000, *, recovering=True, row_at=0.0, follows=101, left=()):
    return ServerStanding(
        in_recovery=recovering, timeline=timeline, lsn=Lsn(lsn), replay_lsn=Lsn(lsn),
        last_row_at=row_at, upstream_port=follows if recovering else None,
        switches=tuple((number, Lsn(at)) for number, at in left),
    )  # fmt: skip


def standby(name, **server_as):
    return Standing(name, active=False, busy="", server=server(**server_as))


def active(name, **server_as):
    return Standing(name, True, "", server(recovering=False, **server_as))


def mind(me):
    return Naive(me, UPSTREAMS, HABITS)


def seen(*standings):
    return {standing.name: standing for standing in standings}


def after(naive, mine, others, seconds):
    """The move once this has been so for so long."""
    naive.decide(mine, others, 0.0)
    return naive.decide(mine, others, seconds)


def test_a_standby_that_follows_the_active_one_stays():
    move = mind("n2").decide(standby("n2"), seen(active("n1")), 0.0)
    assert move == Stay()


def test_a_manager_that_sees_no_other_becomes_active_after_a_while():
    naive, mine = mind("n2"), standby("n2")
    assert naive.decide(mine, {}, 0.0) == Stay()
    assert naive.decide(mine, {}, HABITS.lost_after_s - 0.1) == Stay()
    assert isinstance(naive.decide(mine, {}, HABITS.lost_after_s), BecomeActive)


def test_an_active_manager_that_sees_no_other_stays_active():
    assert after(mind("n1"), active("n1"), {}, 100.0) == Stay()


def test_of_those_without_a_leader_the_one_that_received_most_promotes():
    behind, ahead = standby("n2", lsn=900), standby("n3", lsn=1000)
    assert after(mind("n2"), behind, seen(ahead), 2.0) == Stay()
    assert isinstance(after(mind("n3"), ahead, seen(behind), 2.0), BecomeActive)


def test_equal_candidates_are_told_apart_by_name():
    second, third = standby("n2"), standby("n3")
    assert isinstance(after(mind("n2"), second, seen(third), 2.0), BecomeActive)
    assert after(mind("n3"), third, seen(second), 2.0) == Stay()


def test_a_standby_follows_the_newly_active_one():
    promoted = active("n2", timeline=2, left=[(1, 1000)])
    assert mind("n3").decide(standby("n3"), seen(promoted), 0.0) == Follow("n2")


def test_a_standby_that_replayed_past_the_promotion_has_lost():
    promoted = active("n2", timeline=2, left=[(1, 900)])
    move = mind("n3").decide(standby("n3", lsn=1000), seen(promoted), 0.0)
    assert isinstance(move, GiveUp)
    assert move.winner == "n2"


def test_a_standby_believes_none_of_two_until_they_have_decided():
    two = seen(active("n1"), active("n2", timeline=2, left=[(1, 1000)]))
    assert after(mind("n3"), standby("n3"), two, 10.0) == Stay()


def meet(row_at_first, row_at_second, seconds):
    """Two active managers see each other; the moves of both after so long."""
    first = active("n1", row_at=row_at_first, lsn=3000)
    second = active("n2", row_at=row_at_second, timeline=2, left=[(1, 1000)])
    minds = mind("n1"), mind("n2")
    minds[0].decide(first, seen(second), 0.0)
    move = minds[0].decide(first, seen(second), seconds)
    first = replace(first, decision=minds[0].decision)
    return move, minds[1].decide(second, seen(first), seconds)


def test_managers_that_meet_look_at_each_other_for_a_while_first():
    assert meet(10.0, 20.0, HABITS.settle_s - 0.1) == (Stay(), Stay())


def test_the_newest_database_wins_when_they_have_settled():
    loser, winner = meet(10.0, 20.0, HABITS.settle_s)
    assert isinstance(loser, GiveUp)
    assert loser.winner == "n2"
    assert winner == Stay()


def test_the_minority_can_win():
    winner, loser = meet(20.0, 10.0, HABITS.settle_s)
    assert winner == Stay()
    assert isinstance(loser, GiveUp)
    assert loser.winner == "n1"


def test_what_is_written_after_they_met_does_not_change_who_wins():
    naive, other = mind("n1"), active("n2", row_at=20.0, timeline=2, left=[(1, 1000)])
    naive.decide(active("n1", row_at=10.0), seen(other), 0.0)
    move = naive.decide(active("n1", row_at=99.0), seen(other), HABITS.settle_s)
    assert isinstance(move, GiveUp)


def test_managers_that_part_again_before_they_decide_begin_anew():
    naive, mine = mind("n1"), active("n1", row_at=10.0)
    other = seen(active("n2", row_at=20.0, timeline=2, left=[(1, 1000)]))
    naive.decide(mine, other, 0.0)
    naive.decide(mine, {}, 1.0)
    assert naive.decide(mine, other, HABITS.settle_s) == Stay()


def test_what_was_decided_in_one_meeting_binds_nobody_in_the_next():
    naive, mine = mind("n1"), active("n1", row_at=20.0, lsn=3000)
    other = seen(active("n2", row_at=10.0, timeline=2, left=[(1, 1000)]))
    naive.decide(mine, other, 0.0)
    naive.decide(mine, other, HABITS.settle_s)
    assert naive.decision is not None
    naive.decide(mine, {}, 10.0)
    assert naive.decision is None


def test_a_node_on_the_same_line_is_contained_and_one_past_the_fork_is_not():
    line = server(timeline=3, lsn=5000, left=[(1, 1000), (2, 2000)])
    assert contains(line, server(timeline=1, lsn=1000))
    assert contains(line, server(timeline=2, lsn=2000, left=[(1, 1000)]))
    assert not contains(line, server(timeline=1, lsn=1001))
    assert not contains(line, server(timeline=2, lsn=1500, left=[(1, 900)]))
    assert not contains(line, server(timeline=4, lsn=1000, left=[(1, 1000)]))


def test_a_winner_outranks_older_timelines_and_its_own_history_only():
    winner = replace(server(timeline=3), histories={"00000003.history": "mine"})
    assert outranks(winner, {})
    assert outranks(winner, {"00000002.history": "x", "00000003.history": "mine"})
    assert not outranks(winner, {"00000003.history": "another"})
    assert not outranks(winner, {"00000004.history": "x"})


def test_where_a_majority_is_asked_for_who_sees_nobody_does_not_become_active():
    naive, mine = mind("n2"), standby("n2")
    for now_s in (0.0, 2.0, 100.0):
        assert naive.decide(mine, {}, now_s, voters=3) == Stay()


def test_where_a_majority_is_asked_for_two_of_three_elect():
    naive, others = mind("n2"), seen(standby("n3"))
    naive.decide(standby("n2"), others, 0.0, voters=3)
    move = naive.decide(standby("n2"), others, 2.0, voters=3)
    assert isinstance(move, BecomeActive)


def test_an_active_one_steps_down_before_the_others_have_elected():
    naive, mine = mind("n1"), active("n1")
    assert naive.decide(mine, {}, 0.0, voters=3) == Stay()
    assert naive.decide(mine, {}, HABITS.lost_after_s / 2, voters=3) == StepDown()


def test_who_sees_the_majority_again_forgets_that_it_was_alone():
    naive, mine = mind("n1"), active("n1")
    naive.decide(mine, {}, 0.0, voters=3)
    naive.decide(mine, seen(standby("n2")), 1.0, voters=3)
    assert naive.decide(mine, {}, 1.5, voters=3) == Stay()
