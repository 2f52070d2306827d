"""`python -m tests.sim.soak`: a million node-rounds in bad weather, and what was said.

Theory of operation. Every question has a chance of one in five to go unanswered, all
the time; agents and servers stand still for up to three seconds, and clocks are
stepped. Beside that everything else goes wrong now and then, so that there is something
to say. A node-round is one agent's finished round. Two figures count for each of
`node-down`, `split-brain` and `failover`: how often it was said of what was not so, and
how often what was so was not said in time. A fault or a verdict that never occurred
makes the run worthless, so that fails it too.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing import Pool

from agent.core.verdict import VerdictCode
from tests.sim.checkers import Score
from tests.sim.play import Outcome, Play

ROUNDS = 1_000_000
LOSS = 0.2
PAUSE_S = 3.0
CELL_HOURS = 0.25
"""Hours of one cluster; a soak is many clusters."""
JUDGED = ("node-down", "split-brain", "failover")
BOUND_S = 30.0
"""How long a rough network may take to settle before a missing word counts."""


class Rough(Play):
    """A cluster in bad weather."""

    sizes = (2, 3, 3, 3, 3, 3, 3, 4, 5)
    recorded = False

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.faults.pause_s = PAUSE_S
        self.oracles.loud = False
        self.sim.world.network.floor = LOSS
        self.sim.watchers = [self.oracles]

    def say(self, words: str) -> None:
        """Nobody reads a soak."""

    def cycle(self) -> None:
        """Harm and healing; whether all is well is not asked in such weather."""
        dice, sim = self.dice, self.sim
        self.software.style = self.style
        palette = self.faults.palette()
        weather = ("freeze an agent", "pause a server", "step a wall clock")
        for _ in range(dice.randint(4, 12)):
            self.faults.harm(palette)
            self.faults.harm(weather)
            sim.run(dice.expovariate(1 / 12.0))
        self.heal()
        sim.run(BOUND_S)

    def await_well(self, limit_s: float) -> None:
        """Give the HA software time to mend, and people to acknowledge."""
        for _ in range(12):
            self.sim.run(5.0)
            self._acknowledge()


def cell(seed: int) -> Outcome:
    """Play one cluster."""
    return Rough(seed).play(CELL_HOURS)


def added(
    outcomes: Iterable[Outcome],
) -> tuple[int, Counter[str], Score, list[Outcome]]:
    """Add up what became of all clusters."""
    rounds, faults, score, red = 0, Counter[str](), Score(), []
    for one in outcomes:
        rounds += one.rounds
        faults += one.faults
        for name in ("verdicts", "opened", "false", "due", "missed"):
            getattr(score, name).update(getattr(one.score, name))
        if one.failed:
            red.append(one)
    return rounds, faults, score, red


def soak(rounds: int, first: int, jobs: int) -> list[Outcome]:
    """Play clusters until so many rounds are done."""
    done: list[Outcome] = []
    seeds = iter(range(first, first + 100_000))
    with Pool(jobs) as pool:
        for outcome in pool.imap_unordered(cell, seeds):
            done.append(outcome)
            if sum(one.rounds for one in done) >= rounds:
                pool.terminate()
                break
    return done


def show(done: list[Outcome], took_s: float) -> bool:
    """Print the tables; return whether all is as it should be."""
    rounds, faults, score, red = added(done)
    print(f"{rounds} node-rounds of {len(done)} clusters in {took_s:.0f} s")
    print(f"{LOSS:.0%} of questions lost, pauses up to {PAUSE_S:.0f} s, clock steps\n")
    kinds = Rough(0).faults.kinds
    for title, names, counts in (
        ("fault", kinds, faults),
        ("verdict", [code.value for code in VerdictCode], score.verdicts),
    ):
        print(f"{title:40} {'times':>10}")
        for name in names:
            print(f"{name:40} {counts[name]:10}")
        print()
    print(f"{'verdict':14} {'opened':>8} {'false':>6} {'due':>6} {'missed':>7}")
    for name in (*JUDGED, "lineage"):
        row = (score.opened[name], score.false[name], score.due[name])
        print(f"{name:14} {row[0]:8} {row[1]:6} {row[2]:6} {score.missed[name]:7}")
    for name in sorted(set(score.false) - {*JUDGED, "lineage"}):
        print(f"{name}: {score.false[name]} times, which does not fail a soak")
    for one in red:
        print(f"seed {one.seed}: {one.words}")
    never = [name for name in kinds if not faults[name]]
    never += [code.value for code in VerdictCode if not score.verdicts[code.value]]
    print(f"\nnever occurred: {', '.join(never) or 'nothing'}")
    false = sum(score.false[name] for name in JUDGED)
    return not (never or red or false)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.soak")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    begin_s = time.monotonic()
    done = soak(chosen.rounds, chosen.seed, chosen.jobs)
    return 0 if show(done, time.monotonic() - begin_s) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
