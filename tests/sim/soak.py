"""`python -m tests.sim.soak`: a million node-rounds in bad weather, and what was said.

Theory of operation. Every question has a chance of one in five to go unanswered, all
the time; agents and servers stand still for up to three seconds, and clocks are
stepped. Beside that everything else goes wrong now and then, so that there is something
to say. A node-round is one agent's finished round. Two figures count for each of
`node-down`, `split-brain` and `failover`: how often it was said of what was not so, and
how often what was so was not said in time. Either fails the run, and so does a trouble
that was told of under a new id although it never ended. A fault or a verdict that never
occurred makes the run worthless, so that fails it too: each cluster has one kind of
fault that is its own, in turn, and some cycles begin with troubles that only meet by
design.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from multiprocessing import Pool

from agent.core.verdict import VerdictCode
from tests.sim.checkers import Score
from tests.sim.faults import Undo
from tests.sim.play import Outcome, Play, Teller

ROUNDS = 1_000_000
LOSS = 0.2
PAUSE_S = 3.0
CELL_HOURS = 0.25
"""Hours of one cluster; a soak is many clusters."""
JUDGED = ("node-down", "split-brain", "failover")
BOUND_S = 30.0
"""How long a rough network may take to settle before a missing word counts."""
TRIES = 20
SET_BACK = 60
"""By so many records a machine is set back."""
TOGETHER = (
    ("fail captures", "promote wrongly"),
    ("stall captures", "promote wrongly"),
    ("promote twins",),
    ("set a machine back",),
    ("leave a standby far behind",),
)
"""Troubles that a cycle begins with, one after the other, at one instant."""
EXPECTED = tuple(code.value for code in VerdictCode)
SHOWN_EVERY_S = 15.0


class Rough(Play):
    """A cluster in bad weather."""

    sizes = (2, 3, 3, 3, 3, 3, 3, 4, 5)
    recorded = False

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        super().__init__(seed, trace=trace)
        self.faults.pause_s = PAUSE_S
        self.oracles.loud = False
        self.sim.world.network.floor = LOSS
        teller = [Teller(self.say)] if trace else []
        self.sim.watchers = [*teller, self.oracles]
        kinds = self.faults.kinds
        self.own = tuple(kinds)[seed % len(kinds)]
        """The kind of fault that this cluster has in any case."""
        kinds["promote twins"] = self._promote_twins
        kinds["set a machine back"] = self._set_back
        kinds["leave a standby far behind"] = self._leave_behind

    def say(self, words: str) -> None:
        """Nobody reads a soak, unless it is one cluster that is played again."""
        if self.trace:
            super().say(words)

    def cycle(self) -> None:
        """Harm and healing; whether all is well is not asked in such weather."""
        dice, sim = self.dice, self.sim
        self.software.style = self.style
        palette = self.faults.palette()
        weather = ("freeze an agent", "pause a server", "step a wall clock")
        self._surely(self.own)
        if dice.random() < 0.4:
            for kind in dice.choice(TOGETHER):
                self._surely(kind)
        for _ in range(dice.randint(4, 12)):
            self.faults.harm(palette)
            self.faults.harm(weather)
            sim.run(dice.expovariate(1 / 12.0))
        self.heal()
        sim.run(BOUND_S)

    def _surely(self, kind: str) -> None:
        """Do this harm, if the world is such that it can be done."""
        before = self.faults.count[kind]
        for _ in range(TRIES):
            if self.faults.count[kind] == before:
                self.faults.harm((kind,))

    def _promote_twins(self) -> tuple[str, None] | None:
        """Promote two standbys to one timeline: twins, as two sides of a cut make."""
        world = self.sim.world
        able = [
            one
            for one in world.servers.values()
            if one.answers and one.in_recovery and one.name not in world.dead
        ]
        if len(able) < 2:
            return None
        first, second = self.dice.sample(able, 2)
        number = 1 + max(first.timeline, second.timeline)
        for server in (first, second):
            world.promote(server.name, f"twin {server.name} {world.now_s}", number)
            world.write(server.name, f"twin row on {server.name} at {world.now_s}")
        return f"{first.name} and {second.name}", None

    def _set_back(self) -> tuple[str, None] | None:
        """Set the only primary's machine back to an old image of its disk."""
        world = self.sim.world
        writable = world.writable
        if len(writable) != 1 or writable[0] in self.software.resyncs:
            return None
        return (writable[0], None) if world.set_back(writable[0], SET_BACK) else None

    def _leave_behind(self) -> tuple[str, Undo] | None:
        """Write more than a delayed standby may lack."""
        world = self.sim.world
        behind = [
            one
            for one in world.servers.values()
            if one.streams and one.in_recovery and one.upstream in world.writable
        ]
        if not behind:
            return None
        standby = self.dice.choice(behind)
        source = world.servers[standby.upstream or ""]
        standby.delay_s = 20.0
        limit = next(iter(self.sim.agents.values())).policy.lag_limit_bytes
        source.lsn = source.lsn + 2 * limit
        return standby.name, partial(setattr, standby, "delay_s", 0.0)

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
        score.broken += [f"seed {one.seed}: {words}" for words in one.score.broken]
        if one.failed:
            red.append(one)
    return rounds, faults, score, red


