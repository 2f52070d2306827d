"""`python -m tests.sim.selftest`: does the simulator turn red when the core is wrong?

Theory of operation. Each planted fault is put in place and seeds are played until an
oracle is violated that holds without it, at most SEEDS of them, beginning with the one
that is known to show it. The table says after how many seeds and by which oracle. A
plant that stays green fails the run.
"""

import argparse
import sys
import time

from tests.sim.plants import PLANTS, Plant
from tests.sim.play import RAISED, Outcome, play

SEEDS = 200
HOURS = 0.03


def find(plant: Plant, seeds: int) -> tuple[int, Outcome | None]:
    """Play until it turns red; return after how many seeds, and what was found.

    A seed that is red without the fault proves nothing about it, and a core that raises
    shows a plant that does not fit it any more.
    """
    order = [plant.first, *(seed for seed in range(seeds) if seed != plant.first)]
    for number, seed in enumerate(order[:seeds], start=1):
        with plant.planted():
            outcome = _steered(plant, seed)
        seen = outcome.failed and outcome.oracle != RAISED
        if seen and not _steered(plant, seed).failed:
            return number, outcome
    return seeds, None


def _steered(plant: Plant, seed: int) -> Outcome:
    return play(seed, HOURS, focus=plant.focus, sizes=plant.sizes)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.selftest")
    parser.add_argument("--only", default="", help="a part of a plant's name")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    chosen = parser.parse_args(arguments)
    green = 0
    print(f"{'planted fault':38} {'seeds':>5} {'seed':>5} {'s':>4}  oracle")
    for plant in PLANTS:
        if chosen.only not in plant.name:
            continue
        begin_s = time.monotonic()
        number, outcome = find(plant, chosen.seeds)
        took_s = time.monotonic() - begin_s
        green += outcome is None
        seed = "-" if outcome is None else str(outcome.seed)
        oracle = "STAYED GREEN" if outcome is None else outcome.oracle
        row = f"{plant.name:38} {number:5} {seed:>5} {took_s:4.0f}  {oracle}"
        print(row, flush=True)
    print(f"{len(PLANTS)} planted, {green} stayed green")
    return 1 if green else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
