"""What is taken for known at one instant."""

from dataclasses import replace

import pytest

from agent.core import scene, view
from agent.core.detector import Look
from agent.core.event import ServerRead
from agent.core.lsn import Lsn
from agent.core.observation import Channel, Outcome, Sight
from agent.core.state import State
from tests.core import given
from tests.core.test_view import fold, miss, seen_by_all

POLICY = given.policy()


def read_disk(state, seconds, **facts):
    event = ServerRead(given.at(seconds), given.facts(**facts))
    return view.fold(state, event, POLICY)


def at(state, seconds):
    return scene.build(state, given.at(seconds), POLICY)


@pytest.mark.parametrize(("disk_s", "stopped"), [(4.0, False), (6.0, True)])
def test_the_younger_of_disk_and_answer_says_whether_a_server_runs(disk_s, stopped):
    state = fold(State(), *seen_by_all(5, n1=given.sight()))
    state = read_disk(state, disk_s, running=False)
    assert at(state, 6).stopped("n1") is stopped
    assert at(state, 6).writable == (() if stopped else ("n1",))


@pytest.mark.parametrize(("disk_s", "stopped"), [(4.0, False), (5.5, True)])
def test_what_is_lost_after_an_answer_makes_no_older_disk_reading_true(disk_s, stopped):
    """The server was restarted after the disk was read, and then nothing came back."""
    state = fold(State(), *seen_by_all(5, n1=given.sight()))
    state = read_disk(state, disk_s, running=False)
    state = fold(state, miss("n1", 6), miss("n1", 7))
    assert at(state, 7.9).sights.keys().isdisjoint({"n1"})
    assert at(state, 7.9).stopped("n1") is stopped


@pytest.mark.parametrize(("age_s", "stopped"), [(3.0, False), (0.0, True)])
def test_a_peers_disk_is_as_old_as_its_report_says(age_s, stopped):
    report = given.report("n2", server=given.facts(running=False), server_age_s=age_s)
    state = fold(
        State(), given.postgres("n2", given.sight(), 5), given.heard("n2", report, 6)
    )
    assert at(state, 6.5).stopped("n2") is stopped


def test_a_server_of_whose_disk_nothing_is_known_is_not_called_stopped():
    assert not at(State(), 1).stopped("n2")


def test_no_peer_reads_a_server_where_the_list_has_none():
    nodes = (*POLICY.nodes[:2], replace(POLICY.nodes[2], has_postgres=False))
    policy = replace(POLICY, nodes=nodes, order={})
    reads = tuple(
        Sight(name, Channel.POSTGRES, Outcome.ANSWERED, "", 0.1, 0, given.sight(), None)
        for name in ("n1", "n3", "elsewhere")
    )
    told = given.heard("n2", given.report("n2", sights=reads), 5)
    state = fold(State(), told, policy=policy)
    assert set(scene.build(state, given.at(5.5), policy).sights) == {"n1"}


def test_a_stopped_server_is_where_its_wal_ends():
    state = read_disk(State(), 5, running=False, end=0x4000)
    assert at(state, 5.5).position("n1").lsn == Lsn(0x4000)


def test_without_an_end_the_last_checkpoint_is_the_least_that_it_holds():
    state = read_disk(State(), 5, running=False, checkpoint_lsn=Lsn(0x3000))
    assert at(state, 5.5).position("n1").lsn == Lsn(0x3001)


def test_a_running_server_that_hides_its_timeline_keeps_its_last_position():
    state = fold(State(), given.postgres("n1", given.sight(flush=0x5000), 1))
    hidden = given.sight(timeline=None, flush=0x9000, in_recovery=True)
    state = read_disk(fold(state, given.postgres("n1", hidden, 5)), 5)
    assert at(state, 5.5).position("n1").lsn == Lsn(0x5000)
    state = read_disk(state, 6, lineage=given.lineage(2, (1, 0x50)))
    found = at(state, 6).position("n1")
    assert (found.timeline, found.lsn) == (2, Lsn(0x101))


def test_a_peers_sight_is_used_while_it_is_young_and_answered():
    state = fold(State(), *seen_by_all(1))
    assert at(state, 2).sights["n3"].by == "n1"
    assert at(state, 9).sights == {}
    assert at(state, 9).nodes["n3"] is Look.UNKNOWN


def test_a_silent_peer_does_not_testify_for_itself():
    told = given.postgres("n2", given.sight(), 0)
    sight = Sight("n2", told.channel, told.outcome, "", 0.0, 0, told.postgres, None)
    heard = given.heard("n2", given.report("n2", sights=(sight,)), 1)
    state = fold(State(), heard)
    assert at(state, 1.5).writable == ("n2",)
    silent = replace(heard, outcome=Outcome.TIMED_OUT, report=None, sent_s=2.0)
    assert at(fold(state, silent), 2.5).writable == ()


def test_an_agent_has_started_once_every_voter_was_asked():
    known = seen_by_all(1, n1=given.sight())
    for missing in range(len(known)):
        partly = known[:missing] + known[missing + 1 :]
        assert at(fold(State(), *partly), 1.5).starting
    assert not at(fold(State(), *known), 1.5).starting


def test_a_start_does_not_wait_for_managers():
    nodes = tuple(replace(node, has_manager=True) for node in POLICY.nodes)
    policy = replace(POLICY, nodes=nodes)
    state = fold(State(), *seen_by_all(1, n1=given.sight()), policy=policy)
    assert not scene.build(state, given.at(1.5), policy).starting
