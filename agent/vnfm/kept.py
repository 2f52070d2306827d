"""What is written down of a manager's snapshot that is kept here.

Theory of operation. The manifest is the last file of a snapshot's folder: a folder with
one was fetched whole, opened, and lies on the disk. It names every byte that came off
the manager, so that anybody can check it years later without the manager, and what is
not in it with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent import codec
from agent.errors import CodecError, ManagerError

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 4 << 20
"""A larger one is none of ours."""
CERTIFICATES = "certificates.tar.age"
PROBLEMS_MAX = 50
"""So many problems of one snapshot are written down."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One file of the certificate folders, as it was on the manager's machine."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str
    """Empty for a link."""
    link: str = ""
    """Where a link leads; empty for a file."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One manager's snapshot on the shelf."""

    id: str
    """What the manager calls it too."""
    node: str
    manager: str
    """Host and port of the manager that made it."""
    version: str
    """The manager's version."""
    archive_format: str
    """`legacy` or `new`: how the zip is laid out."""
    reason: str
    scheduled: bool
    incident_ids: tuple[str, ...]
    capture_id: str
    """The copy of the database that was made at the same time; may be empty."""
    execution_id: str
    """The manager's own name for the work."""
    created_wall_s: float
    """When it was ordered."""
    kept_wall_s: float
    """When it was fetched and checked."""
    size_bytes: int
    """Of the zip."""
    sha256: str
    """Of the zip as it came off the manager."""
    file: str
    """What lies here: ID.zip, or ID.zip.age."""
    stored_bytes: int
    stored_sha256: str
    """Of what lies here; that of the zip where it is not encrypted."""
    sealed: bool
    """Whether it is encrypted; then only a private key that is elsewhere opens it."""
    members: int
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind the archive holds, such as deployments."""
    certificates: tuple[Certificate, ...] = ()
    certificates_sha256: str = ""
    """Of the encrypted archive of them; empty where none were kept."""
    problems: tuple[str, ...] = ()
    """What is not in it, a sentence each."""
    removed_there: bool = False
    """Whether it was taken off the manager afterwards."""
    cluster: str = ""
    format: int = FORMAT


def written(kept: Kept) -> bytes:
    """Return the manifest."""
    return codec.to_json(kept).encode("ascii")


def parsed(text: bytes, where: str) -> Kept:
    """Return what a manifest says. Raises ManagerError when it cannot be one."""
    try:
        kept = codec.from_json(text, Kept)
    except CodecError as error:
        raise ManagerError(f"{where} is garbled: {error.message}") from error
    if kept.format != FORMAT:
        raise ManagerError(
            f"{where} has format {kept.format}, this version reads {FORMAT}",
            "use the version of splitguard that wrote it",
        )
    if kept.file not in (f"{kept.id}.zip", f"{kept.id}.zip.age"):
        raise ManagerError(f"{where} names a file that is none of it: {kept.file!r:.9}")
    return kept
