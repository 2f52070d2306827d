"""Whether a fingerprint that was taken once still tells of this data directory.

Theory of operation. A loser that follows its twin's WAL has its own beginning
overwritten, and every server recycles old WAL: then the fingerprint that was taken
before is the only witness of a split. So it is kept for good, and forgotten only where
what it was taken of was undone: the directory is another one (a clone writes it anew),
a rewind went back to before that beginning, a base backup was put in its place, or the
whole directory was set back to an older image, so that its checkpoint went back.

While an agent reads all the time it sees each of these. One that was stopped, or a peer
that heard nothing for a while, sees where it led to at most: an image that was put back
and has caught up shows no checkpoint that went back. A switch leaves a trace of its own
then: the history file, or its mark for the archiver, which a server that comes by it
once more writes anew. Where no trace is as it was, the fingerprint is forgotten: it is
worse to accuse a healthy server than to miss one that somebody had put back unseen.
"""

from dataclasses import dataclass

from agent.core.lineage import Fingerprint
from agent.core.lsn import Lsn

START = Lsn(0)
"""What a base backup undoes begins here: all that was there before."""


@dataclass(frozen=True, slots=True)
class Label:
    """A backup label in the data directory: it was rewound, or restored."""

    mark: str
    """Its inode and time of change."""
    undone_from: Lsn | None
    """What began here or later is no more; None where it undid nothing."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a timeline's switch has left on disk besides WAL."""

    timeline: int
    traces: tuple[str, ...]
    """Inodes and times of change of its history file and of that one's archive mark;
    empty where there is neither."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What changes when a data directory is cloned, restored or rewound."""

    folder: str
    """Its inode, and inode and time of change of its PG_VERSION. No device number:
    it may be another one after each start of the machine."""
    labels: tuple[Label, ...]
    beginnings: tuple[Beginning, ...]
    """One for each timeline of its lineage but the first."""
    checkpoint_lsn: Lsn
    redo_lsn: Lsn


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed of one data directory, and what marks it had then."""

    system_id: str
    marks: Marks
    prints: tuple[Fingerprint, ...]


def undone_from(before: Marks, now: Marks) -> Lsn | None:
    """Return where in a directory what is no more began; None where nothing is gone.

    That is all of it in another directory, what a backup label undid that was not there
    before, and what is recovered anew after the checkpoint went back.
    """
    if before.folder != now.folder:
        return START
    undone = [
        one.undone_from
        for one in now.labels
        if one.undone_from is not None and one not in before.labels
    ]
    if now.checkpoint_lsn < before.checkpoint_lsn:
        undone.append(now.redo_lsn)
    return min(undone, default=None)


def surviving(
    printed: Printed, system_id: str, now: Marks, *, watched: bool
) -> tuple[Fingerprint, ...]:
    """Return those of the prints that still tell of the directory with these marks.

    `watched`: by readings that left out nothing, about a second apart.
    """
    if printed.system_id != system_id:
        return ()
    before = printed.marks
    begins = undone_from(before, now)
    return tuple(
        one
        for one in printed.prints
        if (begins is None or one.lsn < begins)
        and (watched or _is_untouched(one.timeline, before, now))
    )


def _is_untouched(timeline: int, before: Marks, now: Marks) -> bool:
    """Whether a trace of this switch is as it was, or there never was any."""
    then, today = _traces(timeline, before), _traces(timeline, now)
    return then == today or bool(then & today)


def _traces(timeline: int, marks: Marks) -> frozenset[str]:
    found = (one.traces for one in marks.beginnings if one.timeline == timeline)
    return frozenset(trace for traces in found for trace in traces)
