"""Runs tests in forked children, each with one fault planted, two at once.

Theory of operation. No file is ever changed: a fault is planted in memory, in a child
that is forked for it and runs the given tests, in the given order, until one fails.

Most faults stand in the body of a function. For them one process imports the core, has
pytest collect the tests, and forks a child for each; the child gives the function its
faulty code and runs the tests at once. What runs at import (constants, tables,
defaults, and functions that they call) cannot be planted so late: such a child is
forked from a process that has imported nothing of the core, and an import hook hands
it the faulty module. A fault that loops is ended by the CPU time it takes, one that
hoards by its memory.

Before that, a child without a fault measures, under `coverage`: which test runs which
line of the core, and how much CPU time each test takes.
"""

import gc
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import hypothesis.strategies  # what tests lean on is imported before the first fork
import pytest

AT_ONCE = 2
MEMORY_BYTES = 3 << 30
CALM = [
    "--noconftest", "--import-mode=importlib", "--assert=plain",
    "-p", "no:cacheprovider", "-p", "no:logging", "-p", "no:faulthandler",
    "-p", "no:terminal",
]  # fmt: skip


@dataclass(frozen=True)
class Survey:
    """What the run without a fault has measured."""

    seconds: dict[str, float]
    """By test: CPU time under the tracer."""
    runs: dict[str, dict[int, frozenset[str]]]
    """By module and line: which tests run it."""

    def runs_at_import(self, module: str, lines: range) -> bool:
        """Whether these lines have also run before the first test did."""
        rows = self.runs.get(module, {})
        return any("" in rows.get(line, ()) for line in lines)

    def tests_of(self, module: str, lines: range, *, at_import: bool) -> list[str]:
        """Return the tests that may notice these lines, fastest first.

        What runs at import concerns every test.
        """
        found = set(self.seconds)
        if not at_import:
            rows = self.runs.get(module, {})
            found = {test for line in lines for test in rows.get(line, ())}
        return self._by_speed(found)

    def _by_speed(self, tests: set[str]) -> list[str]:
        return sorted(tests, key=lambda test: (self.seconds[test], test))


class Chosen:
    """A pytest plugin: runs just these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.rank = {test: rank for rank, test in enumerate(tests)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.rank]
        items.sort(key=lambda item: self.rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


class Measured:
    """A pytest plugin: which test runs which line, and for how long."""

    def __init__(self, cov: coverage.Coverage) -> None:
        self.cov = cov
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self.cov.switch_context(item.nodeid)
        began_s = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - began_s
        self.cov.switch_context("")
        return result

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, report: pytest.TestReport
    ) -> None:
        print(f"{node.nodeid}:\n{report.longreprtext}", file=sys.stderr)


class Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook that gives one module other code."""

    def __init__(self, name: str, code: CodeType) -> None:
        self.name, self.code = name, code

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


@dataclass(frozen=True)
class Run:
    """One child's work: a faulty module, and the tests that may notice."""

    module: str
    text: str
    line: int
    """Where the fault is."""
    tests: tuple[str, ...]
    cpu_s: float
    """When to end it."""
    at_import: bool
    """Whether the modules must be imported anew for it to show."""


Work = Callable[[Run], str]
"""Tries a fault; returns which test noticed, or an empty text."""


def survey(folder: str) -> Survey:
    """Run every test without a fault; raises SystemExit when one of them fails."""
    files = sorted(str(path) for path in Path(folder).rglob("test_*.py"))
    notes = [Path(f"survey-{share}.json").resolve() for share in range(AT_ONCE)]
    running = [
        _fork(partial(_measure, files[share::AT_ONCE], note))
        for share, note in enumerate(notes)
    ]
    ended = [os.waitpid(pid, 0)[1] for pid in running]
    if any(ended):
        sys.exit("the tests fail without any fault; mend them first")
    seconds: dict[str, float] = {}
    runs: dict[str, dict[int, frozenset[str]]] = {}
    for told in (json.loads(note.read_text()) for note in notes):
        seconds.update(told["seconds"])
        for module, rows in told["runs"].items():
            known = runs.setdefault(module, {})
            for line, tests in rows.items():
                known[int(line)] = known.get(int(line), frozenset()).union(tests)
    return Survey(seconds, runs)


def outcomes(runs: dict[int, Run]) -> Iterator[tuple[int, str]]:
    """Carry out the runs; yield the number of each as it ends, and who killed it."""
    warm = {number: run for number, run in runs.items() if not run.at_import}
    if warm:
        yield from _warm_outcomes(warm)
    yield from _pool({n: run for n, run in runs.items() if run.at_import}, _try_cold)


