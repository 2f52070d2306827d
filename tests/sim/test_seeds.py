"""Every seed that ever failed is played again, and a few that nobody has seen."""

import random

import pytest

from tests.sim.play import play
from tests.sim.seeds import known

FRESH = 3
FRESH_HOURS = 0.05


@pytest.mark.parametrize("known", known(), ids=lambda one: f"seed {one.seed}")
def test_a_seed_that_failed_once_is_green(known):
    outcome = play(known.seed, known.hours)
    assert not outcome.failed, "\n".join([*outcome.lines, outcome.words])


@pytest.mark.parametrize("_", range(FRESH))
def test_a_fresh_seed_is_green(_):
    seed = random.SystemRandom().randrange(10**9)
    outcome = play(seed, FRESH_HOURS)
    again = f"python -m tests.sim --seed {seed} --hours {FRESH_HOURS} --trace"
    assert not outcome.failed, "\n".join([*outcome.lines, outcome.words, again])


def test_a_seed_is_a_whole_story():
    first, second = play(4, 0.02), play(4, 0.02)
    assert (first.rounds, first.lines) == (second.rounds, second.lines)
    assert play(5, 0.02).lines != first.lines
