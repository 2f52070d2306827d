"""What the tests on real clusters share: what is installed, and clusters of it.

A cluster takes about ten seconds to build, so tests that leave it healthy share one.
When a test fails, the ends of all programs' logs are part of what pytest shows.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.postgres.owner import unprivileged
from tests.fix_install import ROOT, interpreter_for
from tests.fix_postgres import copy_tree
from tests.system.cluster import Cluster, Kit, cluster_in
from tests.system.world import world_in

LOG_CHARS = 6000
MakeCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def kit(installed: Path, postgres_home: Path) -> Kit:
    """The agents' installation, and Patroni where the servers' user can read it."""
    found = list((ROOT / ".venv/patroni/lib").glob("python3.*/site-packages/patroni"))
    assert found, "Patroni is not installed: run tests/setup/patroni.sh .venv/patroni"
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
    kit: Kit, home: Path, extra: dict[str, Any] | None = None
) -> Iterator[Cluster]:
    """Offer a cluster in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=home))
    folder.chmod(0o755)
    with world_in(folder, unprivileged()) as world:
        try:
            with cluster_in(world, kit, extra=extra) as cluster:
                yield cluster
        except BaseException:
            for log in sorted(folder.glob("*/*.log")):
                text = log.read_text("utf-8", "replace")[-LOG_CHARS:]
                print(f"---- {log.parent.name}/{log.name}\n{text}")
            raise


@pytest.fixture
def cluster(kit: Kit, postgres_home: Path) -> Iterator[Cluster]:
    """A healthy cluster for one test."""
    with fresh_cluster(kit, postgres_home) as made:
        yield made
