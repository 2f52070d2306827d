"""`python -m tests.sim`: play seeds and print what was found.

    python -m tests.sim --seed 7 --hours 1 --trace    one seed, told as it happens
    python -m tests.sim --seed 7 --rough --trace      the same of a cluster of the soak
    python -m tests.sim --budget 120                  fresh seeds for two minutes

The exit code is 1 when an oracle was violated, or counted anything in bad weather; the
last lines before it stand there with the command that plays the seed again.
"""

import argparse
import random
import sys
import time

from tests.sim.play import Outcome, play
from tests.sim.soak import CELL_HOURS, Rough

FRESH_HOURS = 0.1


def show(outcome: Outcome, hours: float, *, rough: bool = False) -> None:
    """Print what became of a seed."""
    if not outcome.found:
        return
    print("\n".join(outcome.lines))
    for words in outcome.found:
        print(f"seed {outcome.seed} by {outcome.at_s:.2f} s: {words}")
    also = " --rough" if rough else ""
    again = f"--seed {outcome.seed} --hours {hours}{also} --trace"
    print(f"again: python -m tests.sim {again}")


def fresh(budget_s: float, hours: float, first: int) -> bool:
    """Play fresh seeds until the time is up; say whether all were green."""
    begin_s = time.monotonic()
    seed, red, rounds = first, [], 0
    while time.monotonic() - begin_s < budget_s:
        outcome = play(seed, hours)
        rounds += outcome.rounds
        if outcome.found:
            show(outcome, hours)
            red.append(seed)
        seed += 1
    took_s = time.monotonic() - begin_s
    print(
        f"seeds {first} to {seed - 1}, {hours} h each: {rounds} node-rounds in"
        f" {took_s:.0f} s, {len(red)} red{': ' if red else ''}"
        f"{' '.join(map(str, red))}"
    )
    return not red


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--hours", type=float, default=None)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--rough", action="store_true")
    parser.add_argument("--budget", type=float, metavar="SECONDS", default=120.0)
    parser.add_argument("--seeds", type=int, default=0, metavar="N")
    chosen = parser.parse_args(arguments)
    if chosen.seed is None:
        first = random.SystemRandom().randrange(10**9)
        return 0 if fresh(chosen.budget, chosen.hours or FRESH_HOURS, first) else 1
    hours = chosen.hours or (CELL_HOURS if chosen.rough else 1.0)
    red = 0
    for seed in range(chosen.seed, chosen.seed + max(1, chosen.seeds)):
        begin_s = time.monotonic()
        if chosen.rough:
            outcome = Rough(seed, trace=chosen.trace).play(hours)
        else:
            outcome = play(seed, hours, trace=chosen.trace)
        show(outcome, hours, rough=chosen.rough)
        red += bool(outcome.found)
        print(
            f"seed {seed}: {outcome.at_s / 3600:.2f} h, {outcome.rounds} node-rounds,"
            f" {time.monotonic() - begin_s:.1f} s,"
            f" {outcome.oracle or ('red' if outcome.found else 'green')}"
        )
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
