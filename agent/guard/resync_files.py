"""A server's own configuration: saved before its data is replaced, written again after.

Theory of operation. pg_rewind and pg_basebackup bring the source's files along: its
configuration, its access rules, its keys. So what stands at the top of the data folder
and is no file of the server's own making is saved first, and put back. Then the server
is told whom to follow, in postgresql.auto.conf, which beats every other file:
`primary_conninfo`, no slot that the source does not have, and the latest timeline.
Where the configuration lies elsewhere (Debian) nothing of it is touched.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.config.forms import parse_dsn
from agent.errors import GuardError
from agent.guard.resync_mark import sync_file, sync_folder

FILE_BYTES_MAX = 4 << 20
AUTO_CONF = "postgresql.auto.conf"
STANDBY_SIGNAL = "standby.signal"
RECOVERY_SIGNAL = "recovery.signal"
_OWN = frozenset(
    {
        "PG_VERSION", "backup_label", "backup_label.old", "backup_manifest",
        "current_logfiles", "postmaster.opts", "postmaster.pid", "recovery.done",
        STANDBY_SIGNAL, RECOVERY_SIGNAL, "tablespace_map", "tablespace_map.old",
    }
)  # fmt: skip
"""Files at the top of a data folder that say what state it is in."""
_FOLDERS = re.compile(r".*conf.*\.d")
_SETTING = r"^[ \t]*{name}[ \t]*(?:=|[ \t])[ \t]*'((?:[^'\\\n]|''|\\.)*)'"
_DROPPED = re.compile(
    r"^[ \t]*(?:primary_conninfo|primary_slot_name|recovery_target\w*|restore_command"
    r"(?=\s*=\s*'/bin/false'))[ \t]*(?:=|[ \t]).*\n?",
    re.MULTILINE,
)


def save(data_dir: Path, saved: Path) -> None:
    """Copy the configuration of a stopped server aside. Raises GuardError.

    What was saved before is replaced all at once, when the new files are on disk.
    """
    fresh = saved.with_name(saved.name + ".new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        for file in _files(data_dir):
            place = fresh / file.relative_to(data_dir)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            _copy(file, place)
        for folder in (*_folders(fresh), fresh):
            sync_folder(folder)
        shutil.rmtree(saved, ignore_errors=True)
        fresh.rename(saved)
        sync_folder(saved.parent)
    except OSError as error:
        raise GuardError(
            f"the configuration of {data_dir} cannot be saved: {error.strerror}",
            f"see that {saved.parent} can be written to and has room",
        ) from error


def _files(data_dir: Path) -> Iterator[Path]:
    for entry in sorted(data_dir.iterdir()):
        if entry.is_symlink():
            continue  # it leads elsewhere, and a rewind leaves it or makes it again
        if entry.is_dir() and _FOLDERS.fullmatch(entry.name):
            yield from (each for each in sorted(entry.iterdir()) if _small(each))
        elif entry.name not in _OWN and _small(entry):
            yield entry


def _small(file: Path) -> bool:
    plain = file.is_file() and not file.is_symlink()
    return plain and file.stat().st_size <= FILE_BYTES_MAX


def _copy(file: Path, place: Path) -> None:
    """Copy a file so that it outlives a loss of power."""
    shutil.copy2(file, place)
    sync_file(place)


def _folders(saved: Path) -> list[Path]:
    return [path for path in sorted(saved.iterdir()) if path.is_dir()]


def put_back(saved: Path, data_dir: Path) -> None:
    """Write the saved files again; others of their folders stay. Raises GuardError."""
    try:
        for file in sorted(saved.rglob("*")):
            if not file.is_file():
                continue
            place = data_dir / file.relative_to(saved)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            aside = place.with_name(f".{place.name}.splitguard")
            _copy(file, aside)
            aside.replace(place)
        for folder in _folders(saved):
            sync_folder(data_dir / folder.relative_to(saved))
        sync_folder(data_dir)
    except OSError as error:
        raise GuardError(
            f"the configuration cannot be written again: {error.strerror}",
            f"it is in {saved}; run this once more when {data_dir} can be written to",
        ) from error


def follow(data_dir: Path, conninfo: str, slot: str) -> None:
    """Tell the stopped server whom to follow. Raises GuardError."""
    auto = data_dir / AUTO_CONF
    try:
        text = auto.read_text("utf-8") if auto.exists() else ""
        kept = _DROPPED.sub("", text)
        if kept and not kept.endswith("\n"):
            kept += "\n"
        lines = (
            f"primary_conninfo = {quoted(conninfo)}",
            f"primary_slot_name = {quoted(slot)}",
            "recovery_target_timeline = 'latest'",
        )
        _write(auto, kept + "".join(f"{line}\n" for line in lines))
        (data_dir / RECOVERY_SIGNAL).unlink(missing_ok=True)
        _write(data_dir / STANDBY_SIGNAL, "")
        sync_folder(data_dir)
    except OSError as error:
        raise GuardError(
            f"{auto} cannot be written: {error.strerror}",
            "run this once more when the data directory can be written to",
        ) from error


def _write(file: Path, text: str) -> None:
    aside = file.with_name(f".{file.name}.splitguard")
    number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    aside.replace(file)


def setting(data_dir: Path, name: str) -> str:
    """Return what the files in a data folder set, the last word; empty for nothing.

    Includes are not followed.
    """
    form = re.compile(_SETTING.format(name=re.escape(name)), re.MULTILINE)
    for file in (AUTO_CONF, "postgresql.conf"):
        try:
            with (data_dir / file).open("rb") as opened:
                text = opened.read(FILE_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            continue
        found = form.findall(text)
        if found:
            return re.sub(r"''|\\(.)", lambda m: m[1] or "'", found[-1])
    return ""


def quoted(value: str) -> str:
    """Return a value as it stands in postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def conninfo(parts: Mapping[str, str]) -> str:
    """Return a libpq connection string."""
    words = []
    for key, value in parts.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        plain = re.fullmatch(r"[A-Za-z0-9_./:@-]+", value) is not None
        words.append(f"{key}={value}" if plain else f"{key}='{escaped}'")
    return " ".join(words)


SERVER_KEYS = frozenset({"host", "hostaddr", "port"})
_NOT_STREAMED = frozenset({"dbname", "replication", "options", "target_session_attrs"})


def streaming(
    before: str,
    source: Mapping[str, str],
    node: str,
    configured: Mapping[str, str] | None,
) -> str:
    """Return primary_conninfo: as configured, else as it was, from the source's server.

    `source` is the whole connection string of the source, as parts.
    """
    server = {key: value for key, value in source.items() if key in SERVER_KEYS}
    if configured is not None:
        kept = {**source, **configured}
    else:
        try:
            kept = parse_dsn(before)
        except ValueError:
            kept = dict(source)
    kept = {
        key: value
        for key, value in kept.items()
        if key not in SERVER_KEYS | _NOT_STREAMED
    }
    return conninfo({**server, "application_name": node, **kept})
