"""Whether the user that runs pg_rewind can use what the shim was written with.

Theory of operation. HA software runs pg_rewind as the owner of the data folder, and
whoever installs the shim is mostly root, for whom every folder is open. So the paths
are walked as that owner would: to the splitguard command, and to the folder into which
the shim copies WAL while no agent answers. Only root can and need look for another.
"""

import os
from pathlib import Path

from agent.errors import PostgresError
from agent.guard.shim import Shim
from agent.postgres.owner import Owner, owner_of, reaches

_WRITE_AND_ENTER = 0o3


def troubles(found: Shim, data_dir: Path) -> tuple[str, ...]:
    """Return what the data folder's owner cannot do with this shim."""
    try:
        owner = owner_of(data_dir)
    except PostgresError as error:
        return (f"{error.message}: is local.data_dir right?",)
    told = []
    if not reaches(owner, found.splitguard):
        told.append(
            f"user {owner.name} cannot reach {found.splitguard}: a rewind would wait;"
            " install Splitguard where that user may run it"
        )
    if not _may_write(owner, found.rescue):
        told.append(
            f"user {owner.name} cannot write to {found.rescue}: no WAL is copied aside"
            " while no agent answers; give the folder to that user, or name another"
            " with `splitguard guard install --rescue`"
        )
    return tuple(told)


def _may_write(owner: Owner, folder: Path) -> bool:
    """Whether the owner may make files there, or make the folder itself."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not reaches(owner, folder / "file"):
        return False
    if os.geteuid() != 0:
        return os.access(folder, os.W_OK)
    found = folder.stat()
    shift = 0
    if found.st_uid == owner.uid:
        shift = 6
    elif found.st_gid == owner.gid:
        shift = 3
    return found.st_mode >> shift & _WRITE_AND_ENTER == _WRITE_AND_ENTER
