"""Log sequence numbers.

An LSN is a byte position in PostgreSQL's write-ahead log. PostgreSQL prints it
as two hexadecimal numbers, the high and the low 32 bits, with a slash between
them; so does everything here that a person or another program reads.
Source of the form: PostgreSQL's documentation of `pg_lsn`.
"""

import re

_FORM = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class Lsn(int):
    """A position in the write-ahead log, in bytes; 0 to 2**64 - 1."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Lsn":
        """Read an LSN as PostgreSQL prints it, such as `0/30286D8`.

        Raises ValueError when the text has another form.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"not an LSN: {text[:40]!r}")
        high, low = (int(part, 16) for part in match.groups())
        return cls((high << 32) | low)

    def segment(self, segment_bytes: int) -> int:
        """Return the number of the WAL segment that holds this position."""
        return int(self) // segment_bytes

    def __str__(self) -> str:
        return f"{int(self) >> 32:X}/{int(self) & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"


def wal_file_name(timeline: int, lsn: Lsn, segment_bytes: int) -> str:
    """Return the name of the WAL segment file that holds `lsn` on `timeline`.

    Source: PostgreSQL's XLogFileName, 8 hexadecimal digits of each of timeline,
    and of the segment number's high and low part.
    """
    per_id = 0x1_0000_0000 // segment_bytes
    number = lsn.segment(segment_bytes)
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"
