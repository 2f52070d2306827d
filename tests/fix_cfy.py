"""The managers' own client: the command `cfy` of the PyPI package `cloudify`.

It lives in an environment of its own, `.venv/cfy`, which `make .venv/.cfy` makes. Each
client here has a home of its own, so that none meets another one's profile.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CFY = Path(sys.executable).parents[1] / "cfy" / "bin" / "cfy"
COMMAND_S = 120


@dataclass(frozen=True)
class CfyRan:
    """How a command of the client ended."""

    code: int
    out: str
    words: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cfy:
    """The client, with a profile of one manager."""

    home: Path

    def __call__(self, *words: object) -> CfyRan:
        assert CFY.exists(), f"{CFY} is not there: make .venv/.cfy"
        known = {"HOME": str(self.home), "CFY_WORKDIR": str(self.home)}
        quiet = {"PYTHONWARNINGS": "ignore", "LC_ALL": "C.UTF-8"}
        ran = subprocess.run(
            [str(CFY), *map(str, words)], env=os.environ | known | quiet,
            cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=COMMAND_S,
        )  # fmt: skip
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
        return CfyRan(ran.returncode, ran.stdout, ran.stderr)

    def done(self, *words: object) -> CfyRan:
        """Run a command that has to succeed."""
        ran = self(*words)
        assert ran.code == 0, ran.out + ran.words
        return ran

    def refused(self, *words: object) -> str:
        """Run a command that must not succeed; what it said."""
        ran = self(*words)
        assert ran.code == 1, ran.out + ran.words
        return ran.out + ran.words

    def use(self, url: str, username: str, password: str, *more: object) -> CfyRan:
        """Make the profile by which the client knows the manager."""
        parts = urlsplit(url)
        return self(
            "profiles", "use", parts.hostname, "-u", username, "-p", password,
            "-t", "default_tenant", "--rest-port", parts.port, *more,
        )  # fmt: skip


@pytest.fixture
def new_cfy(tmp_path: Path) -> Callable[[], Cfy]:
    """Makes a client that knows no manager yet."""
    made: list[Cfy] = []

    def make() -> Cfy:
        home = tmp_path / f"cfy{len(made)}"
        home.mkdir()
        made.append(Cfy(home))
        return made[-1]

    return make
