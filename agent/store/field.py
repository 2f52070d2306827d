"""The field journal: recorded rounds as a file that travels.

Theory of operation. The file is lines of JSON: a header that says whose rounds these
are and in which form, then the journal's own lines from a start on, and an end with
their number and SHA-256. So a file that was cut short or changed on the way is known
for one before anything in it is believed; somebody who means to deceive can make a
new end, of course. It holds what was seen of servers, agents and managers, and neither
rows nor secrets. Everything in it is bounded, because it comes from elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent import codec
from agent.core.replay import Outcome
from agent.errors import CodecError, JournalError
from agent.ports import Rounds
from agent.store.rounds import GAP, Decoder, Gap, Noted, Start, lines_of

FORMAT = 1
"""Counts up when an older splitguard could not read what a newer one writes."""
HEADER_BYTES_MAX = 64 << 10
LINE_BYTES_MAX = 32 << 20
"""A start with a full ledger has a few megabytes."""
FILE_BYTES_MAX = 4 << 30
"""The ring holds far less."""
FIRST = 2
"""The number of the line behind the header."""
HINT = "export it again: `splitguard journal export`"


@dataclass(frozen=True, slots=True)
class Header:
    """Whose rounds a file holds, and who wrote it."""

    splitguard_journal: int
    """The form of the file; see FORMAT."""
    agent: str
    """The version of Splitguard that exported it."""
    cluster: str
    node: str
    exported_wall_s: float
    since_wall_s: float | None
    """From when on rounds were wanted; None for all that are kept."""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a file, and the number of its line."""

    number: int
    entry: Start | Noted | Outcome | Gap


def exported(rounds: Rounds, header: Header) -> Iterator[bytes]:
    """Yield the file, in pieces that end with a line. Blocking.

    Raises JournalError when the journal holds no rounds, and CodecError when they are
    damaged; a file that broke off has no end and is known by that.
    """
    after = rounds.recorded_from(header.since_wall_s or 0.0)
    chunk = rounds.recorded(after)
    if chunk is None or not chunk.starts:
        raise JournalError(
            "the journal holds no rounds yet",
            "an agent writes the first ones within seconds of its start",
        )
    digest, count, last = hashlib.sha256(), 0, chunk.seq - 1
    piece = (codec.to_json(header) + "\n").encode()
    while chunk is not None:
        digest.update(piece)
        yield piece
        # Rounds that were given up meanwhile leave a gap, behind which only a chunk
        # that starts a segment can be read.
        follows = chunk.starts or chunk.seq == last + 1
        lines = lines_of(chunk) if follows else []
        if chunk.starts and chunk.seq != last + 1:
            lines.insert(0, GAP)
        last = chunk.seq if follows else last
        count += len(lines)
        piece = b"".join(line + b"\n" for line in lines)
        chunk = rounds.recorded(chunk.seq)
    digest.update(piece)
    yield piece
    end = {"end": {"lines": count, "sha256": digest.hexdigest()}}
    yield (json.dumps(end) + "\n").encode()


class FieldJournal:
    """A file with rounds, checked from its header to its end before it is opened.

    Raises JournalError, which says what is wrong with it and what to do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self.header, self.lines = self._checked(file)

    def read(self) -> Iterator[Line]:
        """Yield the entries in order. Raises JournalError with the line's number."""
        decoder = Decoder()
        with self._opened() as file:
            file.readline(HEADER_BYTES_MAX)
            for number in range(2, self.lines + 2):
                try:
                    entry = decoder.entry(file.readline(LINE_BYTES_MAX))
                except CodecError as error:
                    raise self._error(f"line {number}: {error.message}") from error
                if number == FIRST and not isinstance(entry, Start):
                    raise self._error("its first entry is no start")
                yield Line(number, entry)

    def _opened(self) -> BinaryIO:
        try:
            if not self._path.is_file():
                reason = "is no file" if self._path.exists() else "is missing"
                raise JournalError(f"{self._path}: {reason}", "name an exported one")
            if self._path.stat().st_size > FILE_BYTES_MAX:
                raise self._error(
                    f"is larger than {FILE_BYTES_MAX >> 30} GiB, which no journal"
                    " exports"
                )
            return self._path.open("rb")
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def _checked(self, file: BinaryIO) -> tuple[Header, int]:
        """Read the file once and compare it with what its end says."""
        first = file.readline(HEADER_BYTES_MAX)
        header = self._header(first)
        digest, count, held = hashlib.sha256(first), 0, b""
        while line := file.readline(LINE_BYTES_MAX):
            if held:
                digest.update(held)
                count += 1
            if not line.endswith(b"\n"):
                if len(line) == LINE_BYTES_MAX:
                    raise self._error(f"line {count + 2} is absurdly long")
                raise self._error(f"is cut short in line {count + 2}")
            held = line
        end = _end(held)
        if end is None:
            raise self._error("is cut short: its last line is no end")
        if end != (count, digest.hexdigest()):
            raise self._error(
                "was changed on its way: its lines are not those of its end"
            )
        if count == 0:
            raise self._error("holds no rounds")
        return header, count

    def _header(self, line: bytes) -> Header:
        try:
            plain = json.loads(line)
            form = plain["splitguard_journal"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise self._error("is no exported journal") from error
        if form != FORMAT:
            raise JournalError(
                f"{self._path}: has format {str(form)[:20]}, this splitguard knows"
                f" {FORMAT}",
                "replay it with the version of splitguard that exported it",
            )
        try:
            return codec.from_plain(plain, Header)
        except CodecError as error:
            raise self._error(f"its header is damaged: {error.message}") from error

    def _error(self, reason: str) -> JournalError:
        return JournalError(f"{self._path}: {reason}", HINT)


def _end(line: bytes) -> tuple[int, str] | None:
    """Return the number of lines and their hash, if this is an end."""
    try:
        end = json.loads(line)["end"]
        return int(end["lines"]), str(end["sha256"])
    except (ValueError, ArithmeticError, RecursionError, KeyError, TypeError):
        return None
