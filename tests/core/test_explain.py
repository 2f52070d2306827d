"""What people read: every verdict has a meaning, a sentence and a next step."""

import re
from dataclasses import replace

import pytest

from agent.core import explain, manual, wording
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.verdict import VerdictCode
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_incidents import ROWS, Life, said
from tests.core.test_rows import split

POLICY = given.policy()


@pytest.mark.parametrize("code", list(VerdictCode))
def test_every_verdict_has_a_meaning(code):
    assert re.fullmatch(r"[A-Z][^\n]{10,160}\.", explain.meaning(code))


@pytest.mark.parametrize("number", list(ROWS))
def test_no_next_step_goes_in_a_circle_or_forbids_without_a_way(number):
    verdict = said(number, "n1|n2" if ROWS[number].scope == "pairs" else "n1")
    general = manual.entry(verdict.code)
    steps = dict(general.row_steps).values()
    for told in (next_step(verdict), general.next_step, *steps):
        assert "splitguard status" not in told, "status shows this very step"
        if re.search(r"[Dd]o not (resync|start)", told):
            assert "splitguard resync" in told
            assert "splitguard guard permit" in told
        assert "an unknown way back" not in told


def test_the_way_back_names_the_one_that_it_is_about():
    losing = {"winner": "n2", "losers": "n1", "first": "n2"}
    assert "`splitguard resync n1` on n1" in next_step(said(505, **losing))
    both = {**losing, "losers": "n1,n3"}
    assert "`splitguard resync NODE` on each" in next_step(said(505, **both))
    assert "`splitguard resync n1` on n1" in next_step(said(601, "n1"))
    undecided = {"winner": None, "losers": "n1,n2"}
    assert "`splitguard resync NODE` on it" in next_step(said(501, **undecided))


def test_after_a_pin_the_step_says_who_is_kept_and_two_pins_are_to_be_settled():
    pinned = {"winner": "n2", "losers": "n1", "pinned_by": "ann"}
    step = next_step(said(501, **pinned))
    assert step.startswith("n2 is kept, as ann has decided: stop clients from")
    assert "Decide" not in step
    disputed = {**pinned, "pins_disputed": "ann: n2; bob: n1"}
    assert next_step(said(501, **disputed)).startswith("Two pins exclude each other")


def test_twins_that_pages_tell_apart_are_not_to_be_cloned_before_they_are_read():
    losing = {"winner": "n1", "first": "n1", "losers": "n2,n3", "second_timeline": 1}
    told = said(503, **losing, page_lsn="0/1724000", fork_lsn="0/171C000")
    sentence = explain.sentence(told, POLICY)
    assert "the page at 0/1724000 differs" in sentence
    assert "n2 and n3 hold writes that n1 does not have" in sentence
    assert next_step(told).startswith("Do not re-clone n2 and n3 before")
    assert "`splitguard resync NODE` on each" in next_step(told)
    other = said(503, **losing, page_lsn=None, fork_lsn="0/171C000")
    assert "page" not in explain.sentence(other, POLICY)
    assert next_step(other).startswith("Do not start n2 and n3 as a standby")


@pytest.mark.parametrize("number", list(ROWS))
def test_a_verdict_without_evidence_still_reads(number):
    verdict = said(number, "n1|n2" if ROWS[number].scope == "pairs" else "n1")
    for text in (explain.sentence(verdict, POLICY), next_step(verdict)):
        assert 8 < len(text) < 500
        assert "None" not in text
        assert "{" not in text


