"""The tail: the server's WAL, copied while it is written.

Theory of operation. A segment file in pg_wal is believed only when its first page
says that it belongs where its name says: a recycled segment still carries the page
address of its former life. Of the open segment only what the server has flushed is
taken; the copy has the full segment size from its first byte on, zeros behind,
because PostgreSQL opens a shorter file without its last rows. The page on which a
copy goes on must begin as it did before: if it does not, somebody has overwritten
the server's WAL, and the kept one must not be touched by it. A position counts as
kept after fsync, never before.
"""

import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.core.lsn import Lsn, wal_file_name
from agent.errors import CaptureError
from agent.snapshot.files import (
    BLOCK_BYTES,
    PRIVATE_FILE,
    copy_hashed,
    fsync_path,
    hash_file,
)
from agent.snapshot.manifest import WAL, FileEntry
from agent.snapshot.overlap import in_batches
from agent.snapshot.segment import Segment, parse_name

PAGE_BYTES = 8192
_OVERHEAD_BYTES = 1 << 20
"""Room for the manifest and the small files that go with the WAL."""
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_HEADER = struct.Struct("=HHIQI4xQII")
"""XLogLongPageHeaderData: magic, info, timeline, page address, rest of a record,
system id, segment size, block size. Source: access/xlog_internal.h."""


Beyond = frozenset[tuple[str, tuple[int, int]]]
"""Names of segments, each with what changes when its file is written: inode, time."""


class LeftError(Exception):
    """The server is no longer on the line of WAL that is kept."""


class RecycledError(Exception):
    """A segment was gone, or another one, before it could be copied."""


