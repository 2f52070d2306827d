"""`make mutants SEED=n N=400`: does a test notice when a line of the core is wrong?

Theory of operation. Agent and tests are copied into a folder of their own, every mutant
of agent/core is listed, and a sample drawn by the seed is tried one by one with the
tests of tests/core that run the mutated line, the fastest first; what they let through
is shown to the type checker, which a commit has to pass as well. What survives is shown
as a diff. A survivor that changes no behaviour is explained in explained.toml beside
this file; an explanation that fits no mutant any more, or whose mutant a test has
killed, is an error. The simulator takes no part: it is a check of its own, and a core
that only an hour of weather can tell from a wrong one is badly tested.

Exit: 0 when at most one in twenty survives and each survivor is explained, else 1.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants import children, types
from tests.mutants.mutate import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = Path("tests/mutants/explained.toml")
SURVIVORS_MAX = 1 / 20
CPU_SPARE_S, CPU_TIMES = 10.0, 4.0
"""A run is ended after so much, and so many times what it takes without a fault."""
PYTEST = """[pytest]
filterwarnings = error
xfail_strict = true
markers =
    slow: takes more than ten seconds
    fact(*ids): holds what was measured
"""
Key = tuple[str, str, str, str]


def main() -> int:
    """Draw, try and tell."""
    asked = _asked()
    with tempfile.TemporaryDirectory(prefix="splitguard-mutants-") as folder:
        for part in ("agent", "tests"):
            forget = shutil.ignore_patterns("__pycache__")
            shutil.copytree(asked.root / part, Path(folder, part), ignore=forget)
        Path(folder, "pytest.ini").write_text(PYTEST, encoding="utf-8")
        os.chdir(folder)
        sys.path.insert(0, folder)
        return Trial(asked).carry_out()


def _asked() -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="python -m tests.mutants")
    asked.add_argument("--seed", type=int, help="which sample; drawn when left out")
    asked.add_argument("--count", type=int, default=400, help="mutants; 0: all")
    asked.add_argument("--only", default="", help="modules whose name holds this")
    asked.add_argument("--root", type=Path, default=ROOT, help="another work tree")
    return asked.parse_args()


class Trial:
    """One run of the command, in a copy of the work tree."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.texts = {
            path.as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(Path("agent/core").glob("*.py"))
            if asked.only in path.name
        }
        every = [
            one for name, text in self.texts.items() for one in mutants_of(name, text)
        ]
        self.every = every
        seed = asked.seed if asked.seed is not None else random.randrange(1_000_000)
        count = min(asked.count or len(every), len(every))
        self.sample = random.Random(seed).sample(every, count)
        self.reasons = explained(EXPLAINED, asked.only)
        self.settings = asked.root / "pyproject.toml"
        self.alive: set[int] = set()
        self.refused: set[int] = set()
        self.untested: set[int] = set()
        print(f"seed {seed}: {count} of {len(every)} mutants of agent/core", flush=True)
        print("measuring which test runs which line, about a minute", flush=True)

    def carry_out(self) -> int:
        """Try the sample; return the exit code."""
        began_s = time.monotonic()
        surveyed = children.survey("tests/core")
        runs: dict[int, children.Run] = {}
        for number, one in enumerate(self.sample):
            cold = one.at_import or surveyed.runs_at_import(one.module, one.lines)
            tests = surveyed.tests_of(one.module, one.lines, at_import=cold)
            cpu_s = CPU_SPARE_S + CPU_TIMES * sum(surveyed.seconds[t] for t in tests)
            text = one.applied(self.texts[one.module])
            if tests:
                runs[number] = children.Run(
                    one.module, text, one.line, tuple(tests), cpu_s, cold
                )
        self.untested = set(range(len(self.sample))) - set(runs)
        alive = set(self.untested)
        for done, (number, killed_by) in enumerate(children.outcomes(runs), start=1):
            if not killed_by:
                alive.add(number)
            if done % 20 == 0 or done == len(runs):
                print(f"{done} of {len(runs)} tried, {len(alive)} alive", flush=True)
        left = {number: self.sample[number] for number in sorted(alive)}
        self.refused = types.refused(left, self.texts, self.settings)
        self.alive = alive - self.refused
        return self._tell(time.monotonic() - began_s)

    def _tell(self, took_s: float) -> int:
        survivors = [self.sample[number] for number in sorted(self.alive)]
        untested = {self.sample[number].key for number in self.untested}
        killed = [o for n, o in enumerate(self.sample) if n not in self.alive]
        drawn = Counter(one.module for one in self.sample)
        lived = Counter(one.module for one in survivors)
        print(f"\n{'module':44}{'killed':>7}{'of':>6}")
        for module, count in sorted(drawn.items()):
            print(f"{module:44}{count - lived[module]:7}{count:6}")
        unexplained = [one for one in survivors if one.key not in self.reasons]
        for one in unexplained:
            print(f"\n{one.diff(self.texts[one.module])}")
            if one.key in untested:
                print("no test runs this line")
            print(entry(one))
        wrong = stale(self.reasons, self.every, killed)
        for line in wrong:
            print(f"\nexplained.toml: {line}")
        count, left = len(self.sample), len(survivors)
        print(
            f"\n{count - left} of {count} killed ({(count - left) / count:.1%}),"
            f" {len(self.refused)} of them by the type checker alone; {left} survived,"
            f" {len(unexplained)} of them unexplained; {took_s:.0f} s"
        )
        return int(bool(wrong or unexplained) or left > count * SURVIVORS_MAX)


def explained(path: Path, only: str = "") -> dict[Key, str]:
    """Read which mutants change no behaviour, and why."""
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {
        (row["module"], row["scope"], row["was"], row["now"]): row["reason"]
        for row in rows
        if only in Path(row["module"]).name
    }


def entry(mutant: Mutant) -> str:
    """Return what to put into explained.toml, if it changes nothing: all but why."""
    named = zip(("module", "scope", "was", "now"), mutant.key, strict=True)
    lines = (f"{name} = {json.dumps(text)}" for name, text in named)
    return "\n".join(("[[mutant]]", *lines, 'reason = ""'))


def stale(
    reasons: dict[Key, str], every: Sequence[Mutant], killed: Sequence[Mutant]
) -> list[str]:
    """Return what is wrong with the explanations."""
    known = {one.key for one in every}
    dead = {one.key for one in killed}
    return [
        *(
            f"no such mutant any more, take it out: {key}"
            for key in reasons
            if key not in known
        ),
        *(f"a test kills it, take it out: {key}" for key in reasons if key in dead),
    ]


if __name__ == "__main__":
    sys.exit(main())
