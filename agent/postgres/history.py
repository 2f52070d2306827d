"""Timeline history: which timelines a server came through, and what they began with.

Theory of operation. Whoever promotes writes `pg_wal/0000000N.history`: one line per
ancestor of timeline N with the LSN at which it was left. The files alone do not tell
twins apart (two servers promoted apart may write the same bytes), so a lineage
also carries a fingerprint of the WAL with which each timeline begins, where the
segment is still there.
Source of the form: PostgreSQL's src/backend/access/transam/timeline.c.
"""

import re
from contextlib import suppress
from pathlib import Path

from agent.core.lineage import Lineage, Switch, births
from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.records import fingerprint, segment_bytes_of

FILE_BYTES_MAX = 1024 * 1024
SWITCHES_MAX = 10_000
TIMELINE_MAX = 0xFFFFFFFF
_NAME = re.compile(r"([0-9A-F]{8})\.history")
_LINE = re.compile(r"\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(\s.*)?")


def parse(text: str) -> tuple[Switch, ...]:
    """Read a history file's text, oldest first.

    Comments and empty lines are left aside. Raises PostgresError when a line has
    another form, or timelines or positions do not ascend.
    """
    switches: list[Switch] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise PostgresError(f"line {number} is no history line: {line[:60]!r}")
        switch = Switch(int(match[1]), Lsn.parse(match[2]))
        _check_order(switches, switch, number)
        switches.append(switch)
    return tuple(switches)


def render(switches: tuple[Switch, ...]) -> str:
    """Return the text of a history file with these switches."""
    return "".join(
        f"{s.timeline}\t{s.lsn}\tno recovery target specified\n" for s in switches
    )


def _check_order(before: list[Switch], switch: Switch, number: int) -> None:
    if not 1 <= switch.timeline <= TIMELINE_MAX:
        raise PostgresError(f"line {number}: timeline {switch.timeline} cannot be")
    if before and switch.timeline <= before[-1].timeline:
        raise PostgresError(
            f"line {number}: timeline {switch.timeline} follows {before[-1].timeline}"
        )
    if before and switch.lsn < before[-1].lsn:
        raise PostgresError(
            f"line {number}: {switch.lsn} lies before {before[-1].lsn} above it"
        )
    if len(before) >= SWITCHES_MAX:
        raise PostgresError(f"more than {SWITCHES_MAX} timelines")


def file_name(timeline: int) -> str:
    """Return the name of a timeline's history file, such as `00000002.history`."""
    return f"{timeline:08X}.history"


def read_switches(wal_dir: Path, timeline: int) -> tuple[Switch, ...]:
    """Read the ancestors of `timeline` from its history file; none for timeline 1.

    Raises PostgresError when the file is missing, too large or malformed.
    """
    if timeline == 1:
        return ()
    path = wal_dir / file_name(timeline)
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise PostgresError(
            f"the history of timeline {timeline} cannot be read: {path}: "
            f"{error.strerror}"
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise PostgresError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        switches = parse(raw.decode("utf-8", "replace"))
    except PostgresError as error:
        raise PostgresError(f"{path} is malformed: {error.message}") from error
    if switches and switches[-1].timeline >= timeline:
        raise PostgresError(
            f"{path} is malformed: timeline {switches[-1].timeline} cannot be an "
            f"ancestor of {timeline}"
        )
    return switches


def wal_folder(data_dir: Path) -> Path:
    """Return where a data directory keeps its WAL: pg_xlog before 10.

    Raises nothing: who reads there is told what is wrong with a closed directory.
    """
    older = data_dir / "pg_xlog"
    with suppress(OSError):
        if older.is_dir():
            return older
    return data_dir / "pg_wal"


def timelines(names: list[str]) -> tuple[int, ...]:
    """Return the timelines whose history files are among these names, ascending."""
    matches = (_NAME.fullmatch(name) for name in names)
    return tuple(sorted(int(match[1], 16) for match in matches if match))


def read_lineage(data_dir: Path, timeline: int, system_id: str) -> Lineage:
    """Read the lineage that leads to `timeline`, with the fingerprints to be had.

    Raises PostgresError when a history file is missing or malformed. A switch
    whose WAL is gone (recycled, or never there on a later clone) has no fingerprint.
    """
    wal_dir = wal_folder(data_dir)
    switches = read_switches(wal_dir, timeline)
    begun = births(switches, timeline)
    size = segment_bytes_of(wal_dir) if begun else None
    found = (
        fingerprint(wal_dir, born, lsn, segment_bytes=size, heirs=begun[index + 1 :])
        for index, (born, lsn) in enumerate(begun)
    )
    return Lineage(
        system_id=system_id,
        timeline=timeline,
        switches=switches,
        fingerprints=tuple(one for one in found if one is not None),
    )
