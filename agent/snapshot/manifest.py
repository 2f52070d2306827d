"""The manifest: what a snapshot is, who ordered it, and every byte that it holds.

Theory of operation. A folder is a snapshot because of its manifest, which is only
written after everything that it names was fsynced. Paths are relative to the
folder, and are checked to stay inside it before anything is made of them. A WAL
segment that is still written to has no hash yet; the check of the WAL chain
covers it.
"""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from agent import codec
from agent.core.capture import Grade, Level
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.errors import CodecError, SnapshotError
from agent.snapshot.files import write_atomically

FORMAT = 1
NAME = "manifest.json"
BYTES_MAX = 1 << 30
"""A larger manifest is none of ours: it would stand for some six million files."""

DATA = "data"
"""The full copy of the data directory."""
TABLESPACES = "tblspc"
"""One folder per tablespace, named by its object id; `data/pg_tblspc` links here."""
WAL = "wal"
"""WAL segments at their full size, and timeline history files."""
STATE = "state"
"""pg_control, configuration and logs as the tail found them."""
LOSS = "loss"
"""Rows of a losing side. The manifest names them where there is no complete copy that
they could be read from again."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the snapshot."""

    path: str
    size: int
    sha256: str | None
    """None for a WAL segment that is still written to."""
    mode: int


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A link of the server's folder that was re-made to stay inside."""

    path: str
    target: str
    """Where it leads now, relative to the link's own folder."""
    original: str
    """Where it led on the server."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Files, folders and links of a part of the snapshot."""

    files: tuple[FileEntry, ...] = ()
    folders: tuple[str, ...] = ()
    links: tuple[LinkEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds and what has been proven of it."""

    id: str
    cluster: str
    node: str
    system_id: str
    timeline: int
    """The timeline that the end of the kept WAL is on."""
    lineage: Lineage
    """Of that timeline, as the server's own history files told."""
    incident_ids: tuple[str, ...]
    reason: str
    created_wall_s: float
    updated_wall_s: float
    version_num: int
    """The server's version, such as 160014; only the major one where the programs
    were not found."""
    wal_segment_bytes: int
    levels: tuple[Level, ...]
    """What was ordered."""
    method: str
    """How the full copy was made (see `record`); empty without one."""
    grade: Grade
    start_lsn: Lsn
    """Where the kept WAL begins."""
    tail_lsn: Lsn
    """Up to here WAL is kept and fsynced, at the least."""
    copy_lsn: Lsn | None
    """Recovery of the full copy begins here."""
    needed_lsn: Lsn | None
    """Recovery of the full copy must get at least here."""
    end_lsn: Lsn | None
    """Up to here the full copy with its WAL is proven complete."""
    has_backup_label: bool
    """Whether the copy was made of a running server and is recovered by label."""
    copy_timeline: int | None
    """The timeline that the full copy was taken on."""
    wal_link: str
    """Where pg_wal led on the server, if it was a link; here it is a folder."""
    incarnation: str
    """Of the data directory that is captured: a rewind or a re-clone changes it."""
    closed: bool
    """Whether nothing more is added to it."""
    size_bytes: int
    files: tuple[FileEntry, ...]
    folders: tuple[str, ...]
    links: tuple[LinkEntry, ...]
    format: int = FORMAT
    withheld: tuple[FileEntry, ...] = ()
    """In an archive: the files that passwords and keys were cut out of, as they were
    before. A capture folder has all its files."""
    method_note: str = ""
    """Why it was made so: what stood against a better method, or who froze it."""
    rows_from: Lsn | None = None
    """Every row that was written past here was read out of the running server and is in
    `loss/`; None: rows are not kept, or a full copy has them."""
    rows_lsn: Lsn | None = None
    """Up to here: between the reading and this no user transaction committed."""

    @property
    def has_copy(self) -> bool:
        """Whether it holds a full copy that was read back."""
        return self.grade is not Grade.NONE

    @property
    def has_rows_alone(self) -> bool:
        """Whether it holds a losing side's rows, and no full copy to read them from."""
        return self.rows_lsn is not None and not self.has_copy

    @property
    def complete(self) -> bool:
        """Whether it is sufficient to bring the whole server back."""
        return self.grade.rank >= Grade.COMPLETE.rank


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into its folder, atomically and durably. Raises OSError."""
    write_atomically(folder / NAME, codec.to_json(manifest).encode("ascii"))


def raise_grade(folder: Path, manifest: Manifest, grade: Grade) -> Manifest:
    """Record a better grade; a lesser one changes nothing. Returns what is so now.

    Raises OSError.
    """
    if grade.rank <= manifest.grade.rank:
        return manifest
    better = replace(manifest, grade=grade)
    write(folder, better)
    return better


def read(folder: Path) -> Manifest:
    """Return the folder's manifest. Raises SnapshotError when it has no usable one."""
    path = folder / NAME
    try:
        if path.stat().st_size > BYTES_MAX:
            raise SnapshotError(f"{path} is too large to be a manifest")
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise SnapshotError(
            f"{folder} is no snapshot: it has no {NAME}",
            "name a snapshot's own folder, or its archive",
        ) from error
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: bytes, where: str) -> Manifest:
    """Return the manifest that this JSON stands for, its paths checked.

    Raises SnapshotError.
    """
    try:
        manifest = codec.from_json(text, Manifest)
    except CodecError as error:
        raise SnapshotError(f"{where} is garbled: {error.message}") from error
    if manifest.format != FORMAT:
        raise SnapshotError(
            f"{where} has format {manifest.format}, this version reads {FORMAT}",
            "use the version of splitguard that took the snapshot",
        )
    for path in (
        *(entry.path for entry in manifest.files),
        *manifest.folders,
        *(entry.path for entry in manifest.links),
        *(entry.path for entry in manifest.withheld),
    ):
        check_inside(path, where)
    for link in manifest.links:
        check_link(link.path, link.target, where)
    return manifest


def check_inside(path: str, where: str) -> None:
    """Raise SnapshotError unless the relative path stays inside the snapshot."""
    parts = PurePosixPath(path).parts
    unsafe = not parts or path.startswith("/") or ".." in parts or "\0" in path
    if unsafe or parts[0] == NAME:
        raise SnapshotError(f"{where} names a path outside the snapshot: {path!r:.200}")


def check_link(path: str, target: str, where: str) -> None:
    """Raise SnapshotError unless the link leads to a place inside the snapshot."""
    depth = len(PurePosixPath(path).parts) - 1
    outside = target.startswith("/") or not target or "\0" in target
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        outside = outside or depth < 0
    if outside:
        raise SnapshotError(
            f"{where} has a link that leads outside the snapshot: {path!r:.200}"
        )