def soak(rounds: int, first: int, jobs: int) -> list[Outcome]:
    """Play clusters until so many rounds are done; tell now and then how far it is."""
    done: list[Outcome] = []
    seeds = iter(range(first, first + 100_000))
    begin_s = told_s = time.monotonic()
    with Pool(jobs) as pool:
        for outcome in pool.imap_unordered(cell, seeds):
            done.append(outcome)
            so_far, now_s = sum(one.rounds for one in done), time.monotonic()
            for words in outcome.found:
                print(f"seed {outcome.seed}: {words}", flush=True)
            if now_s - told_s >= SHOWN_EVERY_S:
                told_s = now_s
                took = f"{len(done)} clusters, {now_s - begin_s:.0f} s"
                print(f"{so_far} of {rounds} node-rounds, {took}", flush=True)
            if so_far >= rounds:
                pool.terminate()
                break
    return done


def show(done: list[Outcome], took_s: float) -> bool:
    """Print the tables; return whether all is as it should be."""
    rounds, faults, score, red = added(done)
    print(f"\n{rounds} node-rounds of {len(done)} clusters in {took_s:.0f} s")
    print(f"{LOSS:.0%} of questions lost, pauses up to {PAUSE_S:.0f} s, clock steps\n")
    kinds = tuple(Rough(0).faults.kinds)
    _occurred("fault", kinds, faults)
    _occurred("verdict", EXPECTED, score.verdicts)
    _judged(score)
    never = [name for name in kinds if not faults[name]]
    never += [name for name in EXPECTED if not score.verdicts[name]]
    print(f"\nnever occurred: {', '.join(never) or 'nothing'}")
    for one in red:
        print(f"red: seed {one.seed}: {one.words}")
    return not never and not any(one.found for one in done)


def _occurred(title: str, names: Iterable[str], counts: Counter[str]) -> None:
    print(f"{title:40} {'times':>10}")
    for name in names:
        print(f"{name:40} {counts[name]:10}")
    print()


def _judged(score: Score) -> None:
    """Print how often what was false, and how often what was due was not said."""
    lineage = ("lineage-diverged", "lineage-twin")
    print(f"\n{'verdict':18} {'opened':>8} {'false':>6} {'due':>6} {'missed':>7}")
    for title, codes in (*((name, (name,)) for name in JUDGED), ("lineage", lineage)):
        opened = sum(score.opened[name] for name in codes)
        false = sum(score.false[name] for name in codes)
        due, missed = score.due[title], score.missed[title]
        print(f"{title:18} {opened:8} {false:6} {due:6} {missed:7}")
    print(f"told under a new id although it never ended: {len(score.broken)}")
    for words in score.broken:
        print(f"  {words}")


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
