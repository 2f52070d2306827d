"""The oracle of ids: what is another trouble, and what the same one."""

from dataclasses import replace

import pytest

from agent.core.incident import Status
from agent.core.verdict import Family, VerdictCode
from tests.core import given
from tests.sim.checkers import Oracles, ViolatedError
from tests.sim.harness import Simulation
from tests.sim.truth import Truth

DOWN = replace(
    given.verdict(), code=VerdictCode.POSTGRES_DOWN, family=Family.REACH, subject="n3"
)
FIRST = replace(given.incident(DOWN), id="first")
SECOND = replace(FIRST, id="second", occurrence=2)
PLACE = ("n3", "server")


@pytest.mark.parametrize(
    ("well_s", "status", "fine"),
    [
        (15.0, Status.RESOLVED, True),
        (5.0, Status.RESOLVED, False),
        (15.0, Status.OPEN, False),
    ],
)
def test_news_that_was_held_up_is_of_its_own_time(well_s, status, fine):
    """The first one is told after the second one, of which it is long over."""
    sim = Simulation()
    oracles = Oracles(sim, Truth(sim))
    agent = sim.agents["n1"]
    now_s = sim.now_s
    for offset_s, incident, well in ((10.0, FIRST, 5.0), (20.0, SECOND, well_s)):
        sim.now_s = now_s + offset_s
        oracles.well[PLACE] = now_s + well
        oracles._opened(agent, incident)
    oracles.no_new_id_for_an_old_trouble(agent, SECOND)
    sim.now_s = now_s + 60.0
    late = replace(FIRST, status=status)
    if fine:
        oracles.no_new_id_for_an_old_trouble(agent, late)
    else:
        with pytest.raises(ViolatedError, match="told 40 s ago as second"):
            oracles.no_new_id_for_an_old_trouble(agent, late)
