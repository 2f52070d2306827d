"""Clusters that the tests in this folder share, and their logs when one fails."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.fix_system import fresh_cluster, show_logs
from tests.system.cluster import Cluster, Kit


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the clusters' logs to what a failed test shows."""
    report = yield
    if report.when == "call" and report.failed:
        for found in getattr(item, "funcargs", {}).values():
            if isinstance(found, Cluster):
                show_logs(found.world.folder)
    return report


@pytest.fixture(scope="module")
def shared(kit: Kit, postgres_home: Path) -> Iterator[Cluster]:
    """A healthy guarded cluster for tests that leave it healthy."""
    with fresh_cluster(kit, postgres_home, Cluster) as made:
        yield made


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster, healthy, with an empty ledger and no client."""
    shared.until_healthy()
    shared.ledger.path.unlink(missing_ok=True)
    yield shared
    shared.stop_clients()
    shared.world.heal()


@pytest.fixture
def unguarded(kit: Kit, postgres_home: Path) -> Iterator[Cluster]:
    """A healthy cluster with agents and without the shim, for one test."""
    with fresh_cluster(kit, postgres_home, Cluster, guarded=False) as made:
        yield made
