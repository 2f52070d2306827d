"""Collects what the benches find, prints it as one table and writes it as JSON."""

import os
from pathlib import Path

import pytest

from tests.bench.table import Table

RESULT = Path(__file__).resolve().parents[2] / "build/bench.json"
FOUND = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with an empty table."""
    config.stash[FOUND] = Table()


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Table:
    """The table that the bench adds its rows to."""
    table = request.config.stash[FOUND]
    table.facts.setdefault("load before", load())
    return table


def load() -> str:
    """What else goes on: over many processors more is bearable."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table at the end, whatever else is printed or captured."""
    table = config.stash[FOUND]
    if table.rows:
        table.facts["load after"] = load()
        table.write(RESULT)
        terminalreporter.section("bench")
        terminalreporter.write_line(table.text())
        terminalreporter.write_line(f"JSON: {RESULT}")
