"""Majorities count all voters, and "never" is another answer than "not yet"."""

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core.quorum import Vote, majority, tally

NAMES = st.frozensets(st.sampled_from("abcdefg"))


@pytest.mark.parametrize(
    ("voters", "ayes", "able", "vote"),
    [
        ("abc", "a", "ab", Vote.PENDING),
        ("abc", "ab", "ab", Vote.WON),
        ("abc", "a", "a", Vote.LOST),
        ("ab", "a", "a", Vote.LOST),
        ("abcd", "ab", "abc", Vote.PENDING),
        ("abcd", "abc", "abc", Vote.WON),
        ("abc", "ax", "ay", Vote.LOST),
        ("", "", "", Vote.LOST),
    ],
)
def test_more_than_half_of_all_voters_win(voters, ayes, able, vote):
    found = tally(frozenset(voters), frozenset(ayes), frozenset(able))
    assert found.vote is vote


@over(NAMES, NAMES, NAMES, st.sampled_from("abcdefg"))
def test_one_more_aye_never_loses_a_vote(voters, ayes, able, name):
    before = tally(voters, ayes, able)
    after = tally(voters, ayes | {name}, able)
    assert after.ayes >= before.ayes
    assert not (before.vote is Vote.WON and after.vote is not Vote.WON)


@over(NAMES, NAMES)
def test_two_sides_never_both_win(voters, side):
    other = voters - side
    wins = [tally(voters, one, frozenset()).vote is Vote.WON for one in (side, other)]
    assert not all(wins)


@over(st.integers(1, 99))
def test_a_majority_is_more_than_half_and_the_least_such_number(voters):
    assert majority(voters) * 2 > voters >= (majority(voters) - 1) * 2
