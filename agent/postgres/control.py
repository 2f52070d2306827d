"""pg_control: what a server knew about itself when it last wrote it down.

Theory of operation. The file `global/pg_control` is a C structure with a CRC-32C at
its end. Its layout is known for the versions in LAYOUTS (PostgreSQL 13 to 18) and was
compared with pg_controldata for each. A running server rewrites it in place, so a
reading with a wrong CRC is tried again a few times before it is called damaged. A
version that is not known is read through pg_controldata instead, where programs are
given. Positions are starts of records: the checkpoint's own record begins at
`checkpoint_lsn` and ends later.
Source: PostgreSQL's src/include/catalog/pg_control.h.
"""

import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.programs import Programs

READS_MAX = 5
"""A torn reading is tried again this often, in all."""
READ_PAUSE_S = 0.01
FILE_BYTES_MAX = 16384
STATES = (
    "starting up",
    "shut down",
    "shut down in recovery",
    "shutting down",
    "in crash recovery",
    "in archive recovery",
    "in production",
)
"""The states in the order of PostgreSQL's DBState, as pg_controldata prints them."""
WAL_LEVELS = ("minimal", "replica", "logical")

_HEAD = struct.Struct("=QII")
_BODY = struct.Struct(
    "=QII i4x q Q"  # system id, versions, state, time, checkpoint
    "QII?3xi QIIIIIIII4xqIII4x"  # the copy of the checkpoint record, 88 bytes
    "QQI4xQQ?3x"  # unlogged LSN, minimum recovery point, backup's start and end
    "i?3xiiiii?3x"  # the settings that recovery depends on
    "Id IIIIIIII ?3xI"  # the format of the files
)
CRC_OFFSETS = {1300: 288, 1700: 288, 1800: 292}
"""Where the CRC stands, by pg_control_version: 13 to 16, 17, 18."""
_FLOAT_FORMAT = 1234567.0
_SEGMENT_BYTES = range(1024 * 1024, 1024 * 1024 * 1024 + 1)


@dataclass(frozen=True, slots=True)
class ControlData:
    """The fields of pg_control that somebody here needs."""

    system_id: str
    pg_control_version: int
    state: str
    """One of STATES."""
    checkpoint_lsn: Lsn
    """Where the latest checkpoint's record begins."""
    redo_lsn: Lsn
    """Where recovery from that checkpoint begins; at or before it."""
    timeline: int
    prev_timeline: int
    next_xid: int
    """The next transaction id at that checkpoint, epoch included."""
    min_recovery_lsn: Lsn
    """Standby: replay must reach this before the data is consistent; else 0."""
    min_recovery_timeline: int
    backup_start_lsn: Lsn
    """Not 0 in a copy whose recovery from a backup is not finished."""
    backup_end_required: bool
    wal_level: str
    max_connections: int
    max_worker_processes: int
    max_wal_senders: int
    max_prepared_transactions: int
    max_locks_per_transaction: int
    track_commit_timestamp: bool
    wal_block_bytes: int
    wal_segment_bytes: int
    data_checksums: bool

    @property
    def shut_down(self) -> bool:
        """Whether the server was last stopped cleanly."""
        return self.state in {"shut down", "shut down in recovery"}


