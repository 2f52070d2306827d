"""An agent's doubt of itself begins with what its clocks did since the last round.

The clocks are given: a machine cannot be suspended, nor its wall clock set, by a test
that is a guest on it.
"""

import pytest

from agent.core.observation import SelfHealth
from agent.daemon.clock import SelfWatch, read_clocks

BEGIN = (100.0, 1_700_000_000.0, 5000.0)


@pytest.mark.parametrize(
    ("monotonic_s", "wall_s", "boot_s", "health"),
    [
        pytest.param(1.0, 1.0, 1.0, (0.0, 0.0), id="a round passed"),
        pytest.param(1.0, 61.0, 61.0, (0.0, 60.0), id="suspended for a minute"),
        pytest.param(1.0, 31.0, 1.0, (30.0, 0.0), id="the wall clock was set on"),
        pytest.param(1.0, -29.0, 1.0, (-30.0, 0.0), id="the wall clock was set back"),
        pytest.param(1.0, 91.0, 61.0, (30.0, 60.0), id="suspended, and then set on"),
        pytest.param(1.0, 1.0, 0.75, (0.25, 0.0), id="no suspension below zero"),
    ],
)
def test_what_the_clocks_did_tells_a_step_from_a_suspension(
    monotonic_s, wall_s, boot_s, health
):
    after = (BEGIN[0] + monotonic_s, BEGIN[1] + wall_s, BEGIN[2] + boot_s)
    shown = iter([BEGIN, after])
    watch = SelfWatch(lambda: next(shown))
    jump_s, suspended_s = health
    assert watch.reading(0.5) == SelfHealth(0.5, jump_s, suspended_s)


def test_each_reading_counts_from_the_one_before():
    shown = iter(
        [BEGIN, (101.0, BEGIN[1] + 61, 5061.0), (102.0, BEGIN[1] + 62, 5062.0)]
    )
    watch = SelfWatch(lambda: next(shown))
    assert watch.reading(0.0).suspended_s == 60.0
    assert watch.reading(-0.1) == SelfHealth(0.0, 0.0, 0.0)


def test_the_machines_own_clocks_are_read_in_that_order():
    monotonic_s, wall_s, boot_s = read_clocks()
    later = read_clocks()
    assert wall_s > 1_600_000_000 > boot_s >= monotonic_s - 1.0
    assert later[0] >= monotonic_s
    assert later[2] >= boot_s
