"""`python -m tests.histories`: play drawn histories on real servers and judge them.

    python -m tests.histories --seeds 30                    on PostgreSQL 15, 16 and 18
    python -m tests.histories --first 7 --seeds 1 --versions 16    one again

Each history is played on two servers that are parted by a promotion, and what the loss
report finds is set against what the client knows. The exit code is 1 when one differs,
when a kind of statement never occurred or the time was not enough for all; a line names
version and seed.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.fix_postgres import VERSIONS, fast_place, stage_of
from tests.histories.checks import disagreement
from tests.histories.history import Played, play
from tests.histories.product import first_problem
from tests.histories.statements import KINDS

BUDGET_S = 1800.0
MANY = 20
"""So many histories of a version have every kind of statement on the loser."""
SEEN: dict[str, set[str]] = defaultdict(set)


def judge(version: str, seed: int, home: Path) -> str:
    """Play one history; return the first thing that is wrong, or nothing."""
    with stage_of(version, home) as stage:
        begin_s = time.monotonic()
        played = play(stage, seed)
        wrong = disagreement(played.loser) or disagreement(played.winner)
        if wrong:
            return f"the oracle is wrong: {wrong}"
        problem = first_problem(stage, played)
        if not problem:
            took_s = time.monotonic() - begin_s
            print(f"PostgreSQL {version}, seed {seed}: {said(played)}; {took_s:.1f} s")
        SEEN[version] |= played.loser.kinds.keys()
        return problem


def said(played: Played) -> str:
    """Return how many differences of each kind a history has."""
    counts = played.counts()
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in sorted(counts))


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories")
    parser.add_argument("--seeds", type=int, default=30, metavar="N")
    parser.add_argument("--first", type=int, default=1, metavar="SEED")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS")
    chosen = parser.parse_args(arguments)
    until_s = time.monotonic() + chosen.budget
    red, played = [], 0
    with tempfile.TemporaryDirectory(prefix="sg-", dir=fast_place()) as name:
        home = Path(name)
        home.chmod(0o755)
        for version in chosen.versions:
            for seed in range(chosen.first, chosen.first + chosen.seeds):
                if time.monotonic() > until_s:
                    print(f"not in {chosen.budget:.0f} s: from {version}, seed {seed}")
                    return 1
                played += 1
                if problem := judge(version, seed, home):
                    red.append(f"{version}/{seed}")
                    print(f"PostgreSQL {version}, seed {seed}: {problem}")
                    again = f"--first {seed} --seeds 1 --versions {version}"
                    print(f"again: python -m tests.histories {again}", flush=True)
    for version in chosen.versions if chosen.seeds >= MANY else ():
        if never := KINDS.keys() - SEEN[version]:
            red.append(version)
            print(f"PostgreSQL {version}: never said: {', '.join(sorted(never))}")
    print(f"{played} histories, {len(red)} red{': ' if red else ''}{' '.join(red)}")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
