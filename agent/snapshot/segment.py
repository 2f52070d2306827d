"""A WAL segment's file name, and the place in the log that it stands for."""

import re
from dataclasses import dataclass

_SEGMENT = re.compile(r"[0-9A-F]{24}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file's place in the log."""

    name: str
    timeline: int
    number: int


def parse_name(name: str, segment_bytes: int) -> Segment | None:
    """Return what a segment's file name stands for; None for other names."""
    if _SEGMENT.fullmatch(name) is None:
        return None
    timeline, log, low = (int(name[at : at + 8], 16) for at in (0, 8, 16))
    return Segment(name, timeline, log * (0x1_0000_0000 // segment_bytes) + low)
