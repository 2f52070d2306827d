"""Begins all plays that the session asks for, and lists them at its end."""

from collections.abc import Callable, Iterator

import pytest

from tests.crash.plays import UNDISTURBED, Case, Played, Theatre
from tests.fix_lab import LabCommand

PLAYED = pytest.StashKey[list[Played]]()


@pytest.fixture(scope="session")
def theatre(
    request: pytest.FixtureRequest, make_lab: Callable[[], LabCommand]
) -> Iterator[Theatre]:
    """All plays that this session's tests want, already begun."""
    wanted = [UNDISTURBED]
    for item in request.session.items:
        spec = getattr(item, "callspec", None)
        case = spec.params.get("case") if spec is not None else None
        if isinstance(case, Case) and case not in wanted:
            wanted.append(case)
    theatre = Theatre(wanted, make_lab)
    request.config.stash[PLAYED] = theatre.played
    yield theatre
    theatre.close()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say of each play which seed it had, when the agent died, and how it ended."""
    for played in config.stash.get(PLAYED, []):
        terminalreporter.write_line(played.line)
