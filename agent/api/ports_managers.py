"""What the routes need of the managers' snapshots that are kept beside this agent.

Theory of operation. The same small protocol as for the copies of the database: cards in
the words of the API, and a file to stream. Who makes them is no concern of the routes;
a request is entered and answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.snapshot.marks import Twin


@dataclass(frozen=True, slots=True)
class CertificateCard:
    """One file of the manager's certificate folders."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str
    link: str


@dataclass(frozen=True, slots=True)
class ManagerSnapshotCard:
    """What the manifest of one manager's snapshot says."""

    id: str
    node: str
    manager: str
    version: str
    archive_format: str
    reason: str
    scheduled: bool
    incident_ids: tuple[str, ...]
    capture_id: str
    execution_id: str
    created_wall_s: float
    kept_wall_s: float
    size_bytes: int
    sha256: str
    file: str
    stored_bytes: int
    stored_sha256: str
    sealed: bool
    members: int
    removed_there: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    certificates: tuple[CertificateCard, ...] = ()
    problems: tuple[str, ...] = ()
    twin: Twin | None = None


class ManagerSnapshots(Protocol):
    """The managers' snapshots beside this agent; all but `ask` may block."""

    def list(self) -> tuple[ManagerSnapshotCard, ...]:
        """Return them, newest first. Raises ManagerError."""
        ...

    def show(self, snapshot_id: str) -> ManagerSnapshotCard | None:
        """Return one; None when there is none of this id."""
        ...

    def archive(self, snapshot_id: str) -> Path:
        """Return the file that holds it. Raises ManagerError."""
        ...

    def refusal(self) -> tuple[str, str]:
        """Return why none can be asked for, and what to do; empty when one can."""
        ...

    def ask(self, reason: str) -> str | None:
        """Have one made; return its id at once, None when too many wait already."""
        ...
