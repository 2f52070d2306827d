"""The catalogue on disk, in the words of the API.

Theory of operation. An adapter and nothing more: manifests become cards, the archive
and the check come from `agent.snapshot`. All of it blocks; the routes call it in
threads.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.api.ports import ArchiveOf, SnapshotCard, VerifyReport
from agent.errors import CatalogueError, SnapshotError
from agent.postgres.programs import Programs, find_programs
from agent.snapshot import marks
from agent.snapshot.archive import Archive
from agent.snapshot.catalogue import Catalogue, check_id
from agent.snapshot.manifest import DATA, Manifest
from agent.snapshot.marks import Kept
from agent.snapshot.removal import remove
from agent.snapshot.verify import verify_and_record


class CatalogueShelf:
    """Snapshots below one capture folder; implements SnapshotShelf.

    `bin_dir` is where the server's programs are, as configured; None finds them by the
    version of the snapshot. `recipients` are the age public keys for whom passwords and
    keys of the configuration go along in an archive.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        bin_dir: Path | None,
        recipients: Sequence[str] = (),
    ) -> None:
        self._catalogue = catalogue
        self._bin_dir = bin_dir
        self._recipients = tuple(recipients)

    def list(self) -> tuple[SnapshotCard, ...]:
        """Return all snapshots, newest first. Raises CatalogueError."""
        return tuple(self._card(manifest) for manifest in self._catalogue.list())

    def show(self, snapshot_id: str) -> SnapshotCard | None:
        """Return one snapshot; None when there is none of this id.

        Raises CatalogueError when the capture folder cannot be read.
        """
        try:
            check_id(snapshot_id)
            return self._card(self._catalogue.show(snapshot_id))
        except CatalogueError:
            raise
        except SnapshotError:
            return None

    def archive(self, snapshot_id: str) -> Archive:
        """Return the snapshot as an archive. Raises SnapshotError."""
        return Archive(self._catalogue.folder(snapshot_id), self._recipients)

    def digest(self, archive: ArchiveOf) -> str:
        """Return the archive's SHA-256 in hex, read anew. Raises SnapshotError."""
        digest = hashlib.sha256()
        for piece in archive.stream():
            digest.update(piece)
        return digest.hexdigest()

    def verify(self, snapshot_id: str) -> VerifyReport:
        """Read every file back. Raises SnapshotError when there is no manifest.

        Raises PostgresError when the programs that check WAL are not there.
        """
        folder = self._catalogue.folder(snapshot_id)
        manifest = self._catalogue.show(snapshot_id)
        result = verify_and_record(folder, programs=self._programs(folder))
        return VerifyReport(
            id=snapshot_id,
            ok=result.good,
            grade=result.grade.value,
            files=len(manifest.files),
            bytes=result.bytes_checked,
            problems=result.problems,
            notes=result.notes,
        )

    def keep(self, snapshot_id: str, mark: Kept) -> None:
        """Keep a snapshot from being pruned. Raises SnapshotError."""
        marks.keep(self._catalogue.folder(snapshot_id), mark)

    def release(self, snapshot_id: str) -> None:
        """Keep it no longer. Raises SnapshotError."""
        marks.release(self._catalogue.folder(snapshot_id))

    def remove(self, snapshot_id: str, who: str, reason: str, wall_s: float) -> None:
        """Remove it for good. Raises SnapshotError."""
        remove(self._catalogue, snapshot_id, who, reason, wall_s)

    def _card(self, manifest: Manifest) -> SnapshotCard:
        folder = self._catalogue.folder(manifest.id)
        return replace(
            card(manifest),
            kept=marks.kept(folder),
            twin=marks.twin(folder),
            settled=tuple(sorted(marks.settled(folder))),
        )

    def _programs(self, folder: Path) -> Programs | None:
        if self._bin_dir is None or not (folder / DATA).is_dir():
            return None
        return find_programs(self._bin_dir, folder / DATA)


def card(manifest: Manifest) -> SnapshotCard:
    """Return a manifest in the words of the API."""
    end = manifest.end_lsn if manifest.end_lsn is not None else manifest.tail_lsn
    return SnapshotCard(
        id=manifest.id,
        node=manifest.node,
        cluster=manifest.cluster,
        created_wall_s=manifest.created_wall_s,
        grade=manifest.grade.value,
        levels=tuple(level.value for level in manifest.levels),
        method=manifest.method,
        reason=manifest.reason,
        incident_ids=manifest.incident_ids,
        system_id=manifest.system_id,
        timeline=manifest.timeline,
        start_lsn=str(manifest.start_lsn),
        end_lsn=str(end),
        bytes=manifest.size_bytes,
        files=len(manifest.files),
        version_num=manifest.version_num,
        closed=manifest.closed,
        method_note=manifest.method_note,
        rows_from=None if manifest.rows_from is None else str(manifest.rows_from),
        rows_lsn=None if manifest.rows_lsn is None else str(manifest.rows_lsn),
    )
