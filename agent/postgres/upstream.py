"""The server that a resynced one is to follow, read over SQL.

Theory of operation. Position, timeline and size are asked for. History files and the
few bytes of WAL with which a timeline begins are read with the functions that pg_rewind
itself needs (`pg_read_binary_file` and its like), put into a scratch folder that looks
like a pg_wal, and judged there by what judges the local disk. Where that is not
allowed, the history comes over the replication protocol, and WAL stays unknown.

A server that was promoted just now runs on a timeline that its pg_control does not name
yet: `Upstream.ready` is false for as long. pg_rewind of PostgreSQL 14 and 15 would take
the old one for the truth.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from agent.core.lineage import Lineage, Switch, births
from agent.core.lsn import Lsn, wal_file_name
from agent.errors import PostgresError
from agent.postgres import connect, history
from agent.postgres.records import BLOCK_BYTES, FINGERPRINT_BYTES_MAX

COMPARED_BYTES = 64 * 1024
"""How much WAL below a position is compared."""
BIRTHS_MAX = 16
"""Of how many timelines the beginning is fetched, the latest ones."""
_STATE: LiteralString = """
SELECT (SELECT system_identifier FROM pg_control_system())::text,
       pg_is_in_recovery(),
       (SELECT timeline_id FROM pg_control_checkpoint()),
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_walfile_name(pg_current_wal_lsn()) END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_flush_lsn() END::text,
       current_setting('server_version_num')::int,
       pg_size_bytes(current_setting('wal_segment_size')),
       pg_backend_pid()
"""
_SIZE: LiteralString = "SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace"
_READ: LiteralString = "SELECT pg_read_binary_file(%s, %s, %s, true)"
_SLOT: LiteralString = (
    "SELECT count(*) FROM pg_replication_slots"
    " WHERE slot_name = %s AND slot_type = 'physical' AND NOT active"
)
_SPATIAL: LiteralString = (
    "SELECT pg_tablespace_location(oid) FROM pg_tablespace"
    " WHERE pg_tablespace_location(oid) <> ''"
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the source says of itself."""

    system_id: str
    in_recovery: bool
    control_timeline: int
    timeline: int
    """On a standby pg_control's."""
    flush_lsn: Lsn
    version_num: int
    wal_segment_bytes: int
    backend_pid: int
    """Of the connection that asked: it tells whether the server runs here."""
    size_bytes: int | None
    """Of all tablespaces; None when it may not be asked."""

    @property
    def ready(self) -> bool:
        """Whether its pg_control names the timeline that it really is on."""
        return self.in_recovery or self.control_timeline == self.timeline


def look(dsn: str, *, held: Callable[[int], None] | None = None) -> Upstream:
    """Ask the source. Raises PostgresError.

    `held` is shown the process id of the asking connection while that lives, and may
    raise.
    """
    with _session(dsn) as session:
        row = connect.fetch_one(session, _STATE)
        system_id, recovering, control, name, lsn, version, segment, pid = row
        if held is not None:
            held(int(pid))
        return Upstream(
            system_id=str(system_id),
            in_recovery=bool(recovering),
            control_timeline=int(control),
            timeline=int(name[:8], 16) if name else int(control),
            flush_lsn=Lsn.parse(lsn) if lsn else Lsn(0),
            version_num=int(version),
            wal_segment_bytes=int(segment),
            backend_pid=int(pid),
            size_bytes=_size(session),
        )


def checkpoint(dsn: str) -> str:
    """Make a checkpoint there; return why it could not be done, or nothing."""
    try:
        with _session(dsn, timeout_s=0) as session:
            session.execute("CHECKPOINT")
    except PostgresError as error:
        return error.message
    return ""


def has_free_slot(dsn: str, name: str) -> bool:
    """Whether the source has this physical slot, and nobody uses it."""
    with _session(dsn) as session:
        return bool(connect.fetch_one(session, _SLOT, name)[0])


def tablespaces(dsn: str) -> tuple[Path, ...]:
    """Return where the source's tablespaces lie, apart from its own folder."""
    with _session(dsn) as session:
        return tuple(Path(row[0]) for row in session.execute(_SPATIAL).fetchall())


def read_lineage(dsn: str, found: Upstream) -> Lineage:
    """Return where the source's WAL comes from, as its disk shows it.

    With fingerprints where it may be read. Raises PostgresError.
    """
    if found.timeline == 1:
        return Lineage(found.system_id, 1, ())
    try:
        with tempfile.TemporaryDirectory(prefix="splitguard-upstream-") as name:
            folder = Path(name)
            _fetch(dsn, found, folder / "pg_wal")
            return history.read_lineage(folder, found.timeline, found.system_id)
    except PostgresError as error:
        switches = _over_replication(dsn, found.timeline, error)
        return Lineage(found.system_id, found.timeline, switches)


