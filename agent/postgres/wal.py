"""The write-ahead log on disk: where it ends, and whether it is whole.

Theory of operation. pg_waldump of the server's own version reads and checks every
record (its CRC, its link to the one before, its pages), so it decides where valid
WAL ends; nothing of that is rebuilt here. It prints nothing but the complaint at
which it stopped, which names the start of the last good record; where that record
ends is computed from the files. A run over a timeline switch needs segments of
several timelines: the first segment of a new timeline holds a copy of the old one's
WAL up to the switch, so for each segment the newest timeline of the lineage that was
born by then is taken, and all are shown to pg_waldump under one timeline's names, in
a folder of links. The folder ends before the first missing segment and pg_waldump is
told so: it would otherwise wait five seconds for that file to appear.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Lineage, Switch, births
from agent.core.lsn import Lsn, wal_file_name
from agent.errors import PostgresError
from agent.postgres.history import read_switches
from agent.postgres.owner import make_folder, owner_of, reaches
from agent.postgres.programs import Finished, Programs
from agent.postgres.records import (
    BLOCK_BYTES,
    Segments,
    fingerprint,
    named_size,
    segment_bytes_of,
)

__all__ = [
    "Chain",
    "SegmentFile",
    "check_chain",
    "created_tablespaces",
    "end_of_wal",
    "fingerprint",
    "is_segment",
    "links",
    "list_segments",
    "record_end",
    "segment_bytes_of",
]

TIMEOUT_S = 600.0
"""For one run of pg_waldump; it reads about 1 GB in a second."""
SEGMENTS_MAX = 65_536
"""More than this many segments in one run are refused: 1 TiB of the usual size."""
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_LAST_GOOD = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+)")
_NOTHING = re.compile(r"could not find a valid record after")
_CREATED = re.compile(r'desc: CREATE [0-9]+ "(.+)"$', re.MULTILINE)
_LATER = re.compile(r"first record is after [0-9A-F]+/[0-9A-F]+, at [0-9A-F]+/")


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


def is_segment(name: str) -> bool:
    """Whether this is the name of a whole segment file."""
    match = _NAME.fullmatch(name)
    return match is not None and match[4] is None


def list_segments(wal_dir: Path, segment_bytes: int) -> tuple[SegmentFile, ...]:
    """Return the segment files, ordered by timeline and number.

    Raises PostgresError when the folder cannot be read. A file that vanishes
    meanwhile is left out.
    """
    found: list[SegmentFile] = []
    per_id = 0x1_0000_0000 // segment_bytes
    try:
        with os.scandir(wal_dir) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    continue
                timeline, high, low = (int(part, 16) for part in match.groups()[:3])
                found.append(
                    SegmentFile(
                        Path(entry.path),
                        timeline,
                        high * per_id + low,
                        size,
                        match[4] is not None,
                    )
                )
    except OSError as error:
        raise PostgresError(
            f"{wal_dir} cannot be read: {error.strerror}",
            "run the agent as the data directory's owner",
        ) from error
    return tuple(sorted(found, key=lambda f: (f.timeline, f.number, f.partial)))


def end_of_wal(
    programs: Programs, wal_dir: Path, timeline: int, start: Lsn, segment_bytes: int
) -> Lsn:
    """Return the end of the last valid record from `start` on, on `timeline`.

    `start` is a record's start, or a switch LSN of the timeline's history, whose
    ancestors are followed. The result is aligned as PostgreSQL prints a flush
    position. About 0.03 s for 16 MB. Raises PostgresError when no valid record begins
    at `start`, unless `timeline` itself begins there (nothing was written to it).
    """
    chain = Chain(wal_dir, read_switches(wal_dir, timeline), timeline, segment_bytes)
    found = chain.follow(programs, start, None)
    if found is not None:
        return found
    if chain.switches and start == chain.switches[-1].lsn:
        return start
    raise PostgresError(
        f"no valid WAL record begins at {start} on timeline {timeline} in {wal_dir}",
        "the WAL there was recycled, removed or damaged",
    )


def check_chain(
    programs: Programs, wal_dir: Path, lineage: Lineage, start: Lsn, end: Lsn
) -> Lsn:
    """Return how far the records from `start` are valid and without a gap, up to `end`.

    The chain is whole when the result equals `end`, which has to be a record's end: one
    that lies within a record is never reached. `wal_dir` is any folder of
    segment files; the switches are the lineage's, no history file is needed. Raises
    PostgresError only when it cannot be found out (a program is missing, a folder
    unreadable, no segment in it).
    """
    size = segment_bytes_of(wal_dir)
    chain = Chain(wal_dir, lineage.switches, lineage.timeline, size)
    return chain.follow(programs, start, end) or start


def record_end(
    wal_dir: Path, timeline: int, start: Lsn, segment_bytes: int
) -> Lsn | None:
    """Return where the record ends that begins at `start`, without checking it.

    `start` lies on `timeline` or one of its ancestors. None when its WAL is not
    there. Raises PostgresError when a history file or a segment cannot be read.
    """
    chain = Chain(wal_dir, read_switches(wal_dir, timeline), timeline, segment_bytes)
    record = Segments(chain.locate, segment_bytes).record(start)
    return record.end if record is not None else None


def created_tablespaces(
    programs: Programs, wal_dir: Path, timeline: int, start: Lsn, segment_bytes: int
) -> tuple[str, ...]:
    """Return the locations of tablespaces that the WAL from `start` on creates.

    Replaying such a record points the tablespace at that location again, whatever
    its link led to before, and writes there. Raises PostgresError.
    """
    chain = Chain(wal_dir, read_switches(wal_dir, timeline), timeline, segment_bytes)
    printed = chain.select(programs, start, "Tablespace")
    return tuple(match[1] for match in _CREATED.finditer(printed))


class Chain:
    """The segments of one folder that belong to one lineage.

    `switches` are the lineage's ancestors, ascending. Raises PostgresError when the
    folder cannot be read.
    """

    def __init__(
        self,
        wal_dir: Path,
        switches: tuple[Switch, ...],
        timeline: int,
        segment_bytes: int,
    ) -> None:
        self.switches = switches
        self._wal_dir = wal_dir
        self._timeline = timeline
        self._size = segment_bytes
        self._files = {
            (file.timeline, file.number): file
            for file in reversed(list_segments(wal_dir, segment_bytes))
        }  # reversed: a whole segment hides its `.partial` namesake
        self._births = births(switches, timeline)[::-1]

    @property
    def segment_bytes(self) -> int:
        """The size of a segment."""
        return self._size

    @property
    def wal_dir(self) -> Path:
        """The folder that they are in."""
        return self._wal_dir

    @property
    def timeline(self) -> int:
        """The lineage's last timeline."""
        return self._timeline

    def holder(self, number: int) -> SegmentFile | None:
        """Return the file that holds this segment of the lineage's WAL.

        That is the newest timeline's that was born at or before the segment's end. An
        older one's differs from the lineage past the switch, so it is no substitute.
        """
        for born, lsn in self._births:
            if lsn.segment(self._size) <= number:
                return self._files.get((born, number))
        first = self.switches[0].timeline if self.switches else self._timeline
        return self._files.get((first, number))

    def follow(self, programs: Programs, start: Lsn, end: Lsn | None) -> Lsn | None:
        """Return the end of valid WAL from `start`; None when nothing is there."""
        present = self.present(start, end)
        if not present:
            return None
        # A file that was cut off ends the run at its last whole page.
        whole = present[-1].size // BLOCK_BYTES * BLOCK_BYTES
        limit = Lsn(present[-1].number * self._size + min(whole, self._size))
        if end is not None and end < limit:
            limit = end
        if limit <= start:
            return end if end == start else None
        finished = self._dump(programs, ["--quiet"], present, start, limit)
        return self._judge(finished, start, limit)

    def select(self, programs: Programs, start: Lsn, manager: str) -> str:
        """Return what pg_waldump prints of one resource manager's records."""
        present = self.present(start, None)
        if not present:
            return ""
        limit = Lsn((present[-1].number + 1) * self._size)
        return self._dump(programs, ["-r", manager], present, start, limit).stdout

    def _dump(
        self,
        programs: Programs,
        options: Sequence[str],
        files: Sequence[SegmentFile],
        start: Lsn,
        limit: Lsn,
    ) -> Finished:
        # Root reads a kept copy in its own closed folder itself: pg_waldump only reads.
        reachable = reaches(owner_of(self._wal_dir), self._wal_dir)
        with links(self._wal_dir, files, self._timeline, self._size) as folder:
            return programs.run(
                [
                    "pg_waldump", *options, "-p", folder, "-t", str(self._timeline),
                    "-s", str(start), "-e", str(limit),
                ],
                as_owner_of=self._wal_dir if reachable else None,
                timeout_s=TIMEOUT_S,
                check=False,
            )  # fmt: skip

    def present(self, start: Lsn, end: Lsn | None) -> tuple[SegmentFile, ...]:
        """Return the files from `start` on, up to the first gap or the end.

        A segment without a header counts as a gap.
        """
        present: list[SegmentFile] = []
        number = start.segment(self._size)
        last = number + SEGMENTS_MAX
        if end is not None:
            last = min(last, (max(end, start + 1) - 1) // self._size + 1)
        while number < last:
            file = self.holder(number)
            if file is None:
                break
            # A standby that was stopped just after a segment switch has the next
            # segment allocated, all zeros. Nothing valid lies in it, and pg_waldump
            # gives up when that happens to be the file from which it takes the size.
            if named_size(file.path) != self._size:
                break
            present.append(file)
            if file.size < self._size:
                break
            number += 1
        return tuple(present)

    def _judge(self, finished: Finished, start: Lsn, limit: Lsn) -> Lsn | None:
        said = finished.stdout + finished.stderr
        if _LATER.search(said) and start % BLOCK_BYTES:
            return None  # `start` lies within a record
        segments = Segments(self.locate, self._size)
        if finished.exit_code == 0:
            # It also stops without a complaint at a record that does not end by the
            # limit, be it that its length is damaged: only the last page can hide that.
            return segments.last_end_before(limit, start)
        last = _LAST_GOOD.search(said)
        if last is not None:
            record = segments.record(Lsn.parse(last[1]))
            return record.end if record is not None else None
        if _NOTHING.search(said):
            return None
        raise PostgresError(
            f"pg_waldump cannot read {self._wal_dir}: {finished.last_lines}",
            "check that the WAL is of the programs' version",
        )

    def locate(self, number: int) -> Path | None:
        """Return the path of the file that holds this segment."""
        file = self.holder(number)
        return file.path if file is not None else None


@contextmanager
def links(
    wal_dir: Path, files: Sequence[SegmentFile], timeline: int, segment_bytes: int
) -> Iterator[Path]:
    """Show these files under one timeline's names, readable for the folder's owner."""
    folder = make_folder(owner_of(wal_dir), "splitguard-wal-")
    try:
        for file in files:
            first = Lsn(file.number * segment_bytes)
            link = folder / wal_file_name(timeline, first, segment_bytes)
            link.symlink_to(file.path.absolute())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
