"""Who sees whom, who writes, and how old that may be, to the second."""

from dataclasses import replace

import pytest

from agent.core import rules_other, scene
from agent.core.detector import Look
from agent.core.lsn import Lsn
from agent.core.observation import Channel, Outcome, Sight
from agent.core.rules_split import split_brain_past
from agent.core.state import PrimarySeen, SplitProof, State
from tests.core import given
from tests.core.test_view import fold, miss, seen_by_all

POLICY = given.policy()
SQL = Channel.POSTGRES


def at(state, seconds, policy=POLICY):
    return scene.build(state, given.at(seconds), policy)


def sight(node, outcome=Outcome.ANSWERED, age_s=0.0, missed=0, **more):
    seen = given.sight(**more) if outcome is Outcome.ANSWERED else None
    return Sight(node, SQL, outcome, "", age_s, missed, seen, None)


def told(node, *sights, seconds=10.0):
    return given.heard(node, given.report(node, sights=sights), seconds - 0.001)


@pytest.mark.parametrize(("seconds", "fresh"), [(13.0, True), (13.1, False)])
def test_a_report_and_a_reading_count_while_they_are_fresh(seconds, fresh):
    state = fold(State(), told("n2", sight("n3")))
    found = at(state, seconds)
    assert ("n2" in found.reports) is fresh
    assert ("n3" in found.sights) is fresh
    own = fold(State(), given.postgres("n2", given.sight(), 9.999))
    assert ("n2" in at(own, seconds).sights) is fresh


def test_the_own_reading_goes_before_a_younger_one_of_a_peer():
    state = fold(State(), given.postgres("n3", given.sight(flush=0x500), 8))
    found = at(fold(state, told("n2", sight("n3", flush=0x900))), 10.5)
    assert (found.sights["n3"].by, found.sights["n3"].sight.flush_lsn) == ("n1", 0x500)


def test_of_two_peers_the_younger_reading_counts():
    old, new = sight("n3", age_s=2.0, flush=0x500), sight("n3", age_s=1.0, flush=0x900)
    for first, second in ((old, new), (new, old)):
        policy = given.policy(count=4)
        state = fold(State(), told("n2", first), told("n4", second), policy=policy)
        found = at(state, 10.5, policy).sights["n3"]
        assert found.sight.flush_lsn == 0x900
        assert found.read_s == pytest.approx(9.0, abs=0.01)


@pytest.mark.parametrize(
    ("seconds", "seen"), [(11.0, True), (11.5, True), (11.6, False)]
)
def test_a_peers_sight_ages_with_its_report(seconds, seen):
    state = fold(State(), told("n2", sight("n3", Outcome.ANSWERED, age_s=1.5)))
    assert (("n3", SQL) in at(state, seconds).seen_by) is seen


def test_who_sees_and_who_misses_a_channel():
    missed = sight("n3", Outcome.TIMED_OUT, missed=2)
    once = sight("n3", Outcome.TIMED_OUT, missed=1)
    policy = given.policy(count=4)
    state = fold(
        State(),
        given.postgres("n3", given.sight(), 9.5),
        told("n2", missed),
        told("n4", once),
        policy=policy,
    )
    found = at(state, 10.5, policy)
    assert found.seen_by["n3", SQL] == ("n1",)
    assert found.unseen_by["n3", SQL] == ("n2",)
    assert found.seen_alive("n3") == ("n1",)
    assert found.unseen_on_all("n3") == frozenset()
    assert found.last_look("n2", ("n3", SQL)) == (2, pytest.approx(10.0))
    assert found.last_look("n1", ("n3", SQL)) == (0, pytest.approx(9.501))


def test_the_last_sign_of_life_on_any_channel_counts():
    state = fold(
        State(),
        given.postgres("n2", given.sight(), 4.999),
        told("n2", seconds=7.0),
        miss("n2", 8.0),
    )
    assert at(state, 10).last_alive_age_s("n2") == pytest.approx(3.0)
    assert at(state, 10).last_alive_age_s("n3") is None


