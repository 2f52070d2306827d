"""The oracles blame nobody for what is so, and whoever says what is not.

Theory of operation. Small worlds, played by hand up to the instant that matters; then
one oracle is asked. The losses are judged by the very position that a verdict names,
the losers by what people have been told of and is not over.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from agent.core import death, pageprint, rules_split, scene
from agent.core.incident import Incident, Status
from agent.core.lsn import Lsn
from agent.core.verdict import Fact, Family, Severity, Verdict, VerdictCode
from tests.sim.checkers import BACK_S, DOWN_IN_BAD_WEATHER_S, Oracles, ViolatedError
from tests.sim.harness import Simulation
from tests.sim.plants import Plant
from tests.sim.truth import Truth

REMEMBERS_S = 10
SAYS_NOTHING = Plant("", "", ((death, "confirmed"),), lambda _: lambda *_: None)
NAMES_NOBODY = Plant("", "", ((rules_split, "past_fork"),), lambda _: lambda *_: None)
ALWAYS_ISOLATED = Plant("", "", ((scene, "majority"),), lambda _: lambda _: 99)
NEVER_ISOLATED = Plant("", "", ((scene, "majority"),), lambda _: lambda _: 0)


def stale(node: str, reached: int) -> Verdict:
    """What is said when a primary lacks what its first timeline reached."""
    at = str(Lsn(reached))
    evidence: dict[str, Fact] = {"reached_timeline": 1, "reached_lsn": at}
    code, family = VerdictCode.STALE_PRIMARY, Family.PRIMARY
    return Verdict(code, family, node, Severity.CRITICAL, 411, evidence)


def judged(sim: Simulation) -> Oracles:
    """Oracles of rough weather, who have looked for as long as they ask for."""
    truth = Truth(sim)
    oracles = Oracles(sim, truth)
    oracles.loud = False
    for _ in range(REMEMBERS_S):
        truth.look()
        sim.run(1)
    truth.look()
    return oracles


def lost_at_the_end(sim: Simulation) -> tuple[int, int]:
    """n1 writes a row that n2 has and one that nobody has, and stops at once."""
    world, first = sim.world, sim.world.servers["n1"]
    world.write("n1", "kept")
    kept = first.lsn
    world.cut_off("n1")
    world.write("n1", "lost")
    lost = first.lsn
    world.stop("n1")
    world.promote("n2")
    return kept, lost


def test_what_a_primary_wrote_just_before_it_was_stopped_was_held():
    sim = Simulation()
    _, lost = lost_at_the_end(sim)
    oracles = Oracles(sim, Truth(sim))
    assert oracles._false_loss(stale("n2", lost)) == ""


def test_a_position_that_the_primary_holds_is_not_lost_though_a_later_one_is():
    sim = Simulation()
    kept, _ = lost_at_the_end(sim)
    oracles = Oracles(sim, Truth(sim))
    assert "lacks nothing" in oracles._false_loss(stale("n2", kept))


def test_a_position_that_nobody_ever_reached_is_not_lost():
    sim = Simulation()
    _, lost = lost_at_the_end(sim)
    oracles = Oracles(sim, Truth(sim))
    assert "lacks nothing" in oracles._false_loss(stale("n2", lost + 1))


def a_loser() -> tuple[Simulation, Oracles]:
    """n1 has been stopped past a fork from n2, and everybody says so."""
    sim = Simulation()
    sim.run(5)
    sim.world.cut_off("n1")
    sim.world.elect("n2", "n3", rows=3, beside="n1")
    sim.run(5)
    sim.world.heal()
    sim.run(5)
    sim.world.stop("n1")
    return sim, judged(sim)


def names(sim: Simulation, judge: str) -> bool:
    """Whether the verdicts of this instant name n1."""
    verdicts = sim.agents[judge].state.view.verdicts
    return any("n1" in str(one.evidence.get("losers")) for one in verdicts)


def test_who_is_isolated_for_a_moment_has_named_a_loser_in_what_is_not_over():
    sim, oracles = a_loser()
    assert names(sim, "n3")
    sim.world.cut_off("n3")
    sim.until(lambda: "observer-isolated" in sim.codes("n3"), 8)
    assert not names(sim, "n3")
    oracles._names_a_loser("n3", sim.world.servers["n1"])
    assert oracles.score.missed["lineage"] == 0


def test_a_loser_that_nobody_names_is_missed():
    sim, oracles = a_loser()
    oracles._names_a_loser("n3", sim.world.servers["n2"])
    assert oracles.score.missed["lineage"] == 1


def test_in_calm_weather_a_loser_is_named_by_a_verdict_at_every_instant():
    sim, oracles = a_loser()
    oracles.loud = True
    oracles._names_a_loser("n3", sim.world.servers["n1"])
    sim.world.cut_off("n3")
    sim.until(lambda: "observer-isolated" in sim.codes("n3"), 8)
    with pytest.raises(ViolatedError, match="n3 does not say that n1"):
        oracles._names_a_loser("n3", sim.world.servers["n1"])


def missed_forks(sim: Simulation) -> int:
    """How often somebody does not tell of a loser who has to."""
    truth = Truth(sim)
    oracles = Oracles(sim, truth)
    oracles.loud = False
    for _ in range(40):
        truth.look()
        sim.run(0.5)
        oracles.never_silent_about_a_fork(tuple(sim.agents))
    return oracles.score.missed["lineage"]


def test_who_wrote_on_under_one_number_has_to_be_told_and_is_by_pages_alone():
    for blind, missed in ((False, 0), (True, 2)):
        sim = Simulation()
        sim.run(5)
        plant = Plant("", "", ((pageprint, "fork"),), lambda _: lambda *_: None)
        with plant.planted() if blind else nullcontext():
            sim.set_back_unseen("n1", 5)
            assert missed_forks(sim) == missed


def moved(number: int, source: str, before: int, to: str, after: int) -> Incident:
    """An incident that says that the primary moved."""
    evidence: dict[str, Fact] = {"from": source, "from_timeline": before}
    evidence |= {"to": to, "to_timeline": after}
    code, family = VerdictCode.FAILOVER, Family.PRIMARY
    verdict = Verdict(code, family, "cluster", Severity.CRITICAL, 401, evidence)
    worst, wall_s = Severity.CRITICAL, 0.0
    since = (wall_s, None, None, None, 0.0, 0, None, ())
    return Incident(f"inc-{number}", "key", number, Status.OPEN, verdict, worst, *since)


def test_a_primary_that_comes_back_is_news_and_the_old_move_of_it_is_not():
    sim = Simulation()
    sim.world.promote("n2")
    sim.run(1)
    oracles = judged(sim)
    agent = sim.agents["n3"]
    oracles._one_id_for_a_move(agent, moved(1, "n1", 1, "n2", 2))
    sim.world.promote("n3", timeline=3)
    oracles._one_id_for_a_move(agent, moved(2, "n2", 2, "n3", 3))
    oracles._one_id_for_a_move(agent, moved(2, "n3", 3, "n2", 2))
    for again in (moved(3, "n1", 1, "n2", 2), moved(3, "n3", 3, "n2", 2)):
        with pytest.raises(ViolatedError, match="no_new_id"):
            oracles._one_id_for_a_move(agent, again)


def a_death(*, lost_s: float, then_s: float) -> tuple[Simulation, Oracles]:
    """n2 is silent; meanwhile no question gets through for a while, then all do."""
    sim = Simulation()
    truth = Truth(sim)
    oracles = Oracles(sim, truth)
    oracles.loud = False
    sim.watchers.append(oracles)
    sim.run(5)
    sim.crash("n2")
    sim.world.crash("n2")
    for floor, seconds in ((1.0, lost_s), (0.0, then_s)):
        sim.world.network.floor = floor
        for _ in range(int(seconds * 2)):
            truth.look()
            sim.run(0.5)
    truth.look()
    oracles.never_silent_about_a_death(("n1", "n3"))
    return sim, oracles


def missed_deaths(*, lost_s: float, then_s: float) -> int:
    """How many say nothing of a death who should."""
    _, oracles = a_death(lost_s=lost_s, then_s=then_s)
    return oracles.score.missed["node-down"]


LOST_S = DOWN_IN_BAD_WEATHER_S + 2


def test_who_has_lost_all_questions_has_to_tell_of_no_death_before_it_is_back():
    sim, oracles = a_death(lost_s=LOST_S, then_s=0.0)
    assert sim.codes("n3") == {"observer-isolated"}
    assert oracles.score.due["node-down"] == 1
    assert oracles.score.missed["node-down"] == 0


def test_who_was_isolated_tells_of_a_death_soon_after():
    sim, _ = a_death(lost_s=LOST_S, then_s=BACK_S + 1)
    assert sim.codes("n1") == sim.codes("n3") == {"node-down"}


def test_who_is_silent_about_a_death_long_after_its_isolation_is_blamed():
    with SAYS_NOTHING.planted():
        assert missed_deaths(lost_s=LOST_S, then_s=BACK_S + 2) == 1


def test_who_was_never_isolated_has_no_more_time_than_before():
    with SAYS_NOTHING.planted():
        assert missed_deaths(lost_s=0.0, then_s=LOST_S) == 1


def test_who_says_without_reason_that_it_is_isolated_is_blamed():
    with ALWAYS_ISOLATED.planted():
        assert missed_deaths(lost_s=0.0, then_s=LOST_S) == 1


def test_who_loses_all_questions_and_does_not_say_that_it_is_isolated_is_blamed():
    with NEVER_ISOLATED.planted():
        assert missed_deaths(lost_s=LOST_S, then_s=0.0) == 1


def twins(
    *, cloned: bool, left: int = 2, before: int = 20, after: int = 0
) -> Simulation:
    """n3 was stopped beside its twin n2, and n4, once made from n2, is primary now.

    n3 wrote `left` rows alone; n2 some before n4 was made from it, and some after.
    """
    sim = Simulation(4)
    world = sim.world
    sim.run(5)
    world.stop("n1")
    for name in ("n2", "n3"):
        world.promote(name, timeline=2)
    for row in range(left):
        world.write("n3", f"left {row}")
    world.stop("n3")
    for row in range(before):
        world.write("n2", f"right {row}")
    sim.run(3)
    for name in ("n4", "n1"):
        world.replace(name, "n2", cloned=cloned)
        world.launch(name)
    for row in range(after):
        world.write("n2", f"further {row}")
    sim.run(3)
    world.promote("n4")
    world.replace("n2", "n4", cloned=cloned)
    world.launch("n2")
    world.servers["n1"].upstream = "n4"
    return sim


def names_twin(sim: Simulation) -> bool:
    """Whether the verdicts of an agent name n3."""
    verdicts = sim.agents["n4"].state.view.verdicts
    return any("n3" in str(one.evidence.get("losers")) for one in verdicts)


def test_of_a_loser_of_which_a_cloned_primary_has_no_wal_nobody_can_tell():
    sim = twins(cloned=True)
    assert missed_forks(sim) == 0
    assert not names_twin(sim)


@pytest.mark.parametrize(("cloned", "left"), [(False, 2), (True, 40)])
def test_a_loser_that_a_print_or_a_number_shows_has_to_be_told_of(cloned, left):
    sim = twins(cloned=cloned, left=left)
    assert missed_forks(sim) == 0
    assert names_twin(sim)
    with NAMES_NOBODY.planted():
        assert missed_forks(twins(cloned=cloned, left=left)) == 1


def test_a_loser_that_has_whole_pages_in_common_with_a_clone_has_to_be_told_of():
    with NAMES_NOBODY.planted():
        sim = twins(cloned=True, left=100, before=5, after=200)
        assert missed_forks(sim) == 1


def alone_twice(way: tuple[str, str]) -> Oracles:
    """Of two nodes n1 is isolated twice, by lost questions; one way is blocked."""
    sim = Simulation(2)
    truth = Truth(sim)
    oracles = Oracles(sim, truth)
    oracles.loud = False
    sim.watchers = [oracles]
    sim.run(5)
    sim.world.network.blocked.add(way)
    for loss in (0.0, 1.0, 0.0, 1.0, 0.0):
        sim.world.network.loss = loss
        for _ in range(10):
            truth.look()
            sim.run(1)
            oracles.look()
    return oracles


def ids_of_isolation(oracles: Oracles, node: str) -> int:
    """Under how many ids people were told that a node is isolated."""
    return len(oracles.first["self", node])


def test_who_can_ask_a_majority_is_well_though_it_cannot_be_asked():
    """Nor was the node that it asked unreachable all the time."""
    oracles = alone_twice(("n2", "n1"))
    assert ids_of_isolation(oracles, "n1") == 2
    assert len(oracles.first["reach", "n2"]) == 2
    assert oracles.score.broken == []


def test_who_can_ask_nobody_is_not_well_though_it_can_be_asked():
    oracles = alone_twice(("n1", "n2"))
    assert ids_of_isolation(oracles, "n1") == 1
    assert oracles.score.broken == []
    agent = oracles.sim.agents["n1"]
    (isolated,) = (
        one for one in agent.state.ledger.incidents if one.verdict.family is Family.SELF
    )
    again = replace(isolated, id="inc-again", status=Status.OPEN)
    oracles.no_new_id_for_an_old_trouble(agent, again)
    (words,) = oracles.score.broken
    assert "observer-isolated of n1 as inc-again" in words
