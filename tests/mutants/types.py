"""Which faults the type checker refuses, so that they never get as far as a test.

Theory of operation. `make check` runs mypy in its strict mode before any test, and what
it refuses is not committed: a `None` where a text is promised, or a check for None that
no longer guards what follows. So the faults that no test has noticed are shown to it,
one after the other, in a tree of their own with the project's settings; its cache makes
each a matter of a second or two.
"""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.mutants.mutate import Mutant

ENOUGH_S = 300
"""A run that takes longer has failed, and so has the tool."""


def refused(
    alive: Mapping[int, Mutant], texts: Mapping[str, str], settings: Path
) -> set[int]:
    """Return the numbers of the faults that mypy refuses.

    `texts` holds each module without a fault, `settings` is the project's
    pyproject.toml. Raises SystemExit when mypy refuses the tree without any fault.
    """
    if not alive:
        return set()
    tree = Path("typed").resolve()
    shutil.copytree("agent", tree / "agent")
    shutil.copy(settings, tree / "pyproject.toml")
    told = _errors(tree)
    if told:
        sys.exit(f"mypy refuses the core without any fault; mend it first:\n{told}")
    found = set()
    dates = itertools.count(int(time.time()))
    for number, one in alive.items():
        path, text = tree / one.module, texts[one.module]
        _write(path, one.applied(text), next(dates))
        if _errors(tree):
            found.add(number)
        _write(path, text, next(dates))
    return found


def _write(path: Path, text: str, second: int) -> None:
    """Write a module with a date of its own.

    mypy takes a file for unchanged whose size and second are those that it remembers.
    """
    path.write_text(text, encoding="utf-8")
    os.utime(path, (second, second))


def _errors(tree: Path) -> str:
    """Return what mypy refuses in the core of this tree; empty for nothing."""
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "agent/core"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=ENOUGH_S,
        check=False,
    )
    if ran.returncode not in (0, 1):
        sys.exit(f"mypy itself has failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout
