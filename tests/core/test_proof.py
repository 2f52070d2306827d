"""A split brain is proven by readings that exclude every other story."""

from dataclasses import replace

import pytest

from agent.core import proof, view
from agent.core.action import AskAgain
from agent.core.event import Observed, ServerRead, Ticked
from agent.core.moment import Moment
from agent.core.observation import Channel, Heard, Outcome, Sight, WritableSpan
from agent.core.state import State
from tests.core import given
from tests.core.cluster import FINE, Cluster

POLICY = given.policy("n3")


def writable(node, sent_s, started=None, **more):
    more.setdefault("timeline", 2 if node == "n2" else 1)
    sight = given.sight(postmaster_started=started or f"{node} run 1", **more)
    return given.postgres(node, sight, sent_s)


def read(*observations, state=None, policy=POLICY):
    state = state or State()
    for seen in observations:
        event = Observed(given.at(seen.received_s), seen)
        state = view.fold(state, event, policy)
    return state


def standby(node, sent_s, **more):
    return writable(node, sent_s, in_recovery=True, **more)


PROVEN = (writable("n1", 1.0), writable("n2", 1.1), writable("n1", 1.2))
"""Three readings that are a proof."""


@pytest.mark.fact("lone-promotion")
def test_three_readings_that_do_not_overlap_prove_it():
    state = read(*PROVEN)
    (found,) = state.view.proofs
    assert (found.first, found.second, found.method) == ("n1", "n2", "three readings")
    assert found.evidence["first_timeline"] == 1
    assert found.evidence["second_timeline"] == 2


@pytest.mark.parametrize(("received_s", "proven"), [(4.0, 1), (4.5, 0)])
def test_the_first_reading_counts_for_as_long_as_one_is_fresh(received_s, proven):
    last = replace(writable("n1", 3.5), received_s=received_s)
    state = read(writable("n1", 1.0), writable("n2", 2.0), last)
    assert POLICY.fresh_s == 3.0
    assert len(state.view.proofs) == proven


@pytest.mark.parametrize(
    ("story", "readings"),
    [
        ("two readings only", [writable("n1", 1.0), writable("n2", 1.1)]),
        (
            "a clean switchover",
            [writable("n1", 1.0), standby("n1", 1.1), writable("n2", 1.2)],
        ),
        (
            "there and back",
            [
                writable("n1", 1.0),
                standby("n1", 1.1, started="n1 run 2"),
                writable("n2", 1.2),
                standby("n2", 1.3, started="n2 run 2"),
                writable("n1", 1.4, started="n1 run 2"),
            ],
        ),
        (
            "restarted in between",
            [
                writable("n1", 1.0),
                writable("n2", 1.1),
                writable("n1", 1.2, started="n1 run 2"),
            ],
        ),
        (
            "promoted in between",
            [writable("n1", 1.0), writable("n2", 1.1), writable("n1", 1.2, timeline=3)],
        ),
        (
            "overlapping questions",
            [
                writable("n1", 1.0),
                replace(writable("n2", 1.0005), received_s=1.2),
                writable("n1", 1.1),
            ],
        ),
        (
            "the last question was sent before the answer came",
            [
                writable("n1", 1.0),
                replace(writable("n2", 1.1), received_s=1.5),
                writable("n1", 1.2),
            ],
        ),
        (
            "the first reading overlaps",
            [
                replace(writable("n1", 1.0), received_s=1.15),
                writable("n2", 1.1),
                writable("n1", 1.2),
            ],
        ),
        (
            "too old",
            [writable("n1", 1.0), writable("n2", 1.1), writable("n1", 9.2)],
        ),
        (
            "another system",
            [
                writable("n1", 1.0),
                writable("n2", 1.1, system_id="42"),
                writable("n1", 1.2),
            ],
        ),
        (
            "one server under two names",
            [
                writable("n1", 1.0, started="same", timeline=1),
                writable("n2", 1.1, started="same", timeline=1),
                writable("n1", 1.2, started="same", timeline=1),
            ],
        ),
    ],
)
def test_other_stories_prove_nothing(story, readings):
    assert read(*readings).view.proofs == (), story


