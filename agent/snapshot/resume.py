"""Taking up a capture that an earlier run of the agent had begun.

Theory of operation. The manifest is all that counts: what it names is on disk, and
what it does not name is thrown away. A folder without a manifest promises nothing
and is emptied. A manifest that is there and cannot be read (a newer version wrote
it, the disk fails, no file may be opened) promises something unknown, perhaps the
only copy there is: then nothing is touched. The order that comes now widens the one
that was recorded.
"""

from pathlib import Path

from agent.core.capture import CaptureOrder
from agent.errors import CaptureError, SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.files import hash_file, make_folder, remove_tree
from agent.snapshot.fullcopy import OLD, PARTIAL
from agent.snapshot.manifest import (
    DATA,
    LOSS,
    STATE,
    TABLESPACES,
    WAL,
    Contents,
    Manifest,
)
from agent.snapshot.record import FullCopy, Identity, Record, RowsKept

ROWS_RECORD = f"{LOSS}/extraction.json"


def take_up(record: Record, *, closing: bool) -> Manifest | None:
    """Prepare the folder and the record; return the earlier run's manifest, if any.

    Raises OSError, and CaptureError when there is a manifest that cannot be used.
    """
    folder = record.folder
    make_folder(folder)
    found = _found(folder)
    for name in (PARTIAL, OLD):
        remove_tree(folder / name)
    if found is not None:
        restore(record, found, closing=closing)
        return found
    for name in (DATA, TABLESPACES, WAL, STATE):
        remove_tree(folder / name)
    record.created_wall_s = record.moment().wall_s
    return None


def _found(folder: Path) -> Manifest | None:
    """Return the manifest; None only if it is certain that there is none."""
    try:
        (folder / manifests.NAME).lstat()
    except FileNotFoundError:
        return None
    try:
        found = manifests.read(folder)
    except SnapshotError as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise CaptureError(
            f"the capture cannot go on, and nothing of it is touched:"
            f" {error.message}{hint}",
            f"move {folder} elsewhere if a new capture shall begin in its place",
        ) from error
    if found.id != folder.name or not found.system_id:
        raise CaptureError(
            f"{folder / manifests.NAME} is of another capture: {found.id!r:.200};"
            " nothing of it is touched",
            f"move {folder} elsewhere if a new capture shall begin in its place",
        )
    return found


def restore(record: Record, found: Manifest, *, closing: bool) -> None:
    """Put an earlier run's manifest into the record. Raises OSError.

    With `closing` the order at hand asks for nothing, and the recorded one stays.
    """
    now, record.order = record.order, _order_of(found)
    if not closing:
        record.widen(now)
    record.created_wall_s = found.created_wall_s
    record.identity = Identity(
        found.system_id, found.version_num, found.wal_segment_bytes, found.incarnation
    )
    record.lineage, record.timeline = found.lineage, found.timeline
    record.start_lsn, record.tail_lsn = found.start_lsn, found.tail_lsn
    record.wal = tuple(e for e in found.files if e.path.startswith(f"{WAL}/"))
    record.state = tuple(e for e in found.files if e.path.startswith(f"{STATE}/"))
    record.closed = found.closed
    record.rows = _rows_of(found, record.folder)
    record.copy = _copy_of(found)
    if record.copy is not None:
        record.grade, record.end_lsn = found.grade, found.end_lsn
    else:
        remove_tree(record.folder / DATA)
        remove_tree(record.folder / TABLESPACES)


def _order_of(found: Manifest) -> CaptureOrder:
    return CaptureOrder(
        capture_id=found.id,
        node=found.node,
        levels=found.levels,
        incident_ids=found.incident_ids,
        reason=found.reason,
        confirmed_lsn=None,
        final_lsn=None,
    )


def _rows_of(found: Manifest, folder: Path) -> RowsKept | None:
    """Return the rows that a manifest speaks of, if these are what is there.

    Others take their place while they are read again; the smallest file of them, their
    record, tells by its hash whether that was so.
    """
    if found.rows_from is None or found.rows_lsn is None:
        return None
    files = tuple(e for e in found.files if e.path.startswith(f"{LOSS}/"))
    for entry in files:
        try:
            if (folder / entry.path).lstat().st_size != entry.size:
                return None
            is_record = entry.path == ROWS_RECORD
            if is_record and hash_file(folder / entry.path) != entry.sha256:
                return None
        except OSError:
            return None
    return RowsKept(found.rows_from, found.rows_lsn, files)


def _copy_of(found: Manifest) -> FullCopy | None:
    """Return the full copy that a manifest speaks of."""
    if not found.has_copy or found.copy_lsn is None or found.copy_timeline is None:
        return None
    inside = (f"{DATA}/", f"{TABLESPACES}/")
    files = tuple(e for e in found.files if e.path.startswith(inside))
    return FullCopy(
        Contents(files, found.folders, found.links),
        found.method,
        found.copy_lsn,
        found.needed_lsn or found.copy_lsn,
        found.copy_timeline,
        has_backup_label=found.has_backup_label,
        wal_link=found.wal_link,
        note=found.method_note,
    )
