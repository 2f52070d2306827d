"""What the product says of a history: the way that a person takes, from end to end.

Theory of operation. The losing server is captured while it runs and completed when it
stands still, as the gate does; the snapshot is examined against the running winner,
once with that one's own log at hand and once without. The files of differences are read
back as they lie in the snapshot's folder and set against what the client knows.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Fork
from agent.divergence import shelf
from agent.divergence.compared import Comparison
from agent.divergence.losses import Task, examine, story_from
from agent.divergence.rowfiles import read_differences
from agent.divergence.winner import Door
from agent.postgres.control import read_control
from agent.postgres.history import read_switches
from tests.capturing import capturing
from tests.fix_postgres import Server, Stage
from tests.histories.client import table_id
from tests.histories.expect import Blurred, Expected
from tests.histories.history import Played
from tests.histories.schema import TableSpec

SHOWN = 1500
"""Characters of a row with much in it are enough to know it by."""


def fork_of(winner: Server) -> Fork:
    """Return where the winner's timeline began."""
    switch = read_switches(winner.data_dir / "pg_wal", 2)[-1]
    return Fork(switch.timeline, switch.lsn)


def captured(stage: Stage, played: Played) -> Path:
    """Capture the loser until it stands, cleanly or not; return the snapshot's folder.

    From where the standby had confirmed, as an agent does that sees both.
    """
    loser = played.loser.server
    with capturing(stage, loser) as capture:
        capture.order(confirmed=fork_of(played.winner.server).lsn)
        capture.until_complete()
        if played.seed % 3 == 0:
            loser.crash()
        else:
            loser.stop()
        capture.take_the_rest()
        capture.close()
        return capture.folder


@dataclass
class Said:
    """What was said of a history."""

    played: Played
    comparison: Comparison
    found: Counter[Expected]

    @property
    def unknown(self) -> dict[tuple[str, str], int]:
        """Deleted rows of which nothing can be said, by table."""
        return {
            (each.database, each.table.name.name): each.unknown
            for each in self.comparison.tables
        }

    def problems(self) -> Iterator[str]:
        """Yield what was said wrongly or not at all."""
        exact: Counter[Expected] = Counter()
        told = Counter(self.found)
        for spec in self.played.schema.tables:
            here = Counter({e: n for e, n in self.found.items() if is_of(spec, e)})
            if self._is_told(spec):
                exact.update(self.played.expected(spec))
            else:
                yield from self._blurred(spec, here)
                told -= here
        yield from (f"not reported: {each}" for each in (exact - told).elements())
        wrong = told - exact
        yield from (f"wrongly reported: {each}" for each in wrong.elements())

    def _is_told(self, spec: TableSpec) -> bool:
        sides = self.played.loser.side, self.played.winner.side
        anew = any(table_id(spec) in side.rewritten for side in sides)
        return self.comparison.against.by_log and not anew

    def _blurred(self, spec: TableSpec, here: Counter[Expected]) -> Iterator[str]:
        if not spec.keys or spec.unlogged:
            return  # equal rows of a table without a key are told apart by place alone
        if table_id(spec) in self.played.loser.side.missing:
            return
        sides = self.played.loser.side, self.played.winner.side
        fork = self.played.fork.get(table_id(spec), {})
        law = Blurred(spec, fork, *sides, by_log=self.comparison.against.by_log)
        leaves = spec.leaves or (spec.name,)
        unknown = sum(self.unknown.get((spec.database, each), 0) for each in leaves)
        yield from law.problems(list(here.elements()), unknown)


def is_of(spec: TableSpec, each: Expected) -> bool:
    """Whether a difference is one of this table, or of a partition of it."""
    leaves = spec.leaves or (spec.name,)
    return each.database == spec.database and each.table in leaves


def examined(stage: Stage, played: Played, snapshot: Path, *, by_log: bool) -> Said:
    """Open, extract and compare; return all differences that were found."""
    winner = played.winner.server
    fork = fork_of(winner)
    task = Task(
        snapshot, fork, time.time(), scratch=stage.folder, programs=stage.programs
    )
    door = Door("n2", winner.dsn)
    if by_log:
        size = read_control(winner.data_dir).wal_segment_bytes
        wal_dir = winner.data_dir / "pg_wal"
        story = story_from(winner.programs, wal_dir, fork.lsn, size)
        door = Door("n2", winner.dsn, story_of=story)
    _, comparison = examine(task, door)
    assert comparison is not None
    found = Counter(_found(comparison, shelf.folder_of(snapshot)))
    return Said(played, comparison, found)


def _found(comparison: Comparison, folder: Path) -> Iterator[Expected]:
    for each in comparison.tables:
        if not each.file:
            continue
        table = each.table.name
        for one in read_differences(folder / each.file):
            yield Expected(
                each.database, table.schema, table.name, one.kind,
                one.loser, one.winner, one.twin,
            )  # fmt: skip


def first_problem(stage: Stage, played: Played) -> str:
    """Return the first thing that is not as the client knows it, or nothing."""
    snapshot = captured(stage, played)
    for by_log in (True, False):
        said = examined(stage, played, snapshot, by_log=by_log)
        assert said.comparison.against.by_log is by_log
        for problem in said.problems():
            how = "with" if by_log else "without"
            return f"{how} the winner's log: {problem[:SHOWN]}"
    return ""
