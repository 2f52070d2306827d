"""The shapes of what is kept: snapshots, permits, and the requests about them."""

from typing import Annotated, Literal

from pydantic import Field

from agent.api.models import Answer, CaptureOut, Question, Sentence, Word
from agent.api.models_shelf import KeptOut, OffsiteOut


class SnapshotOut(Answer):
    """One snapshot of the catalogue beside this agent, or one that is being taken."""

    id: str
    node: str
    cluster: str
    created: str
    grade: str
    levels: list[str]
    method: str
    """How the full copy was made: `copy`, `reflink`, `frozen copy`, `cold copy`,
    `cold reflink`; empty without one."""
    method_note: str
    """Why so: what stood against a better method, or which program froze it."""
    reason: str
    incidents: list[str]
    system_id: str | None
    timeline: int | None
    start_lsn: str | None
    end_lsn: str | None
    bytes: int
    files: int
    closed: bool
    side: Literal["loser", "winner", "standby"] | None = None
    """Of the split that it was taken for, as predicted; null without a split, or when
    its incident is no longer on record."""
    capture: CaptureOut | None
    """Its progress, while the agent still works on it."""
    kept: KeptOut | None = None
    """Who keeps it from being pruned; null when nobody does."""
    offsite: OffsiteOut | None = None
    """Its archive elsewhere; null when none was sent."""
    rows_from: str | None = None
    """Past here every row that was written is kept; null: no rows are, or a complete
    copy has them."""
    rows_lsn: str | None = None
    """Up to here the rows are kept."""
    manager_snapshots: list[str] = Field(default_factory=list)
    """The manager's own snapshots of the same incident that are kept here, by id."""


class ElsewhereOut(Answer):
    """A snapshot that another agent told of; it lies beside that agent."""

    id: str
    node: str
    reporter: str
    side: Literal["loser", "winner", "standby"] | None
    """Of the split that it was taken for, as predicted."""
    phase: str
    grade: str
    timeline: int | None
    reached_lsn: str | None
    bytes: int | None
    ordered: str | None
    incidents: list[str]
    agent_url: str | None


class SnapshotsOut(Answer):
    """The catalogue, the latest first."""

    snapshots: list[SnapshotOut]
    elsewhere: list[ElsewhereOut]


class CaptureIn(Question):
    """Take a full snapshot of the server beside this agent."""

    reason: Sentence = "asked for"


class SnapshotBegunOut(SnapshotOut):
    """The snapshot by which a request is answered."""

    joined: bool
    """Whether it was under way already: then it goes on as a full copy, and stays open
    until that is complete."""


class VerifyOut(Answer):
    """The result of reading a snapshot back."""

    id: str
    ok: bool
    grade: str
    files: int
    bytes: int
    problems: list[str]
    notes: list[str]
    """What could not be checked, and why."""


class PermitIn(Question):
    """Ask whether a resync of the server beside this agent may go on."""

    purpose: Word = "resync"
    node: Word | None = None
    """Refused unless it names the node beside this agent."""
    data_dir_id: Annotated[str, Field(pattern=r"^[0-9]{1,20}:[0-9]{1,20}$")] | None = (
        None
    )
    """Device and inode of the data directory that is to be resynced, `DEVICE:INODE`.
    Refused unless it is the one that this agent reads."""
    source: Word | None = None
    """The server that it will be copied from, `HOST:PORT` as configured. Nothing is
    granted while that is seen not to be the primary; unknown ones are not judged."""


class PermitOut(Answer):
    """The guard's answer."""

    id: str
    node: str
    purpose: str
    state: Literal["pending", "granted", "void", "released"]
    reason: str
    asked: str
    valid_s: float | None
    """How long a grant still holds; null when there is none."""
    system_id: str | None
    timeline: int | None
    final_lsn: str | None
    capture: str | None
    bytes_done: int
    bytes_total: int
    seconds_left: float | None
    released_by: str | None
    source: str | None = None
    """The server that it will be copied from, where that was told."""


class ReleaseIn(Question):
    """Let a blocked resync pass without protection. It is recorded who and why."""

    reason: Sentence
    who: Word | None = None
    """Defaults to the name of the token."""
    node: Word | None = None
    """Refused unless it names the node beside this agent."""


class PermitsOut(Answer):
    """Permits, the latest first."""

    permits: list[PermitOut]
    minimum: Literal["full", "rows"] = "full"
    """What a permit rests on (`guard.minimum`)."""
    no_rows: str | None = None
    """Why a losing side's rows could not be read out here; null where nothing is in the
    way, or nobody has looked yet."""
