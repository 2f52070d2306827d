"""pg_control: what a server knew about itself when it last wrote it down.

Theory of operation. The file `global/pg_control` is a C structure with a CRC-32C at
its end. Its layout is known for the versions in CRC_OFFSETS (PostgreSQL 9.5 to 18). A
running server rewrites it in place, so a reading with a wrong CRC is tried again a few
times before it is called damaged. A version that is not known is read through
pg_controldata instead, where programs are given. Positions are starts of records: the
checkpoint's own record begins at `checkpoint_lsn` and ends later.
Source: PostgreSQL's src/include/catalog/pg_control.h, on a 64-bit machine.
"""

import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.crc import crc32c
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
_WAL_LEVELS_IN_9_5 = ("minimal", "archive", "hot_standby", "logical")

Layout = Mapping[str, tuple[str, int]]
"""Field -> how it is packed, and where it stands."""

_SINCE_12: Layout = {
    "system_id": ("Q", 0),
    "pg_control_version": ("I", 8),
    "state": ("i", 16),
    "checkpoint": ("Q", 32),
    # The copy of the checkpoint record, 88 bytes long, from 40 on.
    "redo": ("Q", 40),
    "timeline": ("I", 48),
    "prev_timeline": ("I", 52),
    "next_xid": ("Q", 64),
    "min_recovery": ("Q", 136),
    "min_recovery_timeline": ("I", 144),
    "backup_start": ("Q", 152),
    "backup_end_required": ("?", 168),
    "wal_level": ("i", 172),
    "wal_log_hints": ("?", 176),
    "max_connections": ("i", 180),
    "max_worker_processes": ("i", 184),
    "max_wal_senders": ("i", 188),
    "max_prepared_transactions": ("i", 192),
    "max_locks_per_transaction": ("i", 196),
    "track_commit_timestamp": ("?", 200),
    "wal_block_bytes": ("I", 224),
    "wal_segment_bytes": ("I", 228),
    "checksum_version": ("I", 252),
}
_IN_11: Layout = {
    **{name: _SINCE_12[name] for name in list(_SINCE_12)[:7]},
    # Here that copy is 80 bytes long: the transaction id and its epoch, in two halves.
    "next_xid_epoch": ("I", 60),
    "next_xid": ("I", 64),
    "min_recovery": ("Q", 128),
    "min_recovery_timeline": ("I", 136),
    "backup_start": ("Q", 144),
    "backup_end_required": ("?", 160),
    "wal_level": ("i", 164),
    "wal_log_hints": ("?", 168),
    "max_connections": ("i", 172),
    "max_worker_processes": ("i", 176),
    # Recovery does not mind max_wal_senders, and so it is not noted.
    "max_prepared_transactions": ("i", 180),
    "max_locks_per_transaction": ("i", 184),
    "track_commit_timestamp": ("?", 188),
    "wal_block_bytes": ("I", 216),
    "wal_segment_bytes": ("I", 220),
    "checksum_version": ("I", 244),
}
_IN_10: Layout = {
    # Before the copy stands the place of the checkpoint before the latest one.
    name: (code, offset + 8 if offset >= _IN_11["redo"][1] else offset)
    for name, (code, offset) in _IN_11.items()
}
_LAYOUTS = {942: _IN_10, 960: _IN_10, 1002: _IN_10, 1100: _IN_11}
"""Where each field stands; versions that are not named here have that of 12."""
CRC_OFFSETS = {
    942: 256, 960: 256, 1002: 288, 1100: 280, 1201: 288, 1300: 288, 1700: 288,
    1800: 292,
}  # fmt: skip
"""Where the CRC stands, by pg_control_version: 9.5, 9.6, 10, 11, 12, 13 to 16, 17, 18.
"""
_IN_9_5 = 942
_NO_WAL_SENDERS = 10
"""What the setting is taken for where pg_control does not note it: its default."""
_SEGMENT_BYTES = range(1024 * 1024, 1024 * 1024 * 1024 + 1)
_BLOCK_BYTES = range(1024, 65536 + 1)


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
    wal_log_hints: bool = False

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
            return _plausible(_decode(raw, version), path)
        if attempt + 1 < READS_MAX:
            time.sleep(READ_PAUSE_S)
    raise PostgresError(
        f"{path} is damaged: its CRC is wrong",
        "a running server repairs it at the next checkpoint; a stopped one cannot "
        "start: keep the data directory and look into its storage",
    )


def control_of(raw: bytes, source: str) -> ControlData:
    """Read the content of a pg_control that `source` has sent.

    Raises PostgresError as `read_control` does, but tries nothing again and asks no
    program: who sent a torn reading is asked another time.
    """
    version = _version(raw, source)
    if version not in CRC_OFFSETS:
        raise PostgresError(f"pg_control version {version} of {source} is not known")
    if not _intact(raw, version):
        raise PostgresError(f"pg_control of {source} is torn or damaged: wrong CRC")
    return _plausible(_decode(raw, version), source)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise PostgresError(
            f"{path} cannot be read: {error.strerror}",
            "check local.data_dir, and run the agent as the data directory's owner",
        ) from error


