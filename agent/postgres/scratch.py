"""Scratch copies of a data directory: made safe to start.

Theory of operation. Opening a copy changes it, and what it was copied with would make
it reach out or refuse to start: slots, signal files, the pid file, links. `prepare`
takes those away, in the scratch folder and nowhere else. It refuses hard links and
links that lead outside, because a server that writes through them changes the
original. A server that an agent left behind when it was killed is found by its pid
file and stopped.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from agent.errors import PostgresError
from agent.postgres import postmaster
from agent.postgres.control import read_control
from agent.postgres.owner import give, owner_of, unprivileged

STOP_LEFTOVER_S = 5.0
RUN_PREFIX = "splitguard-run-"
"""How the folder of a private server's socket and configuration is called."""
_PAUSE_S = 0.02
_CLEARED = (
    "pg_replslot",
    "pg_stat_tmp",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
)
_REMOVED = (
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "postmaster.pid",
    "postmaster.opts",
    "postgresql.auto.conf",
    "tablespace_map",
    "current_logfiles",
)


def prepare(folder: Path, *, tablespaces: Mapping[int, Path] | None = None) -> None:
    """Make a scratch copy of a data directory safe to start. Changes the folder.

    Removes what would let it reach out or refuse to start: replication slots, signal
    files (before 12 recovery.conf), the pid file, tablespace_map,
    postgresql.auto.conf. `backup_label` stays.
    Links below pg_tblspc are pointed at `tablespaces` (by OID), copies as well;
    pg_wal must be a folder. Raises PostgresError: a server runs on it, a link still
    leads outside, or files are hard links (a pin), so that opening would change the
    original. As root, a folder of root is given to an unprivileged user.
    """
    if postmaster.running(folder) is not None:
        raise PostgresError(
            f"a server runs on {folder}", "stop it, or take another scratch folder"
        )
    read_control(folder)
    copies = dict(tablespaces or {})
    try:
        _refuse_shared(folder)
        for name in _REMOVED:
            (folder / name).unlink(missing_ok=True)
        for name in _CLEARED:
            _clear(folder / name)
        (folder / "postgresql.auto.conf").touch(0o600)
        _point_links(folder, copies)
        owner = owner_of(folder)
        if os.geteuid() == 0 and owner.uid == 0:
            owner = unprivileged()
        for tree in (folder, *copies.values()):
            give(tree, owner)
            tree.chmod(0o700)
    except OSError as error:
        raise PostgresError(
            f"{error.filename or folder} cannot be prepared: {error.strerror}",
            "check the scratch folder's owner and free space",
        ) from error


def stop_leftover(folder: Path) -> bool:
    """Stop a private server that an agent which was killed left on `folder`.

    Only for scratch folders: it is stopped at once, without a checkpoint. Returns
    whether one ran. Raises PostgresError when it does not end within 5 s.
    """
    found = postmaster.running(folder)
    if found is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGQUIT)
    for _ in range(int(STOP_LEFTOVER_S / _PAUSE_S)):
        if postmaster.running(folder) is None:
            if found.socket_dir is not None and found.socket_dir.name.startswith(
                RUN_PREFIX
            ):
                shutil.rmtree(found.socket_dir, ignore_errors=True)
            return True
        time.sleep(_PAUSE_S)
    raise PostgresError(
        f"the server with process id {found.pid} on {folder} does not stop"
    )


def _refuse_shared(folder: Path) -> None:
    """Raise when files have other names elsewhere: writing would change those too."""
    for name in ("PG_VERSION", "global/pg_control"):
        if (folder / name).stat().st_nlink > 1:
            raise PostgresError(
                f"{folder} is made of hard links; opening it would change the original",
                "copy it to a scratch folder first",
            )
    if (folder / "pg_wal").is_symlink():
        raise PostgresError(
            f"{folder}/pg_wal is a link; opening would write through it",
            "copy the WAL into the scratch folder first",
        )


def _clear(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
        folder.mkdir(0o700)
        return
    folder.mkdir(0o700, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _point_links(folder: Path, copies: Mapping[int, Path]) -> None:
    inside = folder.resolve()
    for link in sorted((folder / "pg_tblspc").iterdir()):
        if not link.is_symlink():
            continue
        copy = copies.get(int(link.name)) if link.name.isdecimal() else None
        if copy is not None:
            link.unlink()
            link.symlink_to(copy.absolute())
        elif not link.resolve().is_relative_to(inside):
            raise PostgresError(
                f"{link} leads outside, to {link.readlink()}; opening would write "
                "into the original",
                "give a copy of this tablespace",
            )
