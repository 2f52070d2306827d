"""What a person has taken, asked for and is told, through a cut and its heal."""

from agent.core import event as events
from agent.core.capture import Grade
from agent.core.incident import Incident, Status
from agent.core.verdict import Family
from tests.sim.harness import Simulation


def cut_off() -> Simulation:
    """n1, the primary, has been cut off for a while."""
    sim = Simulation()
    sim.run(8)
    sim.world.write("n1", "before")
    sim.run(3)
    sim.world.cut_off("n1")
    sim.run(5)
    return sim


def split(sim: Simulation, name: str) -> Incident:
    (found,) = [
        one
        for one in sim.incidents(name)
        if one.verdict.family is Family.SPLIT and one.status.standing
    ]
    return found


def take(sim: Simulation, name: str) -> None:
    sim.submit(name, events.Acknowledged(sim.moment(), split(sim, name).id, "ann"))


def proven(sim: Simulation) -> None:
    """The other side elects n2, both take writes, and the network is back."""
    sim.world.elect("n2", "n3", rows=3, beside="n1")
    sim.run(3)
    sim.world.heal()
    sim.run(6)


def test_a_cut_that_was_taken_is_open_again_as_a_proven_split_and_is_taken_once():
    sim = cut_off()
    take(sim, "n1")
    assert split(sim, "n1").acknowledged_by == "ann"
    proven(sim)
    for name in sim.agents:
        found = split(sim, name)
        assert found.verdict.code == "split-brain"
        assert (found.status, found.acknowledged_by) == (Status.OPEN, None)
    assert len({split(sim, name).since_wall_s for name in sim.agents}) == 1
    take(sim, "n2")
    sim.run(3)
    for _ in range(5):
        sim.run(1)
        assert {split(sim, n).status for n in sim.agents} == {Status.ACKNOWLEDGED}


def test_a_snapshot_that_is_asked_for_during_a_cut_is_complete_though_the_cut_ends():
    sim = cut_off()
    (capture,) = sim.agents["n1"].state.ledger.captures
    assert "full" not in capture.order.levels
    asked = events.CaptureAsked(sim.moment("n1"), "n1-asked", "somebody asked")
    sim.submit("n1", asked)
    sim.world.heal()
    sim.run(60)
    (capture,) = sim.agents["n1"].state.ledger.captures
    assert capture.status.grade.rank >= Grade.COMPLETE.rank
    assert capture.status.phase == "closed"
