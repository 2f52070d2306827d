"""Real Patroni clusters for the tests that cut, freeze and kill.

`kit` is what all clusters of a session share: the agents' installation and Patroni's
packages. `fresh_cluster` builds one cluster, which takes about ten seconds. When a test
fails, the ends of all programs' logs are part of what pytest shows.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.postgres.owner import unprivileged
from tests.fix_install import ROOT, interpreter_for
from tests.fix_postgres import copy_tree
from tests.system.cluster import Cluster, Kit, running
from tests.system.ledger import Ledger
from tests.system.world import world_in

LOG_CHARS = 6000
Made = TypeVar("Made", bound=Cluster)


@pytest.fixture(scope="session")
def kit(installed: Path, postgres_home: Path) -> Kit:
    """The agents' installation, and Patroni where the servers' user can read it."""
    found = list((ROOT / ".venv/patroni/lib").glob("python3.*/site-packages/patroni"))
    assert found, "Patroni is not installed: make .venv/.patroni"
    target = postgres_home / "patroni"
    copy_tree(found[0].parent, target)
    return Kit(
        splitguard=installed,
        python=interpreter_for(unprivileged()),
        patroni=target,
        grants=(ROOT / "deploy/grants.sql").read_text("utf-8"),
    )


@contextlib.contextmanager
def fresh_cluster(
    kit: Kit,
    home: Path,
    kind: type[Made],
    *,
    guarded: bool = True,
    watched: bool = True,
) -> Iterator[Made]:
    """Offer a cluster in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=home))
    folder.chmod(0o755)
    with world_in(folder, unprivileged()) as world:
        try:
            ledger = Ledger(folder / "acknowledged.jsonl")
            made = kind(world, kit, ledger, guarded=guarded, watched=watched)
            with running(made):
                yield made
        except BaseException:
            show_logs(folder)
            raise


def show_logs(folder: Path) -> None:
    """Print how the logs of all boxes end."""
    for log in sorted(folder.glob("*/*.log")):
        text = log.read_text("utf-8", "replace")[-LOG_CHARS:]
        print(f"---- {log.parent.name}/{log.name}\n{text}")
