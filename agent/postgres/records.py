"""A small reader of WAL pages and record heads.

Theory of operation. A segment is a row of pages; every page begins with a header
that names its own LSN and how much of a record from the page before comes first.
Records begin at multiples of 8 and run on over page headers. That much is enough to
compute where a record ends, to find the last record that begins before an LSN, and to
take the few records with which a timeline begins. Which records are valid is
pg_waldump's business; only a fingerprint checks their CRC itself, because it is
taken while the server writes.
Source: PostgreSQL's src/include/access/xlog_internal.h and xlogrecord.h; the parts
used here are the same from 9.5 to 18.
"""

import hashlib
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Fingerprint, PagePrint
from agent.core.lsn import Lsn, wal_file_name
from agent.core.pageprint import PAGE_BYTES
from agent.errors import PostgresError
from agent.postgres.crc import crc32c

BLOCK_BYTES = PAGE_BYTES
PRINT_DIGITS = 32
"""Half of a SHA-256: nobody makes two pages alike on purpose."""
FINGERPRINT_RECORDS_MAX = 64
FINGERPRINT_BYTES_MAX = 1024 * 1024
SEGMENT_BYTES_MIN = 1024 * 1024
SEGMENT_BYTES_MAX = 1024 * 1024 * 1024

_PAGE = struct.Struct("=HHIQI")  # magic, info, timeline, page address, rest length
_LONG = struct.Struct("=QII")  # system id, segment size, block size
_RECORD = struct.Struct("=IIQBBxxI")  # total length, xid, prev, info, manager, CRC
_SHORT_HEADER = 24
_LONG_HEADER = 40
_CRC_OFFSET = 20
_MAGIC_HIGH = frozenset({0xD0, 0xD1})
"""The high byte of a page's magic number: of 10 and 11, and of 12 and later."""
_LONG_FLAG = 2
_ALIGN = 8
_XLOG = 0  # the resource manager of the log itself
_KIND = 0xF0
_CHECKPOINT_SHUTDOWN = 0x00
_SWITCH = 0x40
_END_OF_RECOVERY = 0x90
_SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")

Locate = Callable[[int], Path | None]
"""From a segment number to its file; None when there is none."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record's head, and where it ends."""

    start: Lsn
    end: Lsn
    """Where the next record may begin, as PostgreSQL prints a flush position."""
    length: int
    manager: int
    info: int
    data: bytes
    """The whole record without page headers, where it was asked for; else empty."""

    @property
    def begins_timeline(self) -> bool:
        """Whether it is one of the two records that end a promotion."""
        return self.manager == _XLOG and self.info & _KIND in {
            _CHECKPOINT_SHUTDOWN,
            _END_OF_RECOVERY,
        }

    @property
    def intact(self) -> bool:
        """Whether the CRC is right; only for a record read with its data."""
        *_, stored = _RECORD.unpack_from(self.data)
        body = self.data[_RECORD.size :]
        return crc32c(body + self.data[:_CRC_OFFSET]) == int(stored)