class WalTail:
    """Follows one server's pg_wal into the snapshot's `wal` folder."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        segment_bytes: int,
        system_id: str,
        crash: Callable[[str], None],
    ) -> None:
        self._source = source
        self._keep = folder / WAL
        self._size = segment_bytes
        self._system_id = int(system_id)
        self._crash = crash
        self._closed: dict[str, FileEntry] = {}
        self._copied: dict[str, int] = {}
        """Bytes known to be kept of segments that are not closed."""
        self._held: tuple[Segment, int] | None = None
        """The open segment and a handle on its file, whatever becomes of its name."""
        self._beyond: dict[str, tuple[int, int]] = {}
        self._wanted: Lsn = Lsn(0)
        self.spare: Callable[[int], None] = lambda _: None
        """Asked before so many bytes are written; raises NoRoomError to forbid it."""
        self.start_lsn: Lsn | None = None
        self.tail_lsn: Lsn | None = None
        self.timeline: int | None = None

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """What is kept, for the manifest."""
        still_open = (
            FileEntry(f"{WAL}/{name}", self._size, None, PRIVATE_FILE)
            for name in self._copied
            if name not in self._closed
        )
        return (*self._closed.values(), *still_open)

    @property
    def beyond(self) -> Beyond:
        """Segments that were copied without knowing how much of them counts."""
        return frozenset(self._beyond.items())

    def begin(self, start: Lsn) -> None:
        """Keep WAL from here on."""
        self._wanted = start

    def resume(
        self, entries: tuple[FileEntry, ...], start: Lsn, timeline: int, tail: Lsn
    ) -> None:
        """Take up what an earlier run of the agent had kept, per its manifest."""
        self.begin(start)
        self.start_lsn, self.tail_lsn, self.timeline = start, tail, timeline
        open_name = wal_file_name(timeline, tail, self._size)
        for entry in entries:
            name = Path(entry.path).name
            if entry.sha256 is not None:
                self._closed[name] = entry
            else:
                known = int(tail) % self._size if name == open_name else 0
                self._copied[name] = known

    def advance(self, timeline: int, upto: Lsn, urgent: Lsn | None = None) -> bool:
        """Copy what is new up to `upto` on `timeline`; return whether anything was.

        With `urgent` only what lies past it. Raises LeftError, RecycledError,
        CaptureError, OSError.
        """
        self._keep.mkdir(mode=0o700, exist_ok=True)
        before = (self.tail_lsn, self.start_lsn, self.timeline, len(self._closed))
        self._copy_histories()
        last = upto.segment(self._size)
        first = max(self._wanted, urgent or self._wanted).segment(self._size)
        first = min(first, last)
        self._close_segments(self._segments(timeline, first, last))
        for number in range(first, last):
            self._recover(number, timeline)
        offset = int(upto) % self._size
        if offset:
            name = wal_file_name(timeline, upto, self._size)
            self._extend(Segment(name, timeline, last), offset)
            self._hold(Segment(name, timeline, last))
        fsync_path(self._keep)
        self.start_lsn = Lsn(max(int(self._wanted), first * self._size))
        self.timeline, self.tail_lsn = timeline, upto
        after = (self.tail_lsn, self.start_lsn, self.timeline, len(self._closed))
        return before != after

    def take_beyond(self, upto: Lsn) -> None:
        """Copy what lies behind the end that is known, as it is now.

        It counts for nothing, and is copied again once more is known.
        """
        for segment in self._segments(None, upto.segment(self._size), None):
            found = (self._source / segment.name).stat()
            mark = (found.st_ino, found.st_mtime_ns)
            if self._beyond.get(segment.name) == mark or not self._belongs(segment):
                continue
            self._closed.pop(segment.name, None)
            known = self._copied.pop(segment.name, 0)
            self._extend(segment, self._size)
            self._copied[segment.name] = known
            self._beyond[segment.name] = mark

    def take_rest(self) -> None:
        """Copy every other segment that is what its name says: the server stands."""
        for segment in self._segments(None, self._wanted.segment(self._size), None):
            if segment.name not in self._copied:
                self._close_segment(segment)

    def step_back(self, upto: Lsn) -> None:
        """Forget what was kept past `upto` on the current timeline.

        A crash may undo WAL that was flushed in the middle of a record; the server
        then writes other records over it. Raises OSError.
        """
        number, offset = upto.segment(self._size), int(upto) % self._size
        for name in (*self._closed, *self._copied):
            segment = parse_name(name, self._size)
            if segment is None or segment.timeline != self.timeline:
                continue
            if segment.number >= number:
                self._cut(name, offset if segment.number == number else 0)
        self.tail_lsn = upto

    def _cut(self, name: str, offset: int) -> None:
        """Keep so many bytes of a segment, zeros behind, or nothing of it."""
        self._closed.pop(name, None)
        self._copied.pop(name, None)
        target = self._keep / name
        if offset == 0:
            target.unlink(missing_ok=True)
            return
        os.truncate(target, offset)
        os.truncate(target, self._size)
        fsync_path(target)
        self._copied[name] = offset

    def _segments(
        self, timeline: int | None, first: int, last: int | None
    ) -> list[Segment]:
        """Return the segments that nobody writes to, in the order of the log."""
        found = []
        for name in os.listdir(self._source):  # noqa: PTH208 - many names, often
            segment = parse_name(name, self._size)
            if segment is None or segment.number < first:
                continue
            if timeline is not None and segment.timeline > timeline:
                continue
            current = segment.timeline == timeline
            if current and last is not None and segment.number >= last:
                continue
            found.append(segment)
        return sorted(found, key=lambda each: (each.number, each.timeline))

    def _close_segments(self, segments: list[Segment]) -> None:
        """Keep whole segments; many are copied before they are put on the disk."""
        new = [each for each in segments if each.name not in self._closed]
        if len(new) == 1:
            self._close_segment(new[0])
            return
        ours = (each for each in new if self._belongs(each))
        for segment, entry in in_batches(ours, self._write, self._settled):
            self._closed[segment.name] = entry
            self._copied.pop(segment.name, None)

    def _write(self, segment: Segment) -> None:
        self._extend(segment, self._size, settle=False)

    def _settled(self, segment: Segment) -> FileEntry:
        fsync_path(self._keep / segment.name)
        return self._entry(segment.name)

    def _close_segment(self, segment: Segment) -> None:
        """Keep a whole segment, unless it is another one than its name says."""
        if segment.name in self._closed or not self._belongs(segment):
            return
        self._extend(segment, self._size)
        self._closed[segment.name] = self._entry(segment.name)
        self._copied.pop(segment.name, None)

    def _recover(self, number: int, timeline: int) -> None:
        """Close the segment of this number, if none is closed yet, wherever it is."""
        names = [n for n in (*self._closed, *self._copied) if self._number(n) == number]
        if any(name in self._closed for name in names):
            return
        name = max(names) if names else self._find(number, timeline)[0]
        found = parse_name(name, self._size)
        if found is None:
            raise RecycledError(name)
        self._extend(found, self._size)
        self._closed[name] = self._entry(name)
        self._copied.pop(name, None)

    def _number(self, name: str) -> int:
        segment = parse_name(name, self._size)
        return -1 if segment is None else segment.number

    def _find(self, number: int, timeline: int) -> tuple[str, Path]:
        """Return what a segment was called, and the file that now has its bytes."""
        for name in os.listdir(self._source):  # noqa: PTH208 - many names
            if parse_name(name, self._size) is None:
                continue
            header = self._header(self._source / name)
            if len(header) == _HEADER.size:
                born = int(_HEADER.unpack(header)[2])
                first = Lsn(number * self._size)
                was = Segment(wal_file_name(born, first, self._size), born, number)
                if born <= timeline and self._is(was, header):
                    return was.name, self._source / name
        raise RecycledError(f"segment {number} of timeline {timeline}")

    def _header(self, path: Path) -> bytes:
        try:
            with path.open("rb", buffering=0) as file:
                return file.read(_HEADER.size)
        except FileNotFoundError:
            return b""

    def _hold(self, segment: Segment) -> None:
        """Keep the open segment's file open."""
        if self._held is None or self._held[0] != segment:
            self.close()
            self._held = segment, self._handle(segment)

    def close(self) -> None:
        """Let go of the file that is kept open."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held[1])

    def _handle(self, segment: Segment) -> int:
        """Open the segment where it is; raise RecycledError when it is nowhere."""
        with suppress(FileNotFoundError):
            handle = os.open(self._source / segment.name, os.O_RDONLY)
            if self._is(segment, os.pread(handle, _HEADER.size, 0)):
                return handle
            os.close(handle)
        if self._held is not None and self._held[0] == segment:
            return os.dup(self._held[1])
        with suppress(FileNotFoundError):
            return os.open(self._find(segment.number, segment.timeline)[1], os.O_RDONLY)
        raise RecycledError(segment.name)

    def _entry(self, name: str) -> FileEntry:
        sha256 = hash_file(self._keep / name)
        return FileEntry(f"{WAL}/{name}", self._size, sha256, PRIVATE_FILE)

    def _belongs(self, segment: Segment) -> bool:
        return self._is(segment, self._header(self._source / segment.name))

    def _is(self, segment: Segment, header: bytes) -> bool:
        """Whether a first page's header belongs to this very segment."""
        if len(header) < _HEADER.size:
            return False
        _, _, timeline, address, _, system_id, size, _ = _HEADER.unpack_from(header)
        return bool(
            address == segment.number * self._size
            and timeline <= segment.timeline
            and system_id == self._system_id
            and size == self._size
        )

    def _extend(self, segment: Segment, upto: int, *, settle: bool = True) -> None:
        """Bring the copy of a segment to `upto` bytes, with `settle` on the disk."""
        known = self._copied.get(segment.name, 0)
        if known >= upto:
            return
        if known == 0:
            self._check_seam(segment)
        self.spare(upto - known + _OVERHEAD_BYTES)
        reading = self._handle(segment)
        try:
            self._still(segment, reading)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            writing = os.open(self._keep / segment.name, flags, PRIVATE_FILE)
            try:
                os.ftruncate(writing, self._size)
                self._copy_range(segment, reading, writing, (known, upto))
                self._still(segment, reading)
                if settle:
                    os.fsync(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        if settle:
            self._copied[segment.name] = upto

    def _check_seam(self, segment: Segment) -> None:
        """See that the segment before still ends as the kept one does.

        A crash may have undone its end, and the server written over it since.
        """
        before = Lsn((segment.number - 1) * self._size) if segment.number else Lsn(0)
        name = wal_file_name(segment.timeline, before, self._size)
        last = Segment(name, segment.timeline, segment.number - 1)
        if name not in self._closed or not self._belongs(last):
            return
        ends = []
        for folder in (self._source, self._keep):
            with (folder / name).open("rb", buffering=0) as file:
                file.seek(self._size - PAGE_BYTES)
                ends.append(file.read(PAGE_BYTES))
        if ends[0] != ends[1] and self._belongs(last):
            raise LeftError(f"{name} was overwritten")

    def _copy_range(
        self, segment: Segment, reading: int, writing: int, span: tuple[int, int]
    ) -> None:
        known, upto = span
        at = max(known - 1, 0) // PAGE_BYTES * PAGE_BYTES
        kept = os.pread(writing, known - at, at)
        while at < upto:
            block = os.pread(reading, min(BLOCK_BYTES, upto - at), at)
            if not block:
                raise CaptureError(f"{segment.name} is shorter than a WAL segment")
            if kept and not block.startswith(kept):
                raise LeftError(f"{segment.name} was overwritten")
            fresh = block[len(kept) :]
            os.pwrite(writing, fresh, at + len(kept))
            at, kept = at + len(block), b""
            self._crash("during-tail")

    def _still(self, segment: Segment, reading: int) -> None:
        """See that what was read was not overwritten: the first page goes first."""
        if not self._is(segment, os.pread(reading, _HEADER.size, 0)):
            raise RecycledError(segment.name)

    def _copy_histories(self) -> None:
        for name in os.listdir(self._source):  # noqa: PTH208 - many names, often
            if _HISTORY.fullmatch(name) is None or name in self._closed:
                continue
            target = self._keep / name
            target.unlink(missing_ok=True)
            copied = copy_hashed(self._source / name, target)
            fsync_path(target)
            self._closed[name] = FileEntry(
                f"{WAL}/{name}", copied.size, copied.sha256, copied.mode
            )
