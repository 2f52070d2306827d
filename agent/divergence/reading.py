"""The story of one side, read from its log on disk.

Theory of operation. Of the log before the fork only that is read which a transaction
may have written that was under way at the fork. A running server notes every quarter of
a minute, and at each checkpoint, who is under way; the last such note before the fork
that lists nobody is a beginning before which nothing matters. Without one, all that is
kept is read. The end is the last whole record, or where the caller says.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.lsn import Lsn
from agent.divergence import records
from agent.divergence.story import Story, Teller, Visible
from agent.errors import DivergenceError
from agent.postgres.programs import Programs
from agent.postgres.wal import Chain
from agent.postgres.waltext import dump, filled_offsets

BEFORE_FORK_SEGMENTS_MAX = 512
"""No more segments than this are read before the fork."""
UNKEPT_SEGMENTS_MAX = 4
"""Nor more than this where nobody says that they were kept for it."""
TOLD_EVERY = 20_000
"""Progress is told once in so many records."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one side's log."""

    programs: Programs
    chain: Chain
    fork_lsn: Lsn
    end_lsn: Lsn
    kept_lsn: Lsn | None = None
    """From here on it is kept; None: nobody says, a few segments are looked for."""
    visible: Visible = lambda _xid, _database: True


def read_story(
    stretch: Stretch, progress: Callable[[Lsn], None] = lambda _: None
) -> Story:
    """Return what this side did past the fork.

    `progress` is told now and then how far reading is. Raises PostgresError when the
    log cannot be read, DivergenceError when a record is not understood.
    """
    start, whole = _beginning(stretch)
    major, chain = stretch.programs.major, stretch.chain

    def offsets(lsn: Lsn) -> tuple[int, ...]:
        return filled_offsets(chain, lsn, major)

    teller = Teller(
        stretch.fork_lsn, offsets, begins_whole=whole, visible=stretch.visible
    )
    if stretch.end_lsn <= stretch.fork_lsn:
        return teller.story(stretch.end_lsn)
    try:
        _tell(teller, stretch, start, progress)
    except ValueError as error:
        raise DivergenceError(
            f"a record of the write-ahead log is not understood: {error}",
            f"this version knows the log of PostgreSQL 10 to 18; here it is {major}",
        ) from error
    return teller.story(stretch.end_lsn)


def _tell(
    teller: Teller, stretch: Stretch, start: Lsn, progress: Callable[[Lsn], None]
) -> None:
    lines = dump(stretch.programs, stretch.chain, start, stretch.end_lsn)
    for number, line in enumerate(lines):
        record = records.parse(line)
        if record is None:
            raise ValueError(f"it is no record: {line[:200]}")
        teller.take(record)
        if number % TOLD_EVERY == 0:
            progress(record.lsn)


def _beginning(stretch: Stretch) -> tuple[Lsn, bool]:
    """Return where to begin, and whether no transaction was under way there."""
    first = _first_kept(stretch)
    found: Lsn | None = None
    if first < stretch.fork_lsn:
        standby = dump(
            stretch.programs,
            stretch.chain,
            first,
            stretch.fork_lsn,
            options=("-r", "Standby"),
        )
        for line in standby:
            record = records.parse(line)
            if record is not None and record.name == "RUNNING_XACTS":
                nobody = not records.running(record)
                found = record.lsn if nobody else found
    return (first, False) if found is None else (found, True)


def _first_kept(stretch: Stretch) -> Lsn:
    chain = stretch.chain
    size = chain.segment_bytes
    number = stretch.fork_lsn.segment(size)
    if stretch.kept_lsn is not None:
        lowest = max(0, number - BEFORE_FORK_SEGMENTS_MAX)
        return max(min(stretch.kept_lsn, stretch.fork_lsn), Lsn(lowest * size))
    lowest = max(0, number - UNKEPT_SEGMENTS_MAX)
    while number > lowest and chain.holder(number - 1) is not None:
        number -= 1
    return Lsn(max(number * size, size))