def _warm_outcomes(runs: dict[int, Run]) -> Iterator[tuple[int, str]]:
    """Carry out runs in copies of a process that has everything imported."""
    reading, writing = os.pipe()
    pid = _fork(lambda: _serve(runs, writing))
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            for line in told:
                number, killed_by = json.loads(line)
                yield number, killed_by
        _, status = os.waitpid(pid, 0)
        pid = 0
        if status:
            sys.exit("the process that keeps the tests ready has failed")
    finally:
        if pid:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def _serve(runs: dict[int, Run], writing: int) -> int:
    _silence()
    _calm()
    tests = {test for run in runs.values() for test in run.tests}
    return int(pytest.main([*CALM, *_files(tests)], plugins=[Warm(runs, writing)]))


class Warm:
    """A pytest plugin: in the place of its loop, tries each fault in a child."""

    def __init__(self, runs: dict[int, Run], writing: int) -> None:
        self.runs, self.writing = runs, writing

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        held = [one for one in gc.get_objects() if isinstance(one, FunctionType)]
        gc.freeze()  # a child that collects garbage would copy all pages

        def work(run: Run) -> str:
            swap(run, held)
            return _first_failing([items[test] for test in run.tests])

        for number, killed_by in _pool(self.runs, work):
            os.write(self.writing, f"{json.dumps([number, killed_by])}\n".encode())
        return True


def _first_failing(items: Sequence[pytest.Item]) -> str:
    chosen = Chosen([item.nodeid for item in items])
    items[0].config.pluginmanager.register(chosen)
    for item, after in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if chosen.failed:
            return chosen.failed
    return ""


def swap(run: Run, held: Sequence[FunctionType]) -> None:
    """Give the function that the fault is in the faulty code, wherever it is held."""
    path = str(Path(run.module).resolve())
    codes = [
        code
        for code in _functions(compile(run.text, path, "exec"))
        if code.co_firstlineno <= run.line
    ]
    faulty = max(codes, key=lambda code: code.co_firstlineno)
    # What stands above the fault has kept its place, its own first line included.
    found = [one for one in held if _place(one.__code__) == _place(faulty)]
    assert found, _place(faulty)
    for one in found:
        one.__code__ = faulty


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of each function of a module or class, not of those inside."""
    for one in code.co_consts:
        if isinstance(one, CodeType):
            if one.co_flags & inspect.CO_OPTIMIZED:
                yield one
            else:
                yield from _functions(one)


def _pool(runs: dict[int, Run], work: Work) -> Iterator[tuple[int, str]]:
    """Do the work for each run in a child of its own, two at once."""
    waiting = list(runs)[::-1]
    busy: dict[int, tuple[int, Path]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < AT_ONCE:
                number = waiting.pop()
                note = Path(f"killer-{number}").resolve()
                busy[_fork(partial(_limited, runs[number], work, note))] = number, note
            pid, status = os.wait()
            number, note = busy.pop(pid)
            if os.WIFSIGNALED(status):
                yield number, "a limit of time"
            elif status:
                sys.exit(f"a child ended with {status}: the tool is wrong")
            else:
                yield number, note.read_text()
    finally:
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _limited(run: Run, work: Work, note: Path) -> int:
    _silence()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The default action of this signal ends the process.
    signal.setitimer(signal.ITIMER_PROF, run.cpu_s)
    note.write_text(work(run))
    return 0


def _try_cold(run: Run) -> str:
    """Import the faulty module and all others anew, and run the tests."""
    _calm()
    name = run.module.removesuffix(".py").replace("/", ".")
    code = compile(run.text, str(Path(run.module).resolve()), "exec")
    sys.meta_path.insert(0, Faulty(name, code))
    chosen = Chosen(run.tests)
    ended = pytest.main([*CALM, "-x", *_files(run.tests)], plugins=[chosen])
    return chosen.failed or ("the import" if ended else "")


def _fork(work: Callable[[], int]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = work()
    except BaseException as failure:  # noqa: BLE001 (a child must end here)
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
    finally:
        os._exit(code)


def _measure(paths: Sequence[str], note: Path) -> int:
    _silence()
    _calm()
    cov = coverage.Coverage(data_file=None, include=["agent/core/*"])
    measured = Measured(cov)
    cov.start()
    exit_code = int(pytest.main([*CALM, "-x", *paths], plugins=[measured]))
    cov.stop()
    data = cov.get_data()
    runs = {
        Path(file).relative_to(Path.cwd()).as_posix(): data.contexts_by_lineno(file)
        for file in data.measured_files()
    }
    note.write_text(json.dumps({"seconds": measured.seconds, "runs": runs}))
    return exit_code


def _files(tests: Iterable[str]) -> list[str]:
    return sorted({test.partition("::")[0] for test in tests})


def _calm() -> None:
    """Have the same examples and no foreign plugin in every run."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    hypothesis.settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None
    )
    hypothesis.settings.load_profile("mutants")


def _silence() -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