def read_below(dsn: str, found: Upstream, lineage: Lineage, end: Lsn) -> bytes | None:
    """Return the WAL right below `end`, at most COMPARED_BYTES of one segment.

    From the file that holds it in the source's line. None when it is not there, or
    may not be read.
    """
    size = found.wal_segment_bytes
    start, length = below(end, size)
    try:
        with _session(dsn) as session:
            for name in holders(lineage, start, size):
                raw = _read(session, f"pg_wal/{name}", int(start) % size, length)
                if raw is not None and len(raw) == length:
                    return raw
    except PostgresError:
        return None
    return None


def below(end: Lsn, segment_bytes: int) -> tuple[Lsn, int]:
    """Return where the compared WAL below `end` begins, and its length."""
    first = (int(end) - 1) // segment_bytes * segment_bytes
    start = max(first, int(end) - COMPARED_BYTES)
    return Lsn(start), int(end) - start


def local_below(wal_dir: Path, lineage: Lineage, end: Lsn, size: int) -> bytes | None:
    """Return the same of a server on this machine. Raises OSError."""
    start, length = below(end, size)
    for name in holders(lineage, start, size):
        with (
            contextlib.suppress(FileNotFoundError),
            (wal_dir / name).open("rb") as file,
        ):
            file.seek(int(start) % size)
            raw = file.read(length)
            if len(raw) == length:
                return raw
    return None


def holders(lineage: Lineage, lsn: Lsn, segment_bytes: int) -> tuple[str, ...]:
    """Return the files that may hold this WAL of the line, the right one first.

    The first segment of a timeline begins with a copy of what came before.
    """
    number = lsn.segment(segment_bytes)
    born = (
        (child, start.segment(segment_bytes))
        for child, start in births(lineage.switches, lineage.timeline)
    )
    first = lineage.switches[0].timeline if lineage.switches else lineage.timeline
    timelines = [first, *(child for child, begun in born if begun <= number)]
    names = [wal_file_name(each, lsn, segment_bytes) for each in reversed(timelines)]
    return (*names, *(f"{name}.partial" for name in names))


def _fetch(dsn: str, found: Upstream, wal_dir: Path) -> None:
    """Make a folder with the history file and the beginnings of its timelines."""
    wal_dir.mkdir()
    size = found.wal_segment_bytes
    with _session(dsn) as session:
        name = history.file_name(found.timeline)
        raw = _read(session, f"pg_wal/{name}", 0, history.FILE_BYTES_MAX)
        if raw is None:
            raise PostgresError(f"the source has no {name}")
        (wal_dir / name).write_bytes(raw)
        switches = history.read_switches(wal_dir, found.timeline)
        lineage = Lineage(found.system_id, found.timeline, switches)
        last = wal_file_name(found.timeline, found.flush_lsn, size)
        # Something must tell the segment's size, whatever else is gone.
        _piece(session, wal_dir, last, 0, size)
        for switch in switches[-BIRTHS_MAX:]:
            for each in holders(lineage, switch.lsn, size):
                _piece(session, wal_dir, each, int(switch.lsn) % size, size)


def _piece(
    session: connect.Session, wal_dir: Path, name: str, offset: int, size: int
) -> None:
    """Write a segment that holds its head and what begins at `offset`, and zeros."""
    head = _read(session, f"pg_wal/{name}", 0, BLOCK_BYTES)
    if not head:
        return
    page = offset // BLOCK_BYTES * BLOCK_BYTES
    length = min(FINGERPRINT_BYTES_MAX + BLOCK_BYTES, size - page)
    body = _read(session, f"pg_wal/{name}", page, length) or b""
    with (wal_dir / name).open("r+b" if (wal_dir / name).exists() else "wb") as file:
        file.write(head)
        file.seek(page)
        file.write(body)
        file.truncate(size)


def _read(
    session: connect.Session, path: str, offset: int, length: int
) -> bytes | None:
    (raw,) = connect.fetch_one(session, _READ, path, offset, length)
    return None if raw is None else bytes(raw)


def _size(session: connect.Session) -> int | None:
    try:
        return int(connect.fetch_one(session, _SIZE)[0])
    except psycopg.Error:
        return None


def _over_replication(
    dsn: str, timeline: int, tried: PostgresError
) -> tuple[Switch, ...]:
    """Ask for the history file as a standby does. Raises PostgresError."""
    try:
        with (
            connect.session(make_conninfo(dsn, replication="database")) as session,
            session.cursor() as cursor,
        ):
            cursor.execute(f"TIMELINE_HISTORY {timeline:d}".encode())
            row = cursor.fetchone()
    except PostgresError as error:
        raise PostgresError(
            f"the history of the source cannot be read: {tried.message};"
            f" nor over replication: {error.message}",
            "let the role of resync.source read it: see deploy/README.md",
        ) from error
    text = row[1] if row is not None else ""
    return history.parse(text if isinstance(text, str) else bytes(text).decode())


@contextlib.contextmanager
def _session(dsn: str, *, timeout_s: float = 30.0) -> Iterator[connect.Session]:
    with connect.session(
        dsn, statement_timeout_s=timeout_s, named="the source"
    ) as session:
        yield session
