"""The records of the write-ahead log, in the words of the server's own reader.

Theory of operation. pg_waldump of the server's version reads, checks and prints; its
lines are handed on as they come, so that a long log needs no memory. It stops at the
end that it is told; a record before it that is not whole is an error, because what
stands behind it must not be left out unsaid. Which line pointers a MULTI_INSERT filled
it does not print: those two bytes each are read from the record itself, whose head
`records` knows.
Source: src/include/access/heapam_xlog.h (xl_heap_multi_insert) and xlogrecord.h, the
same from 10 to 18.
"""

import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.owner import owner_of, reaches
from agent.postgres.programs import Programs, clean_environment, last_lines
from agent.postgres.records import Segments
from agent.postgres.wal import Chain, links

TIMEOUT_S = 1800.0
"""For one reading; about 1 GB of log is printed in ten seconds."""
_NOTHING = "could not find a valid record after"
_RECORD_BYTES_MAX = 1024 * 1024
_HEAD_BYTES = 24
_LONG_DATA, _SHORT_DATA = 254, 255
_ORIGIN, _TOP_XID = 253, 252
_HAS_IMAGE, _SAME_FILE = 0x10, 0x80
_IMAGE_HAS_HOLE, _COMPRESSED_BEFORE_15, _COMPRESSED = 0x01, 0x02, 0x1C
_FILE_BYTES, _BLOCK_BYTES = 12, 4
_VERSION_15 = 15
_OFFSETS_AT = 4


def dump(
    programs: Programs,
    chain: Chain,
    start: Lsn,
    end: Lsn,
    *,
    timeout_s: float = TIMEOUT_S,
    options: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield what pg_waldump prints of the records from `start` up to `end`.

    `start` need not be a record's start: the first one after it comes first. Raises
    PostgresError when the log cannot be read, ends before `end`, or the reading takes
    longer than `timeout_s`. Whoever stops early closes the generator.
    """
    files = chain.present(start, end)
    if not files or (files[-1].number + 1) * chain.segment_bytes < end:
        raise PostgresError(
            f"the log from {start} to {end} is not whole in {chain.wal_dir}",
            "it was recycled or removed",
        )
    with (
        links(chain.wal_dir, files, chain.timeline, chain.segment_bytes) as folder,
        tempfile.TemporaryFile() as complaints,
    ):
        command = [
            str(programs.path("pg_waldump")), "-p", str(folder), "-t",
            str(chain.timeline), "-s", str(start), "-e", str(end), *options,
        ]  # fmt: skip
        yield from _printed(command, chain, complaints, timeout_s)


def _printed(
    command: list[str], chain: Chain, complaints: IO[bytes], timeout_s: float
) -> Iterator[str]:
    printed = False
    with _started(command, chain, complaints, timeout_s) as (process, output):
        for line in output:
            printed = True
            yield line.decode("utf-8", "replace").rstrip("\n")
        code = process.wait()
    if code == -signal.SIGKILL:
        raise PostgresError(f"pg_waldump took longer than {timeout_s:g} s")
    if code == 0:
        return
    complaints.seek(0)
    said = complaints.read().decode("utf-8", "replace")
    if printed or _NOTHING not in said:  # else nothing was written past the start
        raise PostgresError(
            f"pg_waldump cannot read {chain.wal_dir}: {last_lines(said)}",
            "the log there was overwritten, removed or damaged",
        )


@contextmanager
def _started(
    command: list[str], chain: Chain, complaints: IO[bytes], timeout_s: float
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """Run a program for the length of a `with`, and no longer than `timeout_s`."""
    owner = owner_of(chain.wal_dir)
    # Root reads a kept copy in its own closed folder itself: pg_waldump only reads.
    identity = owner.identity() if reaches(owner, chain.wal_dir) else {}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,
            **identity,
        )
    except OSError as error:
        raise PostgresError(
            f"{command[0]} cannot be started: {error.strerror}"
        ) from error
    watchdog = threading.Timer(timeout_s, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        with cast("IO[bytes]", process.stdout) as output:
            yield process, output
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def filled_offsets(chain: Chain, lsn: Lsn, major: int) -> tuple[int, ...]:
    """Return the line pointers that the MULTI_INSERT at `lsn` filled, in its order.

    Only for one that does not begin an empty page: that one fills 1, 2, 3 and so on.
    Raises PostgresError when the record cannot be read.
    """
    segments = Segments(chain.locate, chain.segment_bytes)
    record = segments.record(lsn, data_bytes_max=_RECORD_BYTES_MAX)
    if record is None or len(record.data) < record.length:
        raise PostgresError(f"the WAL record at {lsn} cannot be read")
    try:
        main = _main_data(record.data, major)
        (count,) = struct.unpack_from("<H", main, 2)
        return struct.unpack_from(f"<{count}H", main, _OFFSETS_AT)
    except (struct.error, IndexError) as error:
        raise PostgresError(f"the WAL record at {lsn} is garbled") from error


def _main_data(data: bytes, major: int) -> bytes:
    """Return a record's main data, which stand at its end."""
    at = _HEAD_BYTES
    while True:
        block = data[at]
        if block == _SHORT_DATA:
            return data[len(data) - data[at + 1] :]
        if block == _LONG_DATA:
            (length,) = struct.unpack_from("<I", data, at + 1)
            return data[len(data) - length :]
        if block == _ORIGIN:
            at += 3
        elif block == _TOP_XID:
            at += 5
        else:
            at = _after_block(data, at, major)


def _after_block(data: bytes, at: int, major: int) -> int:
    """Return where the head after a block reference's head begins."""
    flags = data[at + 1]
    at += 4
    if flags & _HAS_IMAGE:
        info = data[at + 4]
        at += 5
        compressed = _COMPRESSED if major >= _VERSION_15 else _COMPRESSED_BEFORE_15
        if info & compressed and info & _IMAGE_HAS_HOLE:
            at += 2
    if not flags & _SAME_FILE:
        at += _FILE_BYTES
    return at + _BLOCK_BYTES
