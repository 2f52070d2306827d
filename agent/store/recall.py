"""Going back to what was seen around an instant.

Theory of operation. Rounds are differences, so what is wanted is reached from the last
start before it; all on the way is taken in without being understood, which is cheap.
Where a window begins, the last event of each kind before it is handed out first: what
was so when it began. A record that has a gap, or that another version wrote so that it
cannot be read, ends the window early.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.core.event import Event
from agent.errors import CodecError
from agent.ports import Chunk, Rounds
from agent.store.rounds import Decoder, lines_of

EVENTS_MAX = 60_000
"""Events handed out at most: some minutes of seven nodes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time that is wanted."""

    from_wall_s: float
    to_wall_s: float


@dataclass(frozen=True, slots=True)
class Recalled:
    """One event out of the record."""

    event: Event
    before: bool
    """Whether it only says what was so when its window began."""


def joined(windows: Sequence[Window]) -> list[Window]:
    """Return the windows in order, those that touch made one."""
    found: list[Window] = []
    for each in sorted(windows, key=lambda window: window.from_wall_s):
        if found and each.from_wall_s <= found[-1].to_wall_s:
            last = found.pop()
            end_s = max(last.to_wall_s, each.to_wall_s)
            found.append(Window(last.from_wall_s, end_s))
        else:
            found.append(each)
    return found


def recall(rounds: Rounds, windows: Sequence[Window]) -> Iterator[Recalled]:
    """Yield what is recorded within the windows, in order. Blocking.

    Raises JournalError when the journal cannot be read.
    """
    left = EVENTS_MAX
    for window in joined(windows):
        try:
            for one in _within(rounds, window):
                if left <= 0:
                    return
                left -= 1
                yield one
        except CodecError:
            continue  # of another version, or damaged: nothing is made up for it


def _within(rounds: Rounds, window: Window) -> Iterator[Recalled]:
    decoder, begun = Decoder(), False
    for chunk in _chunks(rounds, window):
        for line in lines_of(chunk):
            event = decoder.glance(line, window.from_wall_s)
            if event is None:
                continue
            if not begun:
                begun = True
                for each in decoder.latest(window.from_wall_s):
                    yield Recalled(each, before=True)
            if event.at.wall_s <= window.to_wall_s:
                yield Recalled(event, before=False)


def _chunks(rounds: Rounds, window: Window) -> Iterator[Chunk]:
    """Yield the chunks from the last start before the window to its end."""
    last = rounds.recorded_from(window.from_wall_s)
    while (chunk := rounds.recorded(last)) is not None:
        gap = chunk.seq != last + 1 and not chunk.starts
        if gap or chunk.from_wall_s > window.to_wall_s:
            return
        last = chunk.seq
        yield chunk


def begins(rounds: Rounds) -> float | None:
    """Return from when on rounds are kept; None when there are none."""
    first = rounds.recorded(rounds.recorded_from(0.0))
    return None if first is None else first.from_wall_s