def test_identities_from_the_disks_tell_servers_apart_and_names_together():
    def known(one, other, started):
        reports = (
            given.heard(
                "n1", given.report("n1", server=given.facts(identity=one)), 0.5
            ),
            given.heard(
                "n2", given.report("n2", server=given.facts(identity=other)), 0.5
            ),
        )
        readings = (
            writable("n1", 1.0, started="a"),
            writable("n2", 1.1, started=started),
            writable("n1", 1.2, started="a"),
        )
        return read(*reports, *readings).view.proofs

    assert known("boot:1", "boot:2", "b")
    assert not known("boot:1", "boot:1", "b")
    assert not known("boot:1", "boot:2", "a"), "an address leads to another's server"


def test_an_address_that_leads_elsewhere_makes_no_interval_of_this_server():
    policy = given.policy("n1")
    for disk, spans in (
        (given.facts(standby=True), 0),
        (given.facts(running=False), 0),
        (given.facts(), 1),
    ):
        state = view.fold(State(), ServerRead(given.at(0.5), disk), policy)
        state = read(writable("n1", 1.0), state=state, policy=policy)
        assert len(state.view.writable) == spans


def test_the_local_identity_is_read_from_the_own_disk():
    policy = given.policy("n1")
    event = ServerRead(given.at(0.5), given.facts(identity="boot:2"))
    state = view.fold(State(), event, policy)
    report = given.report("n2", server=given.facts(identity="boot:2"))
    state = read(given.heard("n2", report, 0.6), state=state, policy=policy)
    assert proof.same_server(state, "n1", "n2", policy)


def test_servers_of_which_nothing_was_read_are_not_taken_for_one():
    assert not proof.same_server(State(), "n1", "n2", POLICY)


def test_a_proof_is_kept_once_for_each_pair_of_runs():
    state = read(*(writable(n, 1 + i / 10) for i, n in enumerate(("n1", "n2") * 4)))
    assert len(state.view.proofs) == 1


@pytest.mark.parametrize(
    "after", [standby("n1", 2.0), writable("n1", 2.0, started="n1 run 2")]
)
def test_a_run_that_was_seen_to_end_lasts_no_longer(after):
    lasting = read(*PROVEN, writable("n1", 2.0), writable("n2", 2.1))
    assert [one.over for one in lasting.view.proofs] == [False]
    ended = read(*PROVEN, after)
    assert [one.over for one in ended.view.proofs] == [True]


def test_an_address_that_led_elsewhere_for_a_while_has_ended_nobodys_run():
    """Beside two primaries, n2's name was answered by the standby n3."""
    elsewhere = standby("n2", 2.0, started="n3 run 1")
    led_away = read(*PROVEN, elsewhere)
    assert [one.over for one in led_away.view.proofs] == [True]
    late = replace(writable("n2", 1.9), received_s=2.5)
    for seen in (writable("n1", 2.2), late, standby("n2", 2.3)):
        assert [one.over for one in read(seen, state=led_away).view.proofs] == [True]
    back = read(writable("n2", 3.0), state=led_away)
    assert [one.over for one in back.view.proofs] == [False]


def test_of_two_runs_that_have_ended_the_return_of_one_is_not_enough():
    ended = read(*PROVEN, standby("n1", 2.0), standby("n2", 2.1))
    back = read(writable("n2", 3.0), state=ended)
    assert [one.over for one in back.view.proofs] == [True]


def test_an_answer_that_is_known_to_be_of_another_node_ends_nobodys_run():
    known = read(*PROVEN, standby("n3", 1.5))
    led_away = read(standby("n2", 2.0, started="n3 run 1"), state=known)
    assert [one.over for one in led_away.view.proofs] == [False]
    gone = read(standby("n2", 3.0), state=led_away)
    assert [one.over for one in gone.view.proofs] == [True]


def test_an_answer_that_a_peer_had_ends_a_run_if_it_is_younger_than_the_proof():
    proven = read(*PROVEN)
    seen = standby("n1", 1.0).postgres

    def told(age_s):
        answer = Outcome.ANSWERED
        sight = Sight("n1", Channel.POSTGRES, answer, "", age_s, 0, seen, None)
        return given.heard("n2", given.report("n2", sights=(sight,)), 3.0)

    old = read(told(2.5), state=proven)
    assert [one.over for one in old.view.proofs] == [False]
    young = read(told(1.0), state=proven)
    assert [one.over for one in young.view.proofs] == [True]


