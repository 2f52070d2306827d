"""What all tests share: Hypothesis without deadlines, and no silent skips in CI."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Fixtures that several folders share; each fix_*.py says what it offers.
pytest_plugins = sorted(
    f"tests.{path.stem}" for path in Path(__file__).parent.glob("fix_*.py")
)
# Before any of them imports another one, or its assertions would stay mute.
pytest.register_assert_rewrite(*pytest_plugins)

# A shared two-core machine stalls now and then; a slow example is no wrong example.
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
# In CI the same examples come with every run: what is red there is red everywhere.
settings.register_profile(
    "splitguard", deadline=None, print_blob=True, derandomize=IN_CI
)
settings.load_profile("splitguard")

SKIPPED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing skipped, and with a Ctrl-C that means something.

    A shell that puts us into the background has SIGINT ignored, nohup has SIGHUP, and
    every program that a test starts and interrupts would inherit that.
    """
    config.stash[SKIPPED] = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note each skipped test, and leave out what was expected to fail."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[SKIPPED].append(report.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Note each file or class that was skipped as a whole."""
    report = yield
    if report.skipped:
        collector.config.stash[SKIPPED].append(report.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that did not run proves nothing: turn the session red."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: the first one judges
        output["skipped"] = session.config.stash[SKIPPED]
    if IN_CI and session.config.stash[SKIPPED] and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what was skipped in another process of this session."""
    told = getattr(node, "workeroutput", {}).get("skipped", [])
    known = node.config.stash[SKIPPED]
    known += [nodeid for nodeid in told if nodeid not in known]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why a session without a failure is red."""
    if IN_CI and config.stash[SKIPPED]:
        terminalreporter.section("skipped tests fail in CI", red=True)
        for nodeid in config.stash[SKIPPED]:
            terminalreporter.line(nodeid)
