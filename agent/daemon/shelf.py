"""The catalogue as the HTTP API wants to see it."""

from collections.abc import Iterator
from pathlib import Path

from agent.api.ports import SnapshotCard, VerifyReport
from agent.errors import SnapshotError
from agent.snapshot import archive
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.manifest import Manifest
from agent.snapshot.verify import verify_folder

PROBLEMS_SHOWN = 100


class Shelf:
    """Implements api.ports.SnapshotShelf over one capture folder. Blocking."""

    def __init__(self, capture_dir: Path) -> None:
        self._catalogue = Catalogue(capture_dir)

    def list(self) -> tuple[SnapshotCard, ...]:
        """Return all snapshots whose manifest can be read, newest first."""
        return tuple(_card(manifest) for manifest in self._catalogue.list())

    def show(self, snapshot_id: str) -> SnapshotCard | None:
        """Return one snapshot; None when there is none of this id."""
        try:
            return _card(self._catalogue.show(snapshot_id))
        except SnapshotError:
            return None

    def stream(self, snapshot_id: str) -> Iterator[bytes]:
        """Yield the snapshot as an uncompressed tar archive, in pieces."""
        return archive.stream(self._catalogue.folder(snapshot_id))

    def verify(self, snapshot_id: str) -> VerifyReport:
        """Read every file back and compare it with the manifest."""
        folder = self._catalogue.folder(snapshot_id)
        result = verify_folder(folder)
        manifest = self._catalogue.show(snapshot_id)
        return VerifyReport(
            id=snapshot_id,
            ok=not result.problems,
            grade=result.grade.value,
            files=len(manifest.files),
            bytes=manifest.size_bytes,
            problems=result.problems[:PROBLEMS_SHOWN],
        )


def _card(manifest: Manifest) -> SnapshotCard:
    return SnapshotCard(
        id=manifest.id,
        node=manifest.node,
        cluster=manifest.cluster,
        created_wall_s=manifest.updated_wall_s,
        grade=manifest.grade.value,
        levels=tuple(level.value for level in manifest.levels),
        method=manifest.method,
        reason=manifest.reason,
        incident_ids=manifest.incident_ids,
        system_id=manifest.system_id,
        timeline=manifest.timeline,
        start_lsn=str(manifest.start_lsn),
        end_lsn=str(manifest.end_lsn or manifest.tail_lsn),
        bytes=manifest.size_bytes,
        files=len(manifest.files),
        version_num=manifest.version_num,
        closed=manifest.closed,
    )