def test_at_first_sight_of_a_second_primary_the_first_is_asked_again():
    before = read(writable("n1", 1.0))
    seen = writable("n2", 1.1)
    event = Observed(Moment(seen.received_s, 0.0), seen)
    after = view.fold(before, event, POLICY)
    asked = proof.questions(before, after, event, POLICY)
    assert asked == (AskAgain("n1", Channel.POSTGRES),)


def asked_by(seen, before):
    event = Observed(Moment(seen.received_s, 0.0), seen)
    after = view.fold(before, event, POLICY)
    return after, [one.node for one in proof.questions(before, after, event, POLICY)]


@pytest.mark.parametrize(
    ("second", "asked"),
    [(writable("n2", 1.5), "n1"), (writable("n1", 1.1), "n2")],
    ids=["what was asked is lost", "both were seen at one instant"],
)
def test_each_is_asked_after_the_other_answers_until_there_is_a_proof(second, asked):
    state, first = asked_by(writable("n2", 1.0), read(writable("n1", 1.0)))
    assert first == ["n1"]
    state, then = asked_by(second, state)
    assert then == [asked]
    state, last = asked_by(writable(asked, second.sent_s + 0.1), state)
    assert not last
    assert state.view.proofs


def test_a_question_that_is_sent_as_an_answer_comes_was_sent_after_it():
    first, second = writable("n1", 1.0), writable("n2", 1.001)
    third = writable("n1", second.received_s)
    assert first.received_s == second.sent_s
    assert read(first, second, third).view.proofs


@pytest.mark.parametrize(
    "second",
    [
        {"system_id": "42"},
        {"started": "n1 run 1", "timeline": 1},
    ],
)
def test_what_asking_again_cannot_prove_is_not_asked_again(second):
    state = read(writable("n1", 1.0), writable("n2", 1.1, **second))
    assert asked_by(writable("n1", 2.0), state)[1] == []
    assert asked_by(writable("n2", 2.0, **second), state)[1] == []


def test_who_is_in_a_proof_that_stands_is_not_asked_for_another():
    """Else five writable nodes, of more pairs than are kept, are asked for ever."""
    two = read(*PROVEN)
    three = read(writable("n3", 1.3), state=two)
    assert asked_by(writable("n3", 1.5), three)[1] == []


@pytest.mark.parametrize("seen", [standby("n2", 1.1), writable("n2", 9.0)])
def test_nothing_is_asked_without_a_fresh_second_primary(seen):
    before = read(writable("n1", 1.0))
    event = Observed(Moment(seen.received_s, 0.0), seen)
    after = view.fold(before, event, POLICY)
    assert proof.questions(before, after, event, POLICY) == ()


def test_old_news_and_ticks_raise_no_question():
    before = read(writable("n1", 1.0), writable("n2", 1.1))
    late = Observed(Moment(1.2, 0.0), writable("n2", 1.05))
    assert proof.questions(before, before, late, POLICY) == ()
    assert proof.questions(before, before, Ticked(given.at(2), FINE), POLICY) == ()


def test_a_split_is_proven_in_the_round_in_which_it_becomes_visible():
    cluster = Cluster()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.run(3)
    cluster.heal()
    cluster.run(1)
    assert "split-brain" in cluster.codes("n1")
    assert AskAgain("n1", Channel.POSTGRES) in cluster.agents["n1"].actions


# --- intervals -------------------------------------------------------------------


def test_a_run_out_of_recovery_is_one_interval_from_first_to_last():
    state = read(writable("n1", 1), writable("n1", 2), writable("n1", 3))
    (span,) = state.view.writable
    assert (span.first_s, span.last_s) == (1.001, 3)


def test_recovery_a_restart_or_a_promotion_begins_another_interval():
    state = read(
        writable("n1", 1),
        standby("n1", 2),
        writable("n1", 3),
        writable("n1", 4, started="n1 run 2"),
        writable("n1", 5, started="n1 run 2", timeline=2),
    )
    assert [span.first_s for span in state.view.writable] == [3.001, 4.001, 5.001]


