"""Running a field journal through the core, and what came of it.

Theory of operation. Every recorded event goes through `step` again. After each, what
people would be shown is compared with what the agent recorded; a difference is told
where it begins, and again when it becomes another one. At a recorded start that follows
the entry before it without a gap the whole state is compared, and the recorded one is
gone on with, so that one early difference does not hide all later ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.core import replay
from agent.core.moment import Moment
from agent.core.replay import Outcome, Turn
from agent.core.state import State
from agent.errors import JournalError
from agent.store.field import HINT, FieldJournal, Line
from agent.store.rounds import Gap, Noted, Start

TURNS_MAX = 10_000
DIFFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the replay and the recording part, or part in another way."""

    wall_s: float
    line: int
    event: str
    recorded: tuple[str, ...]
    """What only the agent showed."""
    replayed: tuple[str, ...]
    """What only the replay shows."""


@dataclass
class Rerun:
    """One run of a field journal; `run` does it, the rest says what came of it."""

    events: int = 0
    from_wall_s: float | None = None
    to_wall_s: float | None = None
    judged_by: set[str] = field(default_factory=set)
    """The versions of Splitguard that judged at the time."""
    turns: list[Turn] = field(default_factory=list)
    turns_left_out: int = 0
    differences: list[Difference] = field(default_factory=list)
    differences_left_out: int = 0
    _start: Start | None = None
    _state: State = field(default_factory=State)
    _expected: Outcome = field(default_factory=Outcome)
    _shown: Outcome = field(default_factory=Outcome)
    _parted: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    _last: tuple[Line, str, float] | None = None

    def run(
        self, journal: FieldJournal, told: Callable[[int], object] = lambda _: None
    ) -> None:
        """Go through all of it, and tell each line's number. Raises JournalError."""
        for line in journal.read():
            told(line.number)
            if isinstance(line.entry, Outcome):
                self._expected = line.entry
                continue
            self._compare()
            if isinstance(line.entry, Gap):
                self._start = self._last = None
            elif isinstance(line.entry, Start):
                self._begin(line, line.entry)
            else:
                self._go_on(line, line.entry)
        self._compare()

    def _begin(self, line: Line, start: Start) -> None:
        parts: tuple[str, ...] = ()
        if start.follows and self._start is not None:
            parts = replay.unequal_parts(start.state, self._state)
        if parts:
            names = tuple(f"another {name}" for name in parts)
            self._differ(Difference(start.wall_s, line.number, "start", (), names))
        self._start, self._state, self._last = start, start.state, None
        self._shown = self._expected = replay.outcome(start.state)
        self._parted = ((), ())
        self.judged_by.add(start.agent)

    def _go_on(self, line: Line, noted: Noted) -> None:
        if self._start is None:
            raise JournalError(f"line {line.number}: an event without a start", HINT)
        policy, before, at = self._start.policy, self._state, noted.event.at
        try:
            self._state = replay.again(
                before, noted.event, policy, committed=noted.committed
            )
        except (LookupError, ValueError, TypeError, ArithmeticError) as error:
            # Of an honest recording the core judges everything.
            raise JournalError(
                f"line {line.number}: no agent was ever in such a state: {error!r}",
                HINT,
            ) from error
        self._count(at)
        self._last = (line, type(noted.event).__name__, at.wall_s)
        if replay.same_outcome(before, self._state):
            return
        self._shown = replay.outcome(self._state)
        for turn in replay.turns(before, self._state, at, policy):
            if len(self.turns) < TURNS_MAX:
                self.turns.append(turn)
            else:
                self.turns_left_out += 1

    def _count(self, at: Moment) -> None:
        self.events += 1
        if self.from_wall_s is None:
            self.from_wall_s = at.wall_s
        self.to_wall_s = at.wall_s

    def _compare(self) -> None:
        """Compare what is shown after the last event with what was."""
        if self._last is None:
            return
        recorded, replayed = set(_texts(self._expected)), set(_texts(self._shown))
        parted = (
            tuple(sorted(recorded - replayed)),
            tuple(sorted(replayed - recorded)),
        )
        if parted != self._parted and any(parted):
            line, event, wall_s = self._last
            self._differ(Difference(wall_s, line.number, event, *parted))
        self._parted = parted

    def _differ(self, difference: Difference) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)
        else:
            self.differences_left_out += 1


def _texts(shown: Outcome) -> Iterator[str]:
    for one in shown.verdicts:
        yield f"{one.code} {one.subject} ({one.severity}, rule {one.rule})"
    for each in shown.incidents:
        yield f"{each.id} {each.status} {each.verdict} {each.subject}"
