"""The process that makes one loss report for the agent: `python -m agent.divergence`.

Theory of operation. `job` says what comes in and what goes out. It works at the lowest
priority, and ends when its input ends or it is asked to (`behind`): the clone's server
is then stopped and the clone removed on the way out.
"""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from agent import codec
from agent.divergence import report as reports
from agent.divergence import shelf
from agent.divergence.behind import ordered
from agent.divergence.job import ORDER_BYTES_MAX, Job, Line, Outcome, Progress
from agent.divergence.losses import Task
from agent.divergence.making import Circumstances, make_report
from agent.divergence.remote import story_of_agent
from agent.divergence.report import Report
from agent.divergence.winner import Door
from agent.errors import CodecError, SnapshotError, SplitguardError
from agent.postgres.programs import find_programs
from agent.snapshot.manifest import DATA

TELL_S = 0.25
"""Progress of one kind of work is told no more often."""


def main() -> int:
    """Make the report that standard input orders; return the exit code."""
    try:
        job = codec.from_json(ordered(ORDER_BYTES_MAX), Job)
    except CodecError as error:
        return _failed(Outcome(f"the order is garbled: {error.message}"))
    try:
        _make(job)
    except SplitguardError as error:
        return _failed(Outcome(error.message, error.hint))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(Outcome(f"{where}{error.strerror or error}"))
    _say(Line(outcome=Outcome()))
    return 0


def _make(job: Job) -> None:
    folder, winner = Path(job.folder), job.winner
    programs = None
    if job.bin_dir is not None:
        data = folder / DATA  # not there where rows alone are kept
        programs = find_programs(Path(job.bin_dir), data if data.is_dir() else None)
    task = Task(
        snapshot=folder,
        fork=job.fork,
        made_wall_s=job.made_wall_s,
        scratch=Path(job.scratch),
        programs=programs,
        progress=_Teller(),
    )
    door = None
    if winner is not None:
        door = Door(winner.name, winner.dsn, job.statement_timeout_s)
        if winner.agent is not None:
            story_of = story_of_agent(winner.agent, job.fork.lsn)
            door = replace(door, story_of=story_of)
    make_report(task, door, _known(job))


def _known(job: Job) -> Circumstances:
    """Return what only the agent knows; what it has forgotten, the last report has."""
    before: Report | None = None
    with suppress(SnapshotError):
        before = reports.load(shelf.folder_of(Path(job.folder)))
    return Circumstances(
        redact=job.redact,
        released=job.released or (before.released if before else ()),
        waiting=job.waiting or (before.waiting if before else ()),
        delivered=job.delivered or (before.delivered if before else ()),
    )


class _Teller:
    """Prints progress, but not all of it."""

    def __init__(self) -> None:
        self._doing, self._told_s = "", 0.0

    def __call__(self, doing: str, done: int, total: int) -> None:
        now_s = perf_counter()
        if doing == self._doing and now_s - self._told_s < TELL_S:
            return
        self._doing, self._told_s = doing, now_s
        _say(Line(progress=Progress(doing, done, total)))


def _failed(outcome: Outcome) -> int:
    _say(Line(outcome=outcome))
    return 1


def _say(line: Line) -> None:
    print(codec.to_json(line), flush=True)  # noqa: T201 - what the agent reads


if __name__ == "__main__":
    sys.exit(main())