@pytest.mark.parametrize("behind", [{"standby": True}, {"running": False, "end": 1}])
def test_an_interval_never_goes_on_in_another_run(behind):
    """Promoted, or started, a moment ago: the disk that was read before denies it yet.

    What lies between two runs was the reign of another node.
    """
    me, state = given.policy("n1"), State()
    state = read(writable("n1", 1), writable("n1", 5), state=state, policy=me)
    disk = ServerRead(given.at(99.9), given.facts(**behind))
    state = view.fold(state, disk, me)
    again = [writable("n1", at_s, started="n1 run 2") for at_s in (100, 101, 102)]
    state = read(again[0], state=state, policy=me)
    state = view.fold(state, ServerRead(given.at(100.9), given.facts()), me)
    state = read(*again[1:], state=state, policy=me)
    assert [
        (one.postmaster_started, one.first_s, one.last_s) for one in state.view.writable
    ] == [("n1 run 1", 1.001, 5), ("n1 run 2", 101.001, 102)]


def test_old_intervals_and_proofs_are_dropped():
    state = read(*PROVEN)
    kept = proof.trimmed(state.view, given.at(1000))
    assert kept.writable
    assert kept.proofs
    half = proof.trimmed(state.view, given.at(1 + proof.SPAN_KEPT_S + 1))
    assert half.writable == ()
    assert half.proofs
    assert proof.trimmed(state.view, given.at(2 + proof.PROOF_KEPT_S)).proofs == ()


def test_of_each_node_the_latest_readings_and_intervals_are_kept():
    state = read(*(writable("n1", second) for second in range(1, 9)))
    assert [one.sent_s for one in state.view.readings] == [5, 6, 7, 8]
    runs = [writable("n1", n, started=f"run {n}") for n in range(1, 6)]
    state = read(writable("n2", 0.5), *runs)
    assert [(one.node, one.first_s) for one in state.view.writable] == [
        ("n2", 0.501),
        ("n1", 3.001),
        ("n1", 4.001),
        ("n1", 5.001),
    ]


def test_the_latest_proofs_are_kept():
    seen = [
        writable(node, run + step / 10, started=f"{node} run {run}")
        for run in range(1, 12)
        for step, node in enumerate(("n1", "n2", "n1"))
    ]
    proofs = read(*seen).view.proofs
    assert [one.evidence["first_started"] for one in proofs] == [
        f"n1 run {run}" for run in range(4, 12)
    ]


def test_intervals_and_proofs_are_kept_to_the_second():
    state = read(*PROVEN)
    ends = {one.node: one.last_s for one in state.view.writable}
    proven_s = state.view.proofs[0].proven_s
    kept = proof.trimmed(state.view, given.at(ends["n2"] + proof.SPAN_KEPT_S))
    assert [one.node for one in kept.writable] == ["n2", "n1"]
    kept = proof.trimmed(state.view, given.at(proven_s + proof.PROOF_KEPT_S))
    assert len(kept.proofs) == 1


def test_an_answer_that_came_before_a_later_one_shortens_no_interval():
    state = read(writable("n1", 1), writable("n1", 5))
    late = replace(writable("n1", 5), sent_s=5, received_s=5.5)
    assert read(late, state=state).view.writable[0].last_s == 5


ME = given.policy("n1")


def after_the_cut(*, spans, heard_age_s, mine=(10, 100), sequence=10, **told):
    """n1 was writable from 10 to 100, made report k at k, and now hears n2."""
    state = State()
    for second in range(1, 101):
        state = view.fold(state, Ticked(given.at(second), FINE), ME)
        if mine[0] <= second <= mine[1]:
            state = read(writable("n1", second + 0.1), state=state, policy=ME)
    state = replace(state, view=replace(state.view, boot_id="boot-n1"))
    sight = Sight("n2", Channel.POSTGRES, Outcome.ANSWERED, "", 0.1, 0,
                  writable("n2", 0).postgres, None)  # fmt: skip
    heard = Heard("n1", told.get("boot", "boot-n1"), sequence, heard_age_s, 0.01)
    report = given.report(
        "n2",
        sights=told.get("sights", (sight,)),
        heard=told.get("heard", (Heard("n3", "x", 1, 0, 0), heard)),
        writable=tuple(WritableSpan(*span) for span in spans),
        server=told.get("server"),
    )
    return read(given.heard("n2", report, 101), state=state, policy=ME).view.proofs


