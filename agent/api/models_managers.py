"""The shapes of what the managers say, and of what is kept of them."""

from agent.api.models import Answer, Question, Sentence
from agent.api.models_shelf import OffsiteOut


class ManagerMemberOut(Answer):
    """One machine of the managers' cluster, as the manager here says."""

    kind: str
    """`manager`, `db` or `broker`."""
    name: str
    address: str
    status: str
    """`OK`, `Degraded`, `Fail`; of the 4.x line `leader`, `replica`, `offline`."""


class ManagerCareOut(Answer):
    """What the agent has learnt of the manager beside it, with its login."""

    version: str | None
    active: bool | None
    cluster: str | None
    """`OK`, `Degraded` or `Fail`."""
    members: list[ManagerMemberOut]
    refused_login: str | None
    """Why nothing is asked any more, until the configuration is read anew."""
    running: str | None
    """The snapshot that is being made."""
    failed: str | None
    """Why the last snapshot failed; null after a good one."""
    failed_at: str | None
    last_good: str | None
    """When the newest good snapshot was made."""
    scheduled: bool
    """Whether a schedule is set, and it is this agent that follows it now."""
    alert_after_s: float | None
    """So long without a good one is told of."""


class ManagerSightOut(Answer):
    """What one node's manager answers to the question whether it is active."""

    node: str
    outcome: str
    reason: str | None
    active: bool | None
    version: str | None
    age_s: float


class ManagersOut(Answer):
    """The managers of the cluster."""

    node: str
    """Beside whom this agent stands."""
    here: ManagerCareOut | None
    """Null where no manager stands, or nobody has its login."""
    managers: list[ManagerSightOut]


class CertificateOut(Answer):
    """One file of the manager's certificate folders, as it was there."""

    path: str
    mode: str
    """In octal, such as 0440."""
    uid: int
    gid: int
    bytes: int
    sha256: str | None
    link: str | None


class ManagerSnapshotOut(Answer):
    """One of the managers' snapshots that are kept beside this agent."""

    id: str
    node: str
    manager: str
    """Host and port of the manager that made it."""
    version: str
    format: str
    """`legacy` or `new`."""
    reason: str
    scheduled: bool
    incidents: list[str]
    capture: str | None
    """The copy of the database that was made at the same time."""
    execution: str
    """The manager's own name for the work."""
    created: str
    kept: str
    """When it was fetched and checked."""
    bytes: int
    sha256: str
    """Of the zip, as it came off the manager."""
    file: str
    stored_bytes: int
    stored_sha256: str
    """Of what lies here, and is streamed."""
    sealed: bool
    """Whether what lies here is encrypted."""
    members: int
    counts: dict[str, int]
    """How many of each kind it holds, such as deployments."""
    certificates: list[CertificateOut]
    problems: list[str]
    """What is not in it."""
    removed_there: bool
    """Whether the manager has it no more."""
    offsite: OffsiteOut | None


class ManagerSnapshotsOut(Answer):
    """Those that are kept, the latest first."""

    running: str | None
    """The id of the one that is being made."""
    snapshots: list[ManagerSnapshotOut]


class ManagerSnapshotIn(Question):
    """Have the manager beside this agent take a snapshot, and keep it here."""

    reason: Sentence = "asked for"


class ManagerSnapshotBegunOut(Answer):
    """A snapshot that was asked for."""

    id: str
    """Under which it is listed once it is kept."""
