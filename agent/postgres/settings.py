"""The settings with which a private server is started, all on the command line.

Theory of operation. Three groups: what keeps it from reaching out (archiving,
restoring, replicating, subscribing, preloading, TCP), what recovery insists on (the
values that pg_control recorded: it refuses smaller ones), and what makes a scratch
server cheap. What a version does not know yet is left out, since an unknown name is
fatal. Before 12 recovery had no settings but a file of its own, recovery.conf: there
is none in a private server's folder, or it is ours.
"""

from pathlib import Path

from agent.postgres.control import ControlData

ORIGINS_MAX = 1000
"""Replication origins in the copy that a private server can load, at least."""
RECOVERY_CONF_LAST = 11
"""The last version that recovers by recovery.conf, and knows no recovery.signal."""
_TRIGGER_FILE_LAST = 15
_LIBRARY_VERSION = 15
_SLOT_SYNC_VERSION = 17
_ORIGINS_VERSION = 18

_RECOVERY = frozenset(
    {
        "archive_cleanup_command", "recovery_end_command", "recovery_target",
        "recovery_target_action", "recovery_target_lsn", "recovery_target_name",
        "recovery_target_time", "recovery_target_timeline", "recovery_target_xid",
        "primary_conninfo", "primary_slot_name", "promote_trigger_file",
        "restore_command",
    }
)  # fmt: skip
"""What RECOVERY_CONF_LAST and older know in recovery.conf only."""
_FIRST = {"jit": 11, "wal_recycle": 12, "wal_keep_size": 13}
"""Other settings with the first major version that has them, where that is past 10."""

_QUIET = {
    "listen_addresses": "",
    "ssl": "off",
    "archive_mode": "off",
    "archive_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "recovery_target": "",
    "recovery_target_lsn": "",
    "recovery_target_name": "",
    "recovery_target_time": "",
    "recovery_target_xid": "",
    "recovery_target_action": "promote",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "promote_trigger_file": "",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_line_prefix": "",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "lc_messages": "C",
    "default_transaction_read_only": "on",
    "hot_standby": "off",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_CHEAP = {
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # inside the folder: nothing is left behind
    "jit": "off",
    "fsync": "off",
    "wal_recycle": "off",
    "wal_keep_size": "1TB",  # what was replayed has to stay readable
    "checkpoint_timeout": "1h",
    "archive_timeout": "0",
    "temp_tablespaces": "",
    "default_tablespace": "",
}


def overrides(
    control: ControlData, major: int, run_dir: Path, tip_timeline: int | None
) -> dict[str, str]:
    """Return every setting that is given to a private server of this version.

    `run_dir` holds its configuration, hba and ident files and its socket. With a
    `tip_timeline` recovery goes there through recovery.signal, which needs some
    restore_command; `/bin/false` restores nothing.
    """
    following = tip_timeline is not None
    given = {
        "config_file": str(run_dir / "postgresql.conf"),
        "hba_file": str(run_dir / "pg_hba.conf"),
        "ident_file": str(run_dir / "pg_ident.conf"),
        "unix_socket_directories": str(run_dir),
        "unix_socket_permissions": "0700",
        "unix_socket_group": "",
        "port": "5432",
        **_QUIET,
        **_CHEAP,
        **needed(control, major),
        "restore_command": "/bin/false" if following else "",
        "recovery_target_timeline": str(tip_timeline) if following else "latest",
        **_by_version(major),
    }
    if major > _TRIGGER_FILE_LAST:
        del given["promote_trigger_file"]
    return {name: value for name, value in given.items() if knows(major, name)}


def knows(major: int, name: str) -> bool:
    """Whether this version has the setting, of those that are given to copies here."""
    if major <= RECOVERY_CONF_LAST and name in _RECOVERY:
        return False
    return major >= _FIRST.get(name, 0)


def recovery_file(major: int, tip_timeline: int) -> tuple[str, str]:
    """Return name and content of the file that has a copy recover to a timeline."""
    if major > RECOVERY_CONF_LAST:
        return "recovery.signal", ""
    target = f"recovery_target_timeline = '{tip_timeline}'\n"
    return "recovery.conf", "restore_command = '/bin/false'\n" + target


def needed(control: ControlData, major: int) -> dict[str, str]:
    """Return what a copy needs at least as large as its server had it, to start."""
    given = _recorded(control)
    if major >= _ORIGINS_VERSION:
        given["max_active_replication_origins"] = str(ORIGINS_MAX)
    return given


def harmless(major: int) -> dict[str, str]:
    """Return what keeps a copy of this version from running what it brought along."""
    return {"event_triggers": "off"} if major >= _SLOT_SYNC_VERSION else {}


def _recorded(control: ControlData) -> dict[str, str]:
    segment_mb = control.wal_segment_bytes // (1024 * 1024)
    return {
        # A server refuses limits below two segments: those of initdb always fit.
        "min_wal_size": f"{5 * segment_mb}MB",
        "max_wal_size": f"{64 * segment_mb}MB",
        "wal_level": "logical" if control.wal_level == "logical" else "replica",
        "max_connections": str(control.max_connections),
        "max_worker_processes": str(control.max_worker_processes),
        "max_wal_senders": str(control.max_wal_senders),
        "max_prepared_transactions": str(control.max_prepared_transactions),
        "max_locks_per_transaction": str(control.max_locks_per_transaction),
        "track_commit_timestamp": "on" if control.track_commit_timestamp else "off",
        "max_replication_slots": str(ORIGINS_MAX),
    }


def _by_version(major: int) -> dict[str, str]:
    given = harmless(major)
    if major >= _LIBRARY_VERSION:
        given["archive_library"] = ""
    if major >= _SLOT_SYNC_VERSION:
        given["sync_replication_slots"] = "off"
        given["synchronized_standby_slots"] = ""
        given["summarize_wal"] = "off"
    if major >= _ORIGINS_VERSION:
        given["io_method"] = "sync"
    return given