class Segments:
    """Bytes by LSN, out of segment files of one size."""

    def __init__(self, locate: Locate, segment_bytes: int) -> None:
        self._locate = locate
        self._segment_bytes = segment_bytes

    def read(self, lsn: int, length: int) -> bytes:
        """Return up to `length` bytes from `lsn` on; fewer where files end."""
        parts: list[bytes] = []
        while length > 0:
            number, offset = divmod(lsn, self._segment_bytes)
            wanted = min(length, self._segment_bytes - offset)
            part = self._read_file(number, offset, wanted)
            parts.append(part)
            if len(part) < wanted:
                break
            lsn += wanted
            length -= wanted
        return b"".join(parts)

    def _read_file(self, number: int, offset: int, length: int) -> bytes:
        path = self._locate(number)
        if path is None:
            return b""
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(length) or b""
        except OSError as error:
            raise PostgresError(
                f"WAL segment {path} cannot be read: {error.strerror}"
            ) from error

    def page_rest(self, page: int) -> int | None:
        """Return how many bytes of an older record this page begins with.

        None when no valid page with this address is there.
        """
        raw = self.read(page, _PAGE.size)
        if len(raw) < _PAGE.size:
            return None
        magic, _, _, address, rest = _PAGE.unpack(raw)
        if magic >> 8 not in _MAGIC_HIGH or address != page:
            return None
        return int(rest)

    def header_bytes(self, page: int) -> int:
        """Return the length of the header of the page that begins here."""
        return _SHORT_HEADER if page % self._segment_bytes else _LONG_HEADER

    def after(self, lsn: int, length: int) -> int:
        """Return the position `length` record bytes past `lsn`, over page headers."""
        position = lsn
        while True:
            if position % BLOCK_BYTES == 0:
                position += self.header_bytes(position)
            room = BLOCK_BYTES - position % BLOCK_BYTES
            if length <= room:
                return position + length
            length -= room
            position += room

    def record(self, lsn: int, *, data_bytes_max: int = 0) -> Record | None:
        """Read the record that begins at `lsn`; None when none can begin there.

        At a page's start, the record is the first one after the page's header. Its
        data come along when they are not longer than `data_bytes_max`.
        """
        start = lsn
        if start % BLOCK_BYTES == 0:
            start += self.header_bytes(start)
        head = self._record_bytes(start, _RECORD.size)
        if len(head) < _RECORD.size:
            return None
        length, _, _, info, manager, _ = _RECORD.unpack(head)
        if length < _RECORD.size or length > SEGMENT_BYTES_MAX:
            return None
        end = -(-self.after(start, length) // _ALIGN) * _ALIGN
        if manager == _XLOG and info & _KIND == _SWITCH:
            end = -(-end // self._segment_bytes) * self._segment_bytes
        data = self._record_bytes(start, length) if length <= data_bytes_max else b""
        return Record(Lsn(start), Lsn(end), length, manager, info, data)

    def _record_bytes(self, start: int, length: int) -> bytes:
        """Return a record's bytes from `start` on, page headers left out."""
        parts: list[bytes] = []
        position = start
        while length > 0:
            if position % BLOCK_BYTES == 0:
                if self.page_rest(position) is None:
                    break
                position += self.header_bytes(position)
            wanted = min(length, BLOCK_BYTES - position % BLOCK_BYTES)
            parts.append(self.read(position, wanted))
            position += wanted
            length -= wanted
        return b"".join(parts)

    def last_end_before(self, limit: int, floor: int) -> Lsn | None:
        """Return the end of the last record that ends at or before `limit`.

        Meant for WAL that pg_waldump found no fault with up to `limit`. Looks back
        from there, page by page, for a record's start (the rest of a segment after a
        switch record has none). None when there is none down to `floor`.
        """
        page = (limit - 1) // BLOCK_BYTES * BLOCK_BYTES
        while page + BLOCK_BYTES > floor:
            rest = self.page_rest(page)
            if rest is not None:
                # With no rest, the record before ended with the page before.
                begin = -(-self.after(page, rest) // _ALIGN) * _ALIGN if rest else page
                if begin < page + BLOCK_BYTES and begin <= limit:
                    return self._walk(begin, limit)
            page -= BLOCK_BYTES
        return None

    def _walk(self, begin: int, limit: int) -> Lsn:
        end = begin
        while end < limit:
            record = self.record(end)
            if record is None or record.end > limit:
                break
            end = record.end
        return Lsn(end)


def segment_bytes_of(wal_dir: Path) -> int:
    """Return the WAL segment size that a segment in the folder names.

    Raises PostgresError when there is no readable segment.
    """
    try:
        names = sorted(entry.name for entry in wal_dir.iterdir())
    except OSError as error:
        raise PostgresError(f"{wal_dir} cannot be read: {error.strerror}") from error
    for name in names:
        if _SEGMENT_NAME.fullmatch(name):
            found = named_size(wal_dir / name)
            if found is not None:
                return found
    raise PostgresError(
        f"there is no readable WAL segment in {wal_dir}",
        "check that this is the pg_wal of a data directory",
    )


def named_size(path: Path) -> int | None:
    """Return the segment size that a segment's own header names.

    None when it has no header: nothing was ever written to it (a fresh segment is
    all zeros until its first record), or it is no segment.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LONG_HEADER)
    except OSError:
        return None
    if len(raw) < _LONG_HEADER:
        return None
    magic, info, *_ = _PAGE.unpack_from(raw)
    _, size, _ = _LONG.unpack_from(raw, _SHORT_HEADER)
    plausible = SEGMENT_BYTES_MIN <= size <= SEGMENT_BYTES_MAX and not size & (size - 1)
    if magic >> 8 not in _MAGIC_HIGH or not info & _LONG_FLAG or not plausible:
        return None
    return int(size)


def fingerprint(
    wal_dir: Path,
    timeline: int,
    switch_lsn: Lsn,
    *,
    segment_bytes: int | None = None,
    heirs: Sequence[tuple[int, Lsn]] = (),
) -> Fingerprint | None:
    """Return the SHA-256 of the WAL with which `timeline` began; None if it is gone.

    The bytes from `switch_lsn` through the first END_OF_RECOVERY or
    CHECKPOINT_SHUTDOWN record, page headers included: equal on every server that
    received this WAL, different between two promotions at one LSN. `heirs` are later
    timelines of the lineage with the LSN at which each began: where the timeline's
    own segment is gone, theirs may hold a copy up to that LSN.
    Raises PostgresError when a segment cannot be read.
    """
    size = segment_bytes if segment_bytes is not None else segment_bytes_of(wal_dir)
    number = switch_lsn.segment(size)
    limit = Lsn(1 << 63)
    for holder, born in ((timeline, limit), *heirs):
        if holder != timeline and born.segment(size) != number:
            continue
        for suffix in ("", ".partial"):
            path = wal_dir / (wal_file_name(holder, switch_lsn, size) + suffix)
            raw = _beginning(path, switch_lsn, size, born)
            if raw is not None:
                digest = hashlib.sha256(raw).hexdigest()
                return Fingerprint(timeline, switch_lsn, digest)
    return None


def _beginning(path: Path, start: Lsn, size: int, limit: Lsn) -> bytes | None:
    if not path.exists():
        return None
    base = start.segment(size)
    timeline = path.name[:8]

    def locate(number: int) -> Path | None:
        # The records may run on into the timeline's next segment.
        if number == base:
            return path
        name = wal_file_name(int(timeline, 16), Lsn(number * size), size)
        return path.parent / name if (path.parent / name).exists() else None

    segments = Segments(locate, size)
    position = start
    for _ in range(FINGERPRINT_RECORDS_MAX):
        record = segments.record(position, data_bytes_max=FINGERPRINT_BYTES_MAX)
        if record is None or len(record.data) < record.length or not record.intact:
            return None
        if record.end > limit or record.end - start > FINGERPRINT_BYTES_MAX:
            return None
        if record.begins_timeline:
            return segments.read(start, record.end - start)
        position = record.end
    return None


def page_print(
    wal_dir: Path, timeline: int, lsn: Lsn, segment_bytes: int
) -> PagePrint | None:
    """Return the print of the whole page that begins at `lsn`; None without one.

    The page's own header has to name the timeline and the position: a file that was
    recycled, or begun with the parent's WAL, holds other pages under this name. So has
    the next page's: until that is there, this one may be written half.
    """
    raw = _page(wal_dir, timeline, lsn, segment_bytes, BLOCK_BYTES)
    after = Lsn(lsn + BLOCK_BYTES)
    if raw is None or not _page(wal_dir, timeline, after, segment_bytes, _SHORT_HEADER):
        return None
    return PagePrint(timeline, lsn, hashlib.sha256(raw).hexdigest()[:PRINT_DIGITS])


def _page(
    wal_dir: Path, timeline: int, lsn: Lsn, segment_bytes: int, length: int
) -> bytes | None:
    """Return so much of the page that begins at `lsn`; None when it is not there."""
    path = wal_dir / wal_file_name(timeline, lsn, segment_bytes)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(lsn % segment_bytes)
            raw = file.read(length) or b""
    except OSError:
        return None
    if len(raw) < length:
        return None
    magic, _, named, address, _ = _PAGE.unpack_from(raw)
    fits = magic >> 8 in _MAGIC_HIGH and (named, address) == (timeline, lsn)
    return raw if fits else None