def test_intervals_that_overlap_by_more_than_the_doubt_prove_it():
    (found,) = after_the_cut(spans=[(60, 0)], heard_age_s=90)
    assert found.method == "overlapping intervals"
    assert (found.first, found.second) == ("n1", "n2")
    # From 40 to 100, less a round, a round trip, and 1 % of 30 s and of 90 s.
    assert found.evidence["overlap_s"] == pytest.approx(60 - 1.01 - 0.3 - 0.9, abs=0.1)
    assert not found.evidence["ended"]


def test_a_run_that_ended_before_the_heal_is_said_to_have_ended():
    (found,) = after_the_cut(spans=[(60, 30)], heard_age_s=90)
    assert found.evidence["ended"]


def test_a_run_that_was_followed_by_another_one_is_not_named_after_it():
    """n2 was restarted after the overlap, and writes again."""
    (found,) = after_the_cut(spans=[(60, 30), (0.5, 0)], heard_age_s=90)
    assert found.evidence["second_started"] == ""
    assert found.evidence["ended"]
    (found,) = after_the_cut(spans=[(80, 70), (60, 0)], heard_age_s=65)
    assert found.evidence["second_started"] == "n2 run 1"


def test_a_run_that_was_followed_by_one_that_the_disk_does_not_show_yet_has_ended():
    stopped = given.facts(running=False, end=1)
    (found,) = after_the_cut(spans=[(60, 1)], heard_age_s=90, server=stopped)
    assert found.evidence["second_started"] == ""
    assert found.evidence["ended"]


def test_a_run_that_was_followed_by_a_standby_is_not_named_after_it():
    standby = replace(writable("n2", 0).postgres, in_recovery=True)
    told = Sight("n2", Channel.POSTGRES, Outcome.ANSWERED, "", 0.1, 0, standby, None)
    (found,) = after_the_cut(spans=[(60, 1)], heard_age_s=90, sights=(told,))
    assert found.evidence["second_started"] == ""
    assert found.evidence["ended"]


@pytest.mark.parametrize(
    ("why", "arguments"),
    [
        ("the peer was writable only afterwards", {"spans": [(0.5, 0)]}),
        ("the overlap is within the doubt", {"spans": [(81, 79)], "mine": (21, 100)}),
        ("the peer was never writable", {"spans": []}),
        ("the local server was never writable", {"spans": [(60, 0)], "mine": (0, 0)}),
        ("an exchange of another boot", {"spans": [(60, 0)], "boot": "boot-0"}),
        ("an exchange that is forgotten", {"spans": [(60, 0)], "sequence": 5000}),
        ("no exchange", {"spans": [(60, 0)], "heard": ()}),
    ],
)
def test_intervals_prove_nothing_when(why, arguments):
    if why == "the peer was writable only afterwards":
        arguments["mine"] = (10, 60)
    assert after_the_cut(heard_age_s=90, **arguments) == (), why


def test_a_peer_whose_server_cannot_be_read_still_counts_by_its_interval():
    (found,) = after_the_cut(spans=[(60, 0)], heard_age_s=90, sights=())
    assert found.evidence["second_timeline"] is None


def test_the_time_of_a_server_that_was_of_another_system_proves_nothing():
    """It was set up anew, alone and writable, and then became a copy of n1."""
    assert after_the_cut(spans=[(60, 0, "42")], heard_age_s=90) == ()
    (found,) = after_the_cut(spans=[(60, 0, given.SYSTEM)], heard_age_s=90)
    assert (found.first, found.second) == ("n1", "n2")


def test_a_run_is_proven_against_a_peer_only_once():
    state = State()
    for second in range(1, 50):
        state = view.fold(state, Ticked(given.at(second), FINE), ME)
        state = read(writable("n1", second + 0.1), state=state, policy=ME)
    state = replace(state, view=replace(state.view, boot_id="boot-n1"))
    report = given.report(
        "n2",
        heard=(Heard("n1", "boot-n1", 10, 41, 0.01),),
        writable=(WritableSpan(31, 0),),
    )
    for second in (51, 52):
        state = read(given.heard("n2", report, second), state=state, policy=ME)
    assert len(state.view.proofs) == 1
    other = replace(state.view.proofs[0], second="n3")
    later = replace(state, view=replace(state.view, proofs=(other,)))
    after = read(given.heard("n2", report, 60), state=later, policy=ME)
    assert len(after.view.proofs) == 2