@pytest.mark.parametrize(
    ("systems", "primary", "known"),
    [
        ((), None, None),
        (("a",), None, "a"),
        (("a", "b"), None, None),
        (("a", "b", "b"), None, "b"),
        (("a", "b", "b"), "a", "a"),
    ],
)
def test_the_cluster_s_system_is_the_last_primary_s_else_the_commonest(
    systems, primary, known
):
    seen = (
        given.postgres(f"n{number}", given.sight(system_id=one, in_recovery=True), 9)
        for number, one in enumerate(systems, start=1)
    )
    state = fold(State(), *seen)
    if primary is not None:
        last = PrimarySeen("n1", 1, Lsn(1), primary)
        state = replace(state, knowledge=replace(state.knowledge, primary=last))
    assert at(state, 10).system_id == known


def test_a_writable_server_of_another_system_is_none_of_its_primaries():
    ours, theirs = given.sight(), given.sight(system_id="9")
    state = fold(State(), *seen_by_all(9, n1=ours, n2=theirs))
    last = PrimarySeen("n1", 1, Lsn(1), given.SYSTEM)
    state = replace(state, knowledge=replace(state.knowledge, primary=last))
    assert at(state, 10).writable == ("n1",)
    alone = fold(state, *seen_by_all(9.5, n2=theirs))
    assert at(alone, 10).writable == ("n2",), "better than nobody"


def test_several_none_or_an_isolated_look_make_no_sole_primary():
    one = fold(State(), *seen_by_all(9, n2=given.sight()))
    found = at(one, 10).sole_primary
    assert found is not None
    assert found.node == "n2"
    two = fold(one, *seen_by_all(9.5, n2=given.sight(), n3=given.sight()))
    assert at(two, 10).sole_primary is None
    assert at(fold(one, *seen_by_all(9.5)), 10).sole_primary is None


def test_two_names_of_one_server_are_no_sole_primary():
    same = given.sight(postmaster_started="at noon")
    twin = replace(same, in_recovery=True)
    state = fold(State(), *seen_by_all(9, n2=same, n3=twin))
    assert at(state, 10).writable == ("n2",)
    assert at(state, 10).sole_primary is None


def test_who_was_isolated_knows_no_sole_primary_until_all_were_asked_again():
    state = fold(State(), *seen_by_all(9, n2=given.sight()))
    for since_s, known in ((9.0, False), (8.9, True)):
        view = replace(state.view, isolated_s=since_s)
        found = at(replace(state, view=view), 10)
        assert (found.sole_primary is not None) is known
        assert found.looked_since_return("n2") is known


def test_a_majority_of_the_voters_or_isolation():
    state = fold(State(), *seen_by_all(7, n1=given.sight()))
    for channel in (SQL, Channel.AGENT):
        state = fold(state, *(miss("n2", second, channel) for second in (8, 9)))
    found = at(state, 10)
    assert found.nodes["n2"] is Look.UNSEEN
    assert (found.reachable, found.isolated) == ({"n1", "n3"}, False)
    for channel in (SQL, Channel.AGENT):
        state = fold(state, *(miss("n3", second, channel) for second in (8, 9)))
    found = at(state, 10)
    assert (found.reachable, found.isolated) == ({"n1"}, True)


def test_an_answer_is_made_once_for_each_name():
    found, made = at(State(), 1), []
    for name in ("a", "a", "b"):
        found.once(name, lambda name=name: made.append(name))
    assert made == ["a", "b"]


@pytest.mark.parametrize(
    ("sights", "primaries"),
    [
        ({"n1": given.sight(), "n2": given.sight(timeline=2)}, 2),
        ({"n1": given.sight(in_recovery=True)}, 0),
        ({"n1": given.sight()}, None),
    ],
)
def test_who_takes_writes_is_unknown_unless_it_is_one(sights, primaries):
    state = fold(State(), *seen_by_all(10, **sights))
    found = rules_other.unknown(at(state, 10.5), "cluster")
    assert (found and found.evidence["primaries"]) == primaries


@pytest.mark.parametrize(("age_s", "told"), [(30.0, True), (30.5, False)])
def test_a_split_that_has_ended_is_told_for_half_a_minute(age_s, told):
    proof = SplitProof("n1", "n2", "overlapping intervals", 10.0, {"ended": True})
    found = split_brain_past(at(given.state(proofs=(proof,)), 10.0 + age_s), "cluster")
    assert (found is not None) is told


def test_who_reads_one_of_two_disks_does_not_take_them_for_one_server():
    state = fold(given.state(server=given.facts()), *seen_by_all(10, n1=given.sight()))
    found = at(state, 10.5)
    assert found.facts("n1") is not None
    assert found.facts("n2") is None
    assert rules_other.one_server_twice(found, "n1|n2") is None
