"""Removing a snapshot for good, and the record of it.

Theory of operation. Who removed what, and why, is written down before anything is
touched. Then the folder gets a name that no snapshot can have, so that at no instant
half a snapshot is listed, and is emptied. What a killed process left under such a name
is swept away later. A pin that was left goes first, as long as its notes are there.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import SnapshotError
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import PRIVATE_FILE, fsync_path, remove_tree, write_all
from agent.snapshot.pin import left_behind

RECORD = "removed.jsonl"
"""In the folder of the snapshots: one line for each snapshot that was removed."""
RECORD_BYTES_MAX = 1 << 20
"""A longer record is put aside as `.1`, in place of the one before."""
_DOOMED = ".removed-"


def remove(
    catalogue: Catalogue, snapshot_id: str, who: str, reason: str, wall_s: float
) -> None:
    """Remove a snapshot. Raises SnapshotError, CatalogueError."""
    folder = catalogue.folder(snapshot_id)
    manifest = catalogue.show(snapshot_id)
    twin = marks.twin(folder)
    line = {
        "id": snapshot_id,
        "removed": datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds"),
        "who": who,
        "reason": reason,
        "incidents": list(manifest.incident_ids),
        "grade": manifest.grade.value,
        "end_lsn": str(manifest.end_lsn or manifest.tail_lsn),
        "bytes": manifest.size_bytes,
        "offsite": twin.url if twin is not None and twin.verified else None,
    }
    try:
        record(folder.parent, line)
        for farm in left_behind(folder):
            remove_tree(farm)
        doomed = folder.with_name(_DOOMED + snapshot_id)
        remove_tree(doomed)
        folder.rename(doomed)
        fsync_path(folder.parent)
        sweep(folder.parent)
    except OSError as error:
        raise SnapshotError(
            f"snapshot {snapshot_id} cannot be removed: {error.filename}:"
            f" {error.strerror}",
            "run this as the user that the agent runs as",
        ) from error


def sweep(capture_dir: Path) -> None:
    """Take away what a killed process left of removed snapshots. Raises OSError."""
    for left in capture_dir.glob(f"{_DOOMED}*"):
        remove_tree(left)


def record(folder: Path, line: Mapping[str, object]) -> None:
    """Write down, durably, what is about to be removed from a folder of snapshots.

    For root the record is the folder's owner's: the agent goes on with it. Raises
    OSError.
    """
    path = folder / RECORD
    if path.exists() and path.stat().st_size > RECORD_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    handle = os.open(path, flags, PRIVATE_FILE)
    try:
        write_all(handle, memoryview(json.dumps(line).encode() + b"\n"))
        os.fsync(handle)
        if os.geteuid() == 0:
            owner = folder.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)