def _version(raw: bytes, path: Path | str) -> int:
    if len(raw) < max(CRC_OFFSETS.values()) + 4:
        raise PostgresError(
            f"{path} is too short for a control file: {len(raw)} bytes",
            "a copy that was cut off, or not a data directory",
        )
    version = _field(raw, *_SINCE_12["pg_control_version"])
    if version and version % 65536 == 0:
        raise PostgresError(
            f"{path} was written on a machine of the other byte order",
            "it can only be read on a machine like the one that wrote it",
        )
    return version


def _field(raw: bytes, code: str, offset: int) -> int:
    (value,) = struct.unpack_from("=" + code, raw, offset)
    return int(value)


def _intact(raw: bytes, version: int) -> bool:
    offset = CRC_OFFSETS[version]
    (stored,) = struct.unpack_from("=I", raw, offset)
    return crc32c(raw[:offset]) == int(stored)


def _decode(raw: bytes, version: int) -> ControlData:
    layout = _LAYOUTS.get(version, _SINCE_12)
    f = {name: _field(raw, *place) for name, place in layout.items()}
    state, level = f["state"], f["wal_level"]
    levels = _WAL_LEVELS_IN_9_5 if version == _IN_9_5 else WAL_LEVELS
    return ControlData(
        system_id=str(f["system_id"]),
        pg_control_version=f["pg_control_version"],
        state=STATES[state] if 0 <= state < len(STATES) else f"unknown ({state})",
        checkpoint_lsn=Lsn(f["checkpoint"]),
        redo_lsn=Lsn(f["redo"]),
        timeline=f["timeline"],
        prev_timeline=f["prev_timeline"],
        next_xid=f.get("next_xid_epoch", 0) << 32 | f["next_xid"],
        min_recovery_lsn=Lsn(f["min_recovery"]),
        min_recovery_timeline=f["min_recovery_timeline"],
        backup_start_lsn=Lsn(f["backup_start"]),
        backup_end_required=bool(f["backup_end_required"]),
        wal_level=levels[level] if 0 <= level < len(levels) else "unknown",
        max_connections=f["max_connections"],
        max_worker_processes=f["max_worker_processes"],
        max_wal_senders=f.get("max_wal_senders", _NO_WAL_SENDERS),
        max_prepared_transactions=f["max_prepared_transactions"],
        max_locks_per_transaction=f["max_locks_per_transaction"],
        track_commit_timestamp=bool(f["track_commit_timestamp"]),
        wal_block_bytes=f["wal_block_bytes"],
        wal_segment_bytes=f["wal_segment_bytes"],
        data_checksums=f["checksum_version"] != 0,
        wal_log_hints=bool(f["wal_log_hints"]),
    )


def _plausible(control: ControlData, path: Path | str) -> ControlData:
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
                block not in _BLOCK_BYTES or block & (block - 1) != 0,
                f"WAL blocks of {block} bytes",
            ),
            (control.redo_lsn > control.checkpoint_lsn, "redo past the checkpoint"),
        )
        if wrong
    ]
    if problems:
        raise PostgresError(
            f"{path} holds absurd values: {', '.join(problems)}",
            "it is damaged, or not a data directory of PostgreSQL 9.5 to 18",
        )
    return control


_LINE = re.compile(r"^([^:]+):\s+(.*)$")


def _through_program(
    data_dir: Path, programs: Programs | None, version: int
) -> ControlData:
    if programs is None or not programs.has("pg_controldata"):
        raise PostgresError(
            f"pg_control version {version} in {data_dir} is not known here",
            "PostgreSQL 9.5 to 18 are read directly; for others pg_controldata of the "
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
    # 9.5 puts a slash between the two.
    printed_xid = found["Latest checkpoint's NextXID"].replace("/", ":")
    epoch, _, xid = printed_xid.rpartition(":")
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
        max_wal_senders=int(found.get("max_wal_senders setting", _NO_WAL_SENDERS)),
        max_prepared_transactions=int(found["max_prepared_xacts setting"]),
        max_locks_per_transaction=int(found["max_locks_per_xact setting"]),
        track_commit_timestamp=found.get("track_commit_timestamp setting") == "on",
        wal_block_bytes=int(found["WAL block size"]),
        wal_segment_bytes=int(found["Bytes per WAL segment"]),
        data_checksums=int(found["Data page checksum version"]) != 0,
        wal_log_hints=found.get("wal_log_hints setting") == "on",
    )
