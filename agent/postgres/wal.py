"""The write-ahead log on disk: where it ends, whether it is whole, what it began with.

Theory of operation. pg_waldump of the server's own version reads and checks every
record (its CRC, its link to the one before, its pages), so it decides where valid
WAL ends; nothing of that is rebuilt here. Only the end of its last good record is
computed from the files. A run over a timeline switch needs segments of several
timelines: the first segment of a new timeline holds a copy of the old one's WAL up
to the switch, so for each segment the newest timeline of the lineage that has it is
taken, and all are shown to pg_waldump under one timeline's names in a folder of links.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Fingerprint, Lineage
from agent.core.lsn import Lsn
from agent.postgres.programs import Programs


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One WAL segment file in a folder."""

    path: Path
    timeline: int
    number: int
    """The segment's number: its first LSN divided by the segment size."""
    size: int
    partial: bool
    """Whether its name ends in `.partial`: the last one of a timeline that was left."""


def list_segments(wal_dir: Path, segment_bytes: int) -> tuple[SegmentFile, ...]:
    """Return the segment files, ordered by timeline and number. PostgresError."""
    raise NotImplementedError


def segment_bytes_of(wal_dir: Path) -> int:
    """Return the segment size that the first readable segment names. PostgresError."""
    raise NotImplementedError


def end_of_wal(
    programs: Programs, wal_dir: Path, timeline: int, start: Lsn, segment_bytes: int
) -> Lsn:
    """Return the end of the last valid record from `start` on, on `timeline`.

    `start` is a record's start, or a timeline switch. Follows the switches of
    `timeline`'s history. The result is aligned as PostgreSQL prints a flush position.
    Raises PostgresError when nothing is there at `start`.
    """
    raise NotImplementedError


def check_chain(
    programs: Programs, wal_dir: Path, lineage: Lineage, start: Lsn, end: Lsn
) -> Lsn:
    """Return how far the records from `start` are valid and without a gap, up to `end`.

    The chain is whole when the result equals `end`. Raises PostgresError only when
    it cannot be found out (a program is missing, a folder unreadable).
    """
    raise NotImplementedError


def fingerprint(wal_dir: Path, timeline: int, switch_lsn: Lsn) -> Fingerprint | None:
    """Return the fingerprint of the WAL with which `timeline` began; None if gone."""
    raise NotImplementedError
