"""A machine that stands still wakes when it is due, and runs no program before that.

A clock that went on standing still while its agent ran again would make a liar of any
agent: splits would be proven that never were.
"""

import pytest

from tests.sim.harness import BEGIN_S, Simulation


def asleep() -> Simulation:
    sim = Simulation()
    sim.run(5)
    sim.freeze("n2", 20.0, machine=True)
    return sim


def test_a_machine_wakes_although_its_agent_is_stopped_longer():
    sim = asleep()
    sim.run(19)
    sim.freeze("n2", 3.0)
    sim.run(1.5)
    assert not sim.suspended("n2")
    assert sim.frozen("n2")
    assert not sim.world.servers["n2"].paused
    sim.run(5)
    assert sim.moment("n2").monotonic_s == pytest.approx(BEGIN_S + 30.5 - 20.0)


def test_a_longer_sleep_goes_on_after_a_shorter_one_is_over():
    sim = asleep()
    sim.freeze("n2", 40.0, machine=True)
    sim.run(25)
    assert sim.suspended("n2")
    sim.run(16)
    assert not sim.suspended("n2")


def test_an_agent_starts_only_when_its_machine_is_awake():
    sim = asleep()
    sim.crash("n2")
    sim.run(2)
    sim.boot("n2")
    assert not runs(sim)
    sim.run(19)
    assert runs(sim)
    assert sim.agents["n2"].boots == 2


def test_a_machine_that_is_switched_off_stands_still_no_longer():
    sim = asleep()
    sim.run(2)
    sim.rouse("n2")
    sim.world.kill("n2")
    sim.crash("n2")
    sim.run(2)
    sim.world.start("n2")
    sim.boot("n2")
    assert sim.agents["n2"].alive
    sim.run(6)
    assert not sim.suspended("n2")


def runs(sim):
    """Whether the agent on n2 runs now."""
    return sim.agents["n2"].alive