def read_control(data_dir: Path, programs: Programs | None = None) -> ControlData:
    """Read `global/pg_control` of a running or stopped server. About 0.1 ms.

    Raises PostgresError: the file is missing or unreadable, damaged, of an unknown
    version (and no `programs` to ask), or holds absurd values.
    """
    path = data_dir / "global" / "pg_control"
    for attempt in range(READS_MAX):
        raw = _read(path)
        version = _version(raw, path)
        if version not in CRC_OFFSETS:
            return _through_program(data_dir, programs, version)
        if _intact(raw, version):
            return _plausible(_decode(raw), path)
        if attempt + 1 < READS_MAX:
            time.sleep(READ_PAUSE_S)
    raise PostgresError(
        f"{path} is damaged: its CRC is wrong",
        "a running server repairs it at the next checkpoint; a stopped one cannot "
        "start: keep the data directory and look into its storage",
    )


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) that PostgreSQL puts on pg_control and WAL."""
    crc = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _make_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        crc = index
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _make_table()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise PostgresError(
            f"{path} cannot be read: {error.strerror}",
            "check local.data_dir, and run the agent as the data directory's owner",
        ) from error


def _version(raw: bytes, path: Path) -> int:
    if len(raw) < _BODY.size + 64:
        raise PostgresError(
            f"{path} is too short for a control file: {len(raw)} bytes",
            "a copy that was cut off, or not a data directory",
        )
    version = int(_HEAD.unpack_from(raw)[1])
    if version % 65536 == 0 and version:
        raise PostgresError(
            f"{path} was written on a machine of the other byte order",
            "it can only be read on a machine like the one that wrote it",
        )
    return version


def _intact(raw: bytes, version: int) -> bool:
    offset = CRC_OFFSETS[version]
    (stored,) = struct.unpack_from("=I", raw, offset)
    return crc32c(raw[:offset]) == stored


def _decode(raw: bytes) -> ControlData:
    f = _BODY.unpack_from(raw)
    state, level = f[3], f[31]
    return ControlData(
        system_id=str(f[0]),
        pg_control_version=f[1],
        state=STATES[state] if 0 <= state < len(STATES) else f"unknown ({state})",
        checkpoint_lsn=Lsn(f[5]),
        redo_lsn=Lsn(f[6]),
        timeline=f[7],
        prev_timeline=f[8],
        next_xid=f[11],
        min_recovery_lsn=Lsn(f[24]),
        min_recovery_timeline=f[25],
        backup_start_lsn=Lsn(f[26]),
        backup_end_required=f[28],
        wal_level=WAL_LEVELS[level] if 0 <= level < len(WAL_LEVELS) else "unknown",
        max_connections=f[31],
        max_worker_processes=f[32],
        max_wal_senders=f[33],
        max_prepared_transactions=f[34],
        max_locks_per_transaction=f[35],
        track_commit_timestamp=f[36],
        wal_block_bytes=f[41],
        wal_segment_bytes=f[42],
        data_checksums=f[48] != 0,
    )


def _plausible(control: ControlData, path: Path) -> ControlData:
    segment = control.wal_segment_bytes
    block = control.wal_block_bytes
    problems = [
        words
        for wrong, words in (
            (control.state not in STATES, f"state {control.state}"),
            (control.timeline < 1, f"timeline {control.timeline}"),
            (
                segment not in _SEGMENT_BYTES or segment & (segment - 1) != 0,
                f"WAL segments of {segment} bytes",
            ),
            (
                not 1024 <= block <= 65536 or block & (block - 1) != 0,
                f"WAL blocks of {block} bytes",
            ),
            (control.redo_lsn > control.checkpoint_lsn, "redo past the checkpoint"),
        )
        if wrong
    ]
    if problems:
        raise PostgresError(
            f"{path} holds absurd values: {', '.join(problems)}",
            "it is damaged, or not a data directory of PostgreSQL 14 to 18",
        )
    return control


_LINE = re.compile(r"^([^:]+):\s+(.*)$")


def _through_program(
    data_dir: Path, programs: Programs | None, version: int
) -> ControlData:
    if programs is None or not programs.has("pg_controldata"):
        raise PostgresError(
            f"pg_control version {version} in {data_dir} is not known here",
            "PostgreSQL 14 to 18 are read directly; for others pg_controldata of the "
            "same version has to be installed",
        )
    printed = programs.run(
        ["pg_controldata", "-D", data_dir], as_owner_of=data_dir
    ).stdout
    return parse_controldata(printed)


def parse_controldata(printed: str) -> ControlData:
    """Read what pg_controldata printed, untranslated. Raises PostgresError."""
    found: dict[str, str] = {}
    for line in printed.splitlines():
        match = _LINE.match(line)
        if match is not None:
            found[match[1].removeprefix("Current ").strip()] = match[2].strip()
    try:
        return _from_printed(found)
    except (KeyError, ValueError) as error:
        raise PostgresError(
            f"pg_controldata printed something that is not understood: {error}"
        ) from error


def _from_printed(found: dict[str, str]) -> ControlData:
    epoch, _, xid = found["Latest checkpoint's NextXID"].rpartition(":")
    return ControlData(
        system_id=str(int(found["Database system identifier"])),
        pg_control_version=int(found["pg_control version number"]),
        state=found["Database cluster state"],
        checkpoint_lsn=Lsn.parse(found["Latest checkpoint location"]),
        redo_lsn=Lsn.parse(found["Latest checkpoint's REDO location"]),
        timeline=int(found["Latest checkpoint's TimeLineID"]),
        prev_timeline=int(found["Latest checkpoint's PrevTimeLineID"]),
        next_xid=(int(epoch or 0) << 32) | int(xid),
        min_recovery_lsn=Lsn.parse(found["Minimum recovery ending location"]),
        min_recovery_timeline=int(found["Min recovery ending loc's timeline"]),
        backup_start_lsn=Lsn.parse(found["Backup start location"]),
        backup_end_required=found["End-of-backup record required"] == "yes",
        wal_level=found["wal_level setting"],
        max_connections=int(found["max_connections setting"]),
        max_worker_processes=int(found["max_worker_processes setting"]),
        max_wal_senders=int(found.get("max_wal_senders setting", "10")),
        max_prepared_transactions=int(found["max_prepared_xacts setting"]),
        max_locks_per_transaction=int(found["max_locks_per_xact setting"]),
        track_commit_timestamp=found.get("track_commit_timestamp setting") == "on",
        wal_block_bytes=int(found["WAL block size"]),
        wal_segment_bytes=int(found["Bytes per WAL segment"]),
        data_checksums=int(found["Data page checksum version"]) != 0,
    )
