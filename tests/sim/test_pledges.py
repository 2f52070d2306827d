"""What people announce hides no split, and of what they decide only what is agreed."""

import random
from dataclasses import replace

import pytest

from agent.core import event as events
from agent.core.verdict import VerdictCode
from tests.sim.checkers import ViolatedError
from tests.sim.harness import Simulation
from tests.sim.people import OWNER, People
from tests.sim.pledges import Pledges


def split(people: People) -> None:
    """n1 goes on, cut off; n2 is promoted; then they see each other again."""
    sim = people.sim
    sim.watchers.append(Pledges(sim, people))
    sim.run(5)
    people.announce("n3")
    sim.world.cut_off("n1")
    sim.run(6)
    sim.world.promote("n2")
    sim.world.servers["n3"].upstream = "n2"
    sim.run(3)
    sim.world.heal()
    sim.run(5)


def told(sim: Simulation, name: str):
    for one in sim.agents[name].state.view.verdicts:
        if one.code is VerdictCode.SPLIT_BRAIN:
            return one
    raise AssertionError(f"{name} says {sim.codes(name)}")


def decide(people: People, **sides: str) -> None:
    for name, node in sides.items():
        people.decide(name, node)


@pytest.fixture
def people() -> People:
    return People(Simulation(), random.Random(1))


def test_an_announced_switchover_makes_no_split_less_grave(people):
    split(people)
    for name in people.sim.agents:
        assert told(people.sim, name).severity == "critical"
        split_of = [
            one
            for one in people.sim.incidents(name)
            if one.verdict.code is VerdictCode.SPLIT_BRAIN
        ]
        assert [one.acknowledged_by for one in split_of] == [None]


def test_of_decisions_that_clash_none_counts_until_one_settles_it(people):
    split(people)
    decide(people, n1="n1", n2="n2")
    people.sim.run(5)
    for name in people.sim.agents:
        evidence = told(people.sim, name).evidence
        assert "pins_disputed" in evidence
        assert evidence["winner_rule"] != "pinned"
    decide(people, n3="n1")
    people.sim.run(5)
    for name in people.sim.agents:
        evidence = told(people.sim, name).evidence
        assert (evidence["winner"], evidence["winner_rule"]) == ("n1", "pinned")


def test_the_oracles_of_decisions_see_what_is_wrong(people):
    split(people)
    decide(people, n1="n1", n2="n2")
    people.sim.run(5)
    agent, said = people.sim.agents["n3"], told(people.sim, "n3")
    pledges = Pledges(people.sim, people)
    who = next(one.who for one in people.decided.values() if one.node == "n1")
    pinned = {"winner": "n1", "winner_rule": "pinned", "pinned_by": who}
    for evidence, oracle in (
        (pinned, "pins_that_clash_do_not_count"),
        ({**pinned, "pinned_by": "nobody"}, "a_pin_counts_as_it_was_made"),
        ({**pinned, "winner": "n3"}, "a_pin_counts_as_it_was_made"),
    ):
        wrong = replace(said, evidence=evidence)
        with pytest.raises(ViolatedError, match=oracle):
            pledges.pins_that_clash_do_not_count(agent, wrong, agent.state.ledger)
    planned = replace(said, evidence={"planned_by": OWNER})
    with pytest.raises(ViolatedError, match="an_announcement_hides_no_split"):
        pledges.an_announcement_hides_no_split(agent, planned)


def test_an_announcement_is_called_off_at_any_agent(people):
    sim = people.sim
    sim.run(3)
    people.announce("n1")
    sim.run(2)
    plans = sim.agents["n2"].state.ledger.maintenance
    assert [one.owner for one in plans] == [OWNER]
    sim.submit("n2", events.MaintenanceEnded(sim.moment("n2"), plans[0].id, "grace"))
    sim.run(2)
    for agent in sim.agents.values():
        [plan] = agent.state.ledger.maintenance
        assert plan.ended_by == "grace"