@pytest.mark.parametrize(
    ("number", "evidence", "sentence"),
    [
        (
            903,
            {"primary": "n1", "nodes": 3},
            "All 3 nodes answer, and n1 is the primary.",
        ),
        (903, {"primary": None, "nodes": 2}, "All 2 nodes answer."),
        (
            901,
            {"starting": True},
            "This agent has just started and has not looked at every node yet.",
        ),
        (
            901,
            {"not_seen": "n3/agent,n3/manager", "not_read": "n3", "primaries": 0},
            (
                "Not everything is known: no fresh answer from n3/agent and "
                "n3/manager; PostgreSQL could not be read on n3; 0 nodes accept writes."
            ),
        ),
        (901, {"primaries": 1}, "Not everything is known: no reason given."),
        (
            101,
            {
                "reachable": 1,
                "voters": 3,
                "missing": "n2,n3",
                "writable": True,
                "since_age_s": 3.2,
            },
            (
                "The agent on n1 sees 1 of 3 voters, itself included, which is no "
                "majority; it misses n2 and n3; the last sign of life came 3 s before. "
                "Its server accepts writes."
            ),
        ),
        (
            201,
            {"confirmed_by": 2, "voters": 3},
            "n1 is down: 2 of 3 voters have looked and see it on no channel.",
        ),
        (
            203,
            {"confirmed_by": 1, "voters": 3},
            (
                "n1 cannot be reached: 1 of 3 voters see it on no channel, and 2 would "
                "be needed to call it down. It may be cut off and still accept writes."
            ),
        ),
        (
            205,
            {"reason": "refused", "answers_on": "agent"},
            "PostgreSQL on n1 answers nobody (refused); the node answers on agent.",
        ),
        (
            211,
            {"replication_seen_by": "n2"},
            "n1 missed its last probe; replication on n2 shows that it lives.",
        ),
        (
            401,
            {
                "from": "n1",
                "to": "n2",
                "from_timeline": 1,
                "to_timeline": 2,
                "switch_lsn": "0/1300",
                "not_replicated_bytes": 256,
                "old_seen": False,
            },
            (
                "The primary moved from n1 (timeline 1) to n2 (timeline 2) at 0/1300; "
                "at least 256 bytes of n1 were not replicated. If n1 is only cut off, "
                "it may still accept writes."
            ),
        ),
        (
            401,
            {
                "from": "n1",
                "to": "n2",
                "from_timeline": 1,
                "to_timeline": 2,
                "old_seen": True,
            },
            "The primary moved from n1 (timeline 1) to n2 (timeline 2).",
        ),
        (
            409,
            {
                "timeline": 1,
                "end_lsn": "0/1000",
                "reached_timeline": 1,
                "reached_lsn": "0/2000",
                "seen_on": "n1",
                "lacking_bytes": 4096,
                "held_by": "n2,n3",
            },
            (
                "n1 accepts writes on timeline 1 at 0/1000, as if it was set back: "
                "that timeline was seen to reach 0/2000 on n1. 4096 bytes of WAL are "
                "missing. n2 and n3 held them last."
            ),
        ),
        (
            411,
            {
                "timeline": 2,
                "end_lsn": "0/1800",
                "reached_timeline": 1,
                "reached_lsn": "0/2000",
                "seen_on": "n1",
                "lacking_bytes": 2048,
                "held_by": "",
            },
            (
                "n1 accepts writes on timeline 2, which left timeline 1 at 0/1800: "
                "that one was seen to reach 0/2000 on n1. 2048 bytes of WAL are "
                "missing."
            ),
        ),
        (
            509,
            {"first": "n1", "first_timeline": 1, "cut_off_from": "n2,n3"},
            (
                "n1 (timeline 1) accepts writes and is cut off from n2 and n3, where "
                "there may be another primary."
            ),
        ),
        (
            513,
            {"first": "n2", "second": "n1", "manager_says": "active"},
            (
                "n2 is the primary, but the manager on n1 says that it is active, and "
                "nobody can read the PostgreSQL beside it."
            ),
        ),
        (
            511,
            {"first": "n1", "second": "n2", "read_by": "n3"},
            (
                "n1 and n2 were both read as accepting writes (by n3); the proof is "
                "still missing."
            ),
        ),
        (
            501,
            {
                "first": "n1",
                "second": "n2",
                "first_timeline": 1,
                "second_timeline": 2,
                "method": "three readings",
                "fork_timeline": "1",
                "winner": None,
            },
            (
                "n1 (timeline 1) and n2 (timeline 2) accepted writes at once, proven "
                "by three readings; they parted on timeline 1. Nobody can tell which "
                "side will be kept."
            ),
        ),
        (
            501,
            {
                "first": "n1",
                "second": "n2",
                "first_timeline": None,
                "second_timeline": 2,
                "method": "three readings",
                "fork_timeline": "?",
                "winner": None,
                "winner_rule": "newest-commit",
            },
            (
                "n1 and n2 (timeline 2) accepted writes at once, proven by three "
                "readings; where they parted is not known yet. Nobody can tell which "
                "side will be kept: the newest commit decides."
            ),
        ),
        (
            505,
            {
                "first": "n1",
                "losers": "n2,n3",
                "past_fork_bytes": 4096,
                "fork_lsn": "0/1000",
                "fork_timeline": "1",
            },
            (
                "n2 and n3 hold writes that n1 does not have: up to 4096 bytes of WAL "
                "past the fork at 0/1000 on timeline 1."
            ),
        ),
    ],
)
def test_sentences_say_who_and_what(number, evidence, sentence):
    assert explain.sentence(said(number, "n1", **evidence), POLICY) == sentence


