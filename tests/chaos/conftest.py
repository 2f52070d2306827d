"""Lists at the end of a session what became of every write in every run."""

import pytest

from tests.chaos.plays import Played

PLAYED = pytest.StashKey[list[Played]]()


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> list[Played]:
    """All runs of this session so far."""
    return request.config.stash.setdefault(PLAYED, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say of each run which seed it had and what it came to."""
    for run in config.stash.get(PLAYED, []):
        terminalreporter.write_line(run.line)
