"""Evidence as people read it: labels, units, lists, and nothing that is not known."""

import pytest

from agent.core.wording import facts, is_known, names, shown, way, words
from tests.core import given


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        # Labels: one of its own, else the name without its unit.
        ("losers", "n1,n2", ("would be resynced", "n1 and n2")),
        ("reason", "gone", ("reason", "gone")),
        ("restart_lsn", "0/10", ("restart LSN", "0/10")),
        ("lag_bytes", 7, ("lag", "7 bytes")),
        ("limit_s", 5.0, ("limit", "5.0 s")),
        ("waiting_for_s", 1.25, ("waiting for", "1.2 s")),
        # Figures, yes and no.
        ("past_fork_bytes", 768, ("WAL past the fork, at most", "768 bytes")),
        ("confirmed_by", 2, ("voters that see it nowhere", "2")),
        ("failing", "n1,n2", ("last attempt failed on", "n1 and n2")),
        ("failing", 2, ("how many of them that is", "2")),
        ("receivers", "pager", ("receivers that take nothing", "pager")),
        ("configured", 3, ("receivers there are", "3")),
        ("writable", True, ("its server accepts writes", "yes")),
        ("writable", False, ("its server accepts writes", "no")),
        # Words of their own.
        ("direction", "n1>n2", ("what is broken", "n1 does not see n2")),
        (
            "winner_rule",
            "highest-timeline",
            ("who is kept follows from", "the highest timeline"),
        ),
        ("winner_rule", "dice", ("who is kept follows from", "dice")),
        # A text that only looks like a list is none.
        ("reason", "a,b", ("reason", "a,b")),
    ],
)
def test_a_piece_of_evidence_is_a_label_and_a_text(name, value, line):
    assert facts({name: value}) == (line,)


def test_what_is_not_known_is_no_line():
    evidence = {"first": "n1", "winner": None, "fork_timeline": "?", "losers": ""}
    assert facts(evidence) == (("one side", "n1"),)


@pytest.mark.parametrize(
    ("value", "known"),
    [(None, False), ("", False), ("?", False), (0, True), (False, True), ("n1", True)],
)
def test_nothing_and_a_question_mark_say_nothing(value, known):
    assert is_known(value) is known


@pytest.mark.parametrize(
    ("joined", "told"),
    [("n1", "n1"), ("n1, n2", "n1 and n2"), ("n1,n2,n3", "n1, n2 and n3")],
)
def test_names_are_joined_as_in_speech(joined, told):
    assert names(joined) == told


def test_figures_in_a_sentence_stand_as_they_are():
    assert shown("waiting", 3) == "3"
    assert shown("tips", "n1,n2") == "n1 and n2"


def test_one_way_and_both_ways_of_a_link():
    assert way("n2>n1") == "n2 does not see n1"
    assert way("n1>n2,n2>n1") == "n1 and n2 do not see each other"


def test_a_text_gets_its_subject_and_a_name_for_what_is_missing():
    told = words(given.verdict(subject="n1|n2"))
    assert (told["subject"], told["pair"]) == ("n1|n2", "n1 and n2")
    assert told["fork_lsn"] == "an unknown fork lsn"
