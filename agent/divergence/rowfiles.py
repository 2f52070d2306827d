"""Files of rows: what the losing side wrote, and what sets it apart from the winner.

Theory of operation. One JSON array a line, compressed with zstd, so that `zstd -dc`
and any program that knows JSON can read them without us. ASCII alone, because values
may hold bytes that are no UTF-8: they stand as escaped surrogates. A file is written
aside and has its name only when it is whole and on disk; its hash is of the bytes that
lie there. Reading and writing go line by line: a file may be larger than memory.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from agent.divergence.model import Difference, DifferenceKind, Place, Values
from agent.errors import SnapshotError
from agent.snapshot.files import (
    BLOCK_BYTES,
    PRIVATE_FILE,
    fsync_path,
    read_blocks,
    write_all,
)

LEVEL = 3
"""zstd's own default: faster than rows are read."""
PIECE_BYTES = 512
"""Unpacked at once: what is all alike grows some ten thousand times."""
_AGAIN = "have the rows extracted again from the snapshot"
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class KeptRow:
    """One row that the losing side touched."""

    now: Place | None
    """Where it lies there; None: it was deleted."""
    was: Place | None
    """Where it lay at the fork; None: it was not there, or nobody can say."""
    xid: int | None
    """The transaction that left it so; None where it was deleted."""
    values: Values | None
    """Its columns; of a deleted row only where they are known."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds."""

    size: int
    """Bytes on disk."""
    sha256: str
    """Of those bytes."""
    lines: int


class LineWriter:
    """Writes one file of lines; it is there, whole, once `close` has returned.

    As a context manager it closes; after an error nothing of it remains. Its owner is
    its folder's, also where root writes. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        self._handle = os.open(self._aside, flags, PRIVATE_FILE)
        self._packer = zstandard.ZstdCompressor(LEVEL, write_checksum=True)
        self._stream = self._packer.compressobj()
        self._digest = hashlib.sha256()
        self._size = 0
        self._lines = 0
        self._waiting: list[str] = []
        self._waiting_chars = 0
        self.written: Written | None = None
        """What was written, once it is closed."""

    def line(self, plain: object) -> None:
        """Append one value."""
        text = _encode(plain)
        self._waiting.append(text)
        self._waiting_chars += len(text)
        self._lines += 1
        if self._waiting_chars > BLOCK_BYTES:
            self._spill()

    def _spill(self) -> None:
        self._waiting.append("")
        block = "\n".join(self._waiting).encode("ascii")
        self._waiting = []
        self._waiting_chars = 0
        self._put(self._stream.compress(block))

    def _put(self, block: bytes) -> None:
        self._digest.update(block)
        self._size += len(block)
        write_all(self._handle, memoryview(block))

    def close(self) -> Written:
        """Put it on disk under its name; return what it holds."""
        if self.written is None:
            if self._waiting:
                self._spill()
            self._put(self._stream.flush())
            if os.geteuid() == 0:
                owner = self._path.parent.stat()
                os.fchown(self._handle, owner.st_uid, owner.st_gid)
            os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1
            self._aside.replace(self._path)
            fsync_path(self._path.parent)
            self.written = Written(self._size, self._digest.hexdigest(), self._lines)
        return self.written

    def abandon(self) -> None:
        """Leave nothing behind, unless it is closed already."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            with suppress(OSError):
                self._aside.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abandon()


class RowWriter(LineWriter):
    """Writes rows that the losing side touched."""

    def row(
        self, now: Place, was: Place | None, xid: int | None, values: Values
    ) -> None:
        """Append a row that is there."""
        self.line(("row", now, was, xid, values))

    def gone(self, was: Place, values: Values | None = None) -> None:
        """Append a row that was deleted."""
        self.line(("gone", was, values))

    def write(self, row: KeptRow) -> None:
        """Append either."""
        if row.now is not None and row.values is not None:
            self.row(row.now, row.was, row.xid, row.values)
        elif row.was is not None:
            self.gone(row.was, row.values)
        else:
            raise ValueError("a deleted row must say where it was")


class DifferenceWriter(LineWriter):
    """Writes rows on which two sides are not agreed."""

    def write(self, difference: Difference) -> None:
        """Append one."""
        one = difference
        self.line(
            (
                one.kind.value,
                one.xid,
                one.loser,
                one.winner,
                one.fork,
                one.twin,
                one.note,
            )
        )


def read_rows(path: Path) -> Iterator[KeptRow]:
    """Yield the rows of a file. Raises SnapshotError where it is not what we wrote."""
    for number, line in _lines(path):
        try:
            yield _kept(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _garbled(path, number) from error


def read_differences(path: Path) -> Iterator[Difference]:
    """Yield the differences of a file. Raises SnapshotError likewise."""
    for number, line in _lines(path):
        try:
            yield _difference(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _garbled(path, number) from error


def read_back(path: Path) -> Written:
    """Read a file to its end, and return what it holds. Raises SnapshotError."""
    digest = hashlib.sha256()
    lines = 0
    size = 0

    def seen(block: bytes) -> None:
        nonlocal size
        digest.update(block)
        size += len(block)

    for block in _unpacked(path, seen):
        lines += block.count(b"\n")
    return Written(size, digest.hexdigest(), lines)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number. What a long one begins with is not copied."""
    number = 0
    begun: list[bytes] = []
    for block in _unpacked(path):
        *whole, rest = block.split(b"\n")
        for line in whole:
            begun.append(line)
            number += 1
            yield number, begun[0] if len(begun) == 1 else b"".join(begun)
            begun = []
        if rest:
            begun.append(rest)
    if begun:
        raise _garbled(path, number + 1)


def _unpacked(
    path: Path, seen: Callable[[bytes], None] | None = None
) -> Iterator[bytes]:
    """Yield what was compressed; `seen` is told of every block on disk."""
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        for block in _blocks(path):
            if seen is not None:
                seen(block)
            for start in range(0, len(block), PIECE_BYTES):
                yield unpacker.decompress(block[start : start + PIECE_BYTES])
    except (zstandard.ZstdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SnapshotError(f"{path} cannot be read: {reason}", _AGAIN) from error
    if not unpacker.eof or unpacker.unused_data:
        raise SnapshotError(f"{path} was changed or cut off", _AGAIN)


def _blocks(path: Path) -> Iterator[bytes]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield from read_blocks(handle, os.fstat(handle).st_size)
    finally:
        os.close(handle)


def _garbled(path: Path, number: int) -> SnapshotError:
    return SnapshotError(f"{path} is garbled in line {number}", _AGAIN)


def _kept(plain: object) -> KeptRow:
    match plain:
        case ["row", int(now), int() | None as was, int() | None as xid, list() as row]:
            return KeptRow(now, was, xid, _values(row))
        case ["gone", int(was), row]:
            return KeptRow(None, was, None, _values(row))
        case _:
            raise ValueError(plain)


def _difference(plain: object) -> Difference:
    match plain:
        case [str(kind), int() | None as xid, loser, winner, fork, twin, str(note)]:
            return Difference(
                DifferenceKind(kind),
                _values(loser),
                _values(winner),
                _values(fork),
                xid,
                _values(twin),
                note,
            )
        case _:
            raise ValueError(plain)


def _values(plain: object) -> Values | None:
    if plain is None:
        return None
    if not isinstance(plain, list):
        raise ValueError(plain)
    if not all(each is None or isinstance(each, str) for each in plain):
        raise ValueError(plain)
    return tuple(plain)
