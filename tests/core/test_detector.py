"""Signs of life: what a channel's readings, and replication, are taken for."""

from dataclasses import replace

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core import detector
from agent.core.detector import Look
from agent.core.observation import Channel, Outcome, Sender
from agent.core.policy import NodeSpec, Policy
from agent.core.state import Mark, View
from tests.core import given

POLICY = given.policy()


@pytest.mark.parametrize(
    ("missed", "age_s", "look"),
    [
        (0, 0.0, Look.SEEN),
        (0, 3.0, Look.SEEN),
        (0, 3.1, Look.UNKNOWN),
        (1, 1.0, Look.SUSPECT),
        (2, 1.0, Look.UNSEEN),
        (9, 3.1, Look.UNKNOWN),
    ],
)
def test_misses_and_age_decide(missed, age_s, look):
    assert detector.judge(missed, age_s, POLICY, 2) is look


@over(st.integers(0, 9), st.integers(0, 9), st.floats(0, 9))
def test_more_misses_never_look_better(few, more, age_s):
    order = [Look.SEEN, Look.SUSPECT, Look.UNSEEN]
    looks = [detector.judge(n, age_s, POLICY, 2) for n in sorted((few, more))]
    if Look.UNKNOWN not in looks:
        assert order.index(looks[0]) <= order.index(looks[1])


@pytest.mark.parametrize(
    ("looks", "together"),
    [
        ("", Look.UNKNOWN),
        ("seen unseen", Look.SEEN),
        ("seen unknown", Look.SEEN),
        ("unseen unknown", Look.UNKNOWN),
        ("unseen suspect", Look.SUSPECT),
        ("suspect", Look.SUSPECT),
        ("unseen unseen", Look.UNSEEN),
    ],
)
def test_one_sign_of_life_is_enough_for_a_node(looks, together):
    assert detector.together([Look(one) for one in looks.split()]) is together


def test_what_was_never_asked_is_unknown():
    assert (
        detector.look(View(), "n2", Channel.AGENT, given.at(5), POLICY) is Look.UNKNOWN
    )


def test_an_agent_does_not_ask_itself():
    nodes = (NodeSpec("n1", True, True), NodeSpec("w1", False, False))
    policy = Policy("test", "n1", nodes)
    assert detector.channels(policy, "n1") == (Channel.POSTGRES, Channel.MANAGER)
    assert detector.channels(policy, "w1") == (Channel.AGENT,)


def test_a_refusal_is_a_sign_of_life():
    assert Outcome.REFUSED.alive
    assert Outcome.GARBLED.alive
    assert not Outcome.TIMED_OUT.alive


# --- replication -----------------------------------------------------------------


def sender(mark, name="n3"):
    return Sender(name, "streaming", "async", None, mark)


def reading(sent_s, **sight):
    return given.postgres("n1", given.sight(**sight), sent_s)


def marks(*readings, policy=POLICY):
    view = View()
    for one in readings:
        view = replace(view, marks=detector.marks_after(view, one, policy))
    return view


@pytest.mark.fact("reply-clock")
def test_a_changed_reply_testifies_for_the_standby_for_two_rounds():
    view = marks(
        reading(10, senders=(sender("a"),)), reading(11, senders=(sender("b"),))
    )
    assert detector.replication_lives(view, "n3", given.at(12), POLICY) == "n1"
    assert detector.replication_lives(view, "n3", given.at(13.5), POLICY) is None
    assert detector.replication_lives(view, "n2", given.at(12), POLICY) is None


@pytest.mark.parametrize(
    ("seconds", "witness"), [(10.9, None), (11, "n1"), (13, "n1"), (13.1, None)]
)
def test_a_change_testifies_from_when_it_was_read(seconds, witness):
    view = View(marks={"n1>n3": Mark("b", given.at(11).monotonic_s, 11.0)})
    found = detector.replication_lives(view, "n3", given.at(seconds), POLICY)
    assert found == witness


def test_a_silent_witness_does_not_hide_one_that_testifies():
    view = View(
        marks={
            "n1>n2": Mark("x", 11.0, 11.0),
            "n1>n3": Mark("a", None, 11.0),
            "n2>n3": Mark("b", 11.0, 11.0),
        }
    )
    assert detector.replication_lives(view, "n3", given.at(12), POLICY) == "n2"


def test_an_unchanged_mark_keeps_the_date_of_its_last_change():
    view = marks(
        reading(10, senders=(sender("a"),)),
        reading(11, senders=(sender("b"),)),
        reading(12, senders=(sender("b"),)),
    )
    assert view.marks["n1>n3"] == Mark("b", 11.001, 12.001)


@pytest.mark.fact("idle-ages")
def test_the_first_reading_and_an_unchanged_one_testify_for_nothing():
    view = marks(
        reading(10, senders=(sender("a"),)), reading(11, senders=(sender("a"),))
    )
    assert detector.replication_lives(view, "n3", given.at(11), POLICY) is None


def test_a_change_over_a_gap_cannot_be_dated():
    view = marks(
        reading(10, senders=(sender("a"),)), reading(20, senders=(sender("b"),))
    )
    assert view.marks["n1>n3"] == Mark("b", None, 20.001)
    just = marks(
        reading(10, senders=(sender("a"),)), reading(13, senders=(sender("b"),))
    )
    assert just.marks["n1>n3"].changed_s == 13.001


def test_a_receiver_testifies_for_the_server_that_it_streams_from():
    nodes = (
        NodeSpec("n1", True, False),
        NodeSpec("n2", True, False, upstreams=("h:1",)),
    )
    policy = Policy("test", "n1", nodes)
    more = {"in_recovery": True, "upstream": "h:1"}
    view = marks(
        reading(10, receiver_mark="a", **more),
        reading(11, receiver_mark="b", **more),
        policy=policy,
    )
    assert detector.replication_lives(view, "n2", given.at(11.5), policy) == "n1"
    assert set(view.marks) == {"n1>n2"}


@pytest.mark.parametrize(
    "seen",
    [
        {"upstream": "h:1", "receiver_mark": None},
        {"upstream": None, "receiver_mark": "a"},
        {"upstream": "h:9", "receiver_mark": "a"},
        {"upstream": "h:0", "receiver_mark": "a"},
    ],
)
def test_a_receiver_without_a_known_other_server_testifies_for_nobody(seen):
    nodes = (
        NodeSpec("n1", True, False, upstreams=("h:0",)),
        NodeSpec("n2", True, False, upstreams=("h:1",)),
    )
    policy = Policy("test", "n1", nodes)
    view = marks(reading(10, in_recovery=True, **seen), policy=policy)
    assert view.marks == {}


def test_strangers_and_oneself_testify_for_nobody():
    view = marks(reading(10, senders=(sender("a", "walreceiver"), sender("a", "n1"))))
    assert view.marks == {}


def test_a_probe_that_is_no_sql_shows_no_replication():
    view = View()
    seen = given.heard("n2", given.report("n2"), 1.0)
    assert detector.marks_after(view, seen, POLICY) is view.marks
