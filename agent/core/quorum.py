"""Majorities: set arithmetic and nothing else.

Theory of operation. The voters are fixed by configuration; this agent and the
subject of a vote stand in the denominator. A vote is won, pending, or lost: "not
yet" and "never, as things are" are different answers, because two voters can never
confirm a death and must say so at once.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum


class Vote(StrEnum):
    """How a vote stands."""

    WON = "won"
    PENDING = "pending"
    LOST = "lost"
    """Those who can still be heard are too few to win it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A vote with the numbers behind it."""

    vote: Vote
    ayes: int
    able: int
    """Voters who have said aye, or still may."""
    voters: int


def majority(voters: int) -> int:
    """Return how many are more than half of `voters`."""
    return voters // 2 + 1


def tally(
    voters: AbstractSet[str], ayes: AbstractSet[str], able: AbstractSet[str]
) -> Tally:
    """Return how the vote stands; who is no voter counts nowhere.

    Every aye is able.
    """
    needed = majority(len(voters))
    said = voters & ayes
    may = voters & (able | ayes)
    if len(said) >= needed:
        vote = Vote.WON
    elif len(may) >= needed:
        vote = Vote.PENDING
    else:
        vote = Vote.LOST
    return Tally(vote, len(said), len(may), len(voters))
