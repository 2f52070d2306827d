"""What the all-seeing eye says of the world is what the agents could have seen."""

from tests.sim.harness import Simulation
from tests.sim.truth import Truth


def looked(sim: Simulation, seconds: int) -> Truth:
    truth = Truth(sim)
    for _ in range(seconds + 1):
        truth.look()
        sim.run(1)
    return truth


def silence(sim: Simulation, name: str) -> None:
    """Its machine runs, and nothing on it answers."""
    sim.crash(name)
    sim.world.crash(name)


def test_a_node_on_which_nothing_answers_is_silent():
    sim = Simulation()
    silence(sim, "n2")
    assert looked(sim, 8).silent("n2", 8)


def test_a_node_is_not_silent_while_another_server_answers_at_its_address():
    sim = Simulation()
    silence(sim, "n2")
    sim.world.aliases["n2"] = "n3"
    truth = looked(sim, 8)
    assert not truth.silent("n2", 8)
    assert truth.lasted_s("server", "n2") == 0.0


def test_a_node_is_silent_when_nobody_answers_at_the_wrong_address_either():
    sim = Simulation()
    silence(sim, "n2")
    silence(sim, "n3")
    sim.world.aliases["n2"] = "n3"
    assert looked(sim, 8).silent("n2", 8)