def test_the_next_step_after_a_failover_names_both_nodes():
    text = next_step(said(401, **{"from": "n1", "to": "n2"}))
    assert "clients follow to n2" in text
    assert "Do not resync n1" in text


def test_a_next_step_names_the_incident_where_it_is_known():
    verdict = said(401, **{"from": "n1", "to": "n2"})
    assert "`splitguard incidents ack ID`" in next_step(verdict)
    named = next_step(verdict, "inc-1")
    assert "`splitguard incidents ack inc-1`" in named


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("n1>n2", "n1 does not see n2 (on agent and postgres)"),
        ("n1>n2,n2>n1", "n1 and n2 do not see each other (on agent and postgres)"),
    ],
)
def test_a_broken_link_says_who_does_not_see_whom(direction, words):
    verdict = said(301, "n1|n2", direction=direction, channels="agent,postgres")
    assert explain.sentence(verdict, POLICY) == (
        f"The link between n1 and n2 is down: {words}; others see both."
    )


def test_evidence_reads_as_words_and_leaves_out_what_is_not_known():
    evidence = {
        "first": "n1",
        "second": None,
        "reason": "",
        "fork_timeline": "?",
        "direction": "n2>n1",
        "cut_off_from": "n2,n3,n4",
        "writable": True,
        "old_seen": False,
        "overlap_s": 5.1404,
        "past_fork_bytes": 4096,
        "winner_rule": "only",
        "replay_lsn": "0/1000",
        "voters": 3,
    }
    assert dict(wording.facts(evidence)) == {
        "one side": "n1",
        "what is broken": "n2 does not see n1",
        "cut off from": "n2, n3 and n4",
        "its server accepts writes": "yes",
        "old primary known to take no writes": "no",
        "both took writes for at least": "5.1 s",
        "WAL past the fork, at most": "4096 bytes",
        "who is kept follows from": "its being the only one that accepts writes",
        "replay LSN": "0/1000",
        "voters": "3",
    }


def test_a_real_split_reads_from_beginning_to_end():
    cluster = split()
    cluster.run(2)
    agent = cluster.agents["n1"]
    incident = cluster.incident("n1", "split")
    story = explain.incident_story(incident, agent.policy)
    assert story[0].startswith("First seen: n1 (timeline 1) accepts writes")
    assert "at 0/1000. n2 will probably be kept." in story[1]
    assert story[-1].startswith("Next: Decide which side is kept")
    assert len(set(story)) == len(story)
    assert len(incident.history) > len(story) - 1


def test_a_stage_that_only_its_evidence_tells_apart_is_told_too():
    life = Life()
    life.at(1, said(401, **{"from": "n1", "to": "n2", "to_timeline": 2}))
    life.at(2, said(401, **{"from": "n2", "to": "n1", "to_timeline": 3}))
    story = explain.incident_story(life.only, POLICY)
    assert "from n1 to n2 (timeline 2)" in story[0]
    assert story[1].startswith("Then: The primary moved from n2 to n1 (timeline 3)")


def test_a_story_says_who_took_it_and_that_it_is_over():
    life = Life()
    life.at(1, said(201, "n3", confirmed_by=2, voters=3))
    taken = replace(life.only, status=Status.ACKNOWLEDGED, acknowledged_by="ann")
    assert "ann has taken it." in explain.incident_story(taken, POLICY)
    life.at(2)
    life.at(8)
    story = explain.incident_story(life.only, POLICY)
    assert story[0].startswith("First seen: n3 is down")
    assert story[-1] == "It is over."
    assert len(story) == 2


def test_an_incident_without_a_history_tells_its_verdict():
    story = explain.incident_story(given.incident(), POLICY)
    assert story[0].startswith("an unknown first")


def test_everything_a_healthy_cluster_says_can_be_read():
    cluster = Cluster()
    cluster.run(2)
    (said_now,) = cluster.agents["n1"].state.view.verdicts
    assert explain.sentence(said_now, POLICY) == (
        "All 3 nodes answer, and n1 is the primary."
    )


def test_who_was_resynced_first_is_not_forgotten_in_what_was_seen_last():
    life, losing = Life(), {"first": "n1", "winner": "n1", "past_fork_bytes": 5}
    life.at(1, said(505, losers="n2,n3", tips="n1,n2", **losing))
    life.at(3, said(505, losers="n2,n3", tips="n1,n2", **losing))
    assert "before" not in explain.incident_sentence(life.only, POLICY)
    life.at(5, said(505, losers="n3", tips="n1,n3", **losing))
    told = explain.incident_sentence(life.only, POLICY)
    assert told.startswith("n3 holds writes that n1 does not have")
    assert told.endswith(" n2 held such writes before.")
