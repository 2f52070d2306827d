"""Every seed that ever failed is played again, and a few more.

These are always the same, so that a change is judged and not the dice: `make sim` is
what plays seeds that nobody has seen.
"""

import pytest

from tests.sim.play import play
from tests.sim.seeds import known
from tests.sim.soak import Rough

MORE = (1, 2, 3)
HOURS = 0.05
pytestmark = pytest.mark.timeout(900)  # half an hour of a world, on a slow machine


@pytest.mark.parametrize("known", known(), ids=lambda one: f"seed {one.seed}")
def test_a_seed_that_failed_once_is_green(known):
    if known.rough:
        outcome = Rough(known.seed).play(known.hours)
    else:
        outcome = play(known.seed, known.hours)
    assert not outcome.found, "\n".join([*outcome.lines, *outcome.found])


@pytest.mark.parametrize("seed", MORE)
def test_a_seed_is_green(seed):
    outcome = play(seed, HOURS)
    again = f"python -m tests.sim --seed {seed} --hours {HOURS} --trace"
    assert not outcome.failed, "\n".join([*outcome.lines, outcome.words, again])


def test_a_seed_is_a_whole_story():
    first, second = play(4, 0.02), play(4, 0.02)
    assert (first.rounds, first.lines) == (second.rounds, second.lines)
    assert play(5, 0.02).lines != first.lines
