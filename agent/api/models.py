"""The shapes of all answers, which are also the published contract.

Theory of operation. Every response is one of these models, so the OpenAPI document,
the page and the command line can not drift apart. LSNs are texts as PostgreSQL prints
them, instants are RFC 3339 in UTC, durations are seconds and end in `_s`. What is not
known is null; it is never a default value.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fact = str | int | float | bool | None
Word = Annotated[str, Field(min_length=1, max_length=200)]
"""A short text that a person or a program gives us: a name, a purpose."""
Sentence = Annotated[str, Field(min_length=1, max_length=2000)]
"""A longer text, such as a reason."""


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class Question(BaseModel):
    """A request body; keys that we do not know are refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Answer):
    """What went wrong, as RFC 9457 shapes it."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None
    """What to do about it."""
    scope: str | None = None
    """With 403: the scope that the token lacks."""
    errors: list[dict[str, str]] | None = None
    """With 422: each field that does not fit, and why."""


class Headline(Answer):
    """The gravest thing that is so now."""

    verdict: str
    severity: str
    subject: str
    since: str | None
    sentence: str
    next_step: str


class VerdictOut(Answer):
    """One conclusion, with the rule that gave it and its evidence."""

    verdict: str
    family: str
    subject: str
    severity: str
    since: str | None
    rule: int
    sentence: str
    next_step: str
    incident: str | None
    evidence: dict[str, Fact]


class ChannelOut(Answer):
    """One way to a node, as this agent sees it, and who else does."""

    configured: bool
    outcome: str | None
    """How the latest probe ended; null when there was none yet."""
    reason: str
    age_s: float | None
    missed: int
    seen_by: list[str]
    unseen_by: list[str]


class HaSoftwareOut(Answer):
    """What one configuration of a node's HA software says of the guard."""

    name: str
    file: str
    wired: Literal["wired", "bypassable", "not wired"]
    """Bypassable: a rewind waits for its permit, a replica made anew does not."""
    destructive: list[str]
    """Settings that delete a loser's data before it is kept."""
    gaps: list[str]
    """What is missing, and what to do about it."""
    notes: list[str]
    broken: str
    """Why the shim in front would not do its work; empty when it would."""
    unknown: str
    """What could not be found out, and why; empty when nothing."""


class GuardOut(Answer):
    """Whether a node's HA software is led through the gate, as its agent found."""

    line: str
    software: list[HaSoftwareOut]


class SlotOut(Answer):
    """One replication slot of a server."""

    name: str
    kind: str
    """`physical` or `logical`."""
    active: bool
    lost: bool
    """Whether the WAL that it kept was removed after all."""
    restart_lsn: str | None
    kept_bytes: int | None
    """How much WAL is kept for it; null where it keeps none."""


class ArchiverOut(Answer):
    """How a server's archiving goes."""

    method: str
    """`archive_command` or `archive_library`."""
    archived: int
    last_archived: str | None
    failing: bool
    """Whether its latest attempt has failed."""
    last_failed: str | None


class NodeOut(Answer):
    """One node of the list."""

    name: str
    me: bool
    voter: bool
    role: Literal["primary", "standby", "stopped", "witness", "manager", "unknown"]
    system_id: str | None
    timeline: int | None
    lsn: str | None
    """Flushed on a primary, received on a standby, the end of WAL when stopped."""
    replay_lsn: str | None
    lsn_age_s: float | None
    lsn_known: bool
    """Whether it is there now; false: that is where it was when it was last read."""
    lag_bytes: int | None
    """Behind the primary of the same timeline; null on it, or without one."""
    replay_lag_bytes: int | None
    """Received by a standby and not replayed; null on a primary."""
    slots: list[SlotOut]
    """Its replication slots, the first 64."""
    archiver: ArchiverOut | None
    """Null where it archives nothing."""
    trouble: str | None
    """What is wrong with its slots or its archiver, in words; null when nothing is."""
    upstream: str | None
    postgres_version: int | None
    """PostgreSQL's server_version_num."""
    manager_active: bool | None
    """Null where there is none, where it answers nobody, and where it does not say."""
    manager_version: str | None
    manager_cluster: str | None
    """OK, Degraded or Fail, as it says of its cluster; null without a login."""
    manager_kept: str | None
    """When the newest good snapshot of it was made that is kept beside it."""
    manager_line: str | None
    """All that in words; null where the node has no manager."""
    doubt: str | None
    """Why the agent there doubts itself."""
    agent: ChannelOut
    postgres: ChannelOut
    manager: ChannelOut
    protection: str
    guard: GuardOut | None
    """Null while the agent there has not looked or was not heard lately."""
    verdicts: list[str]


class MatrixRow(Answer):
    """Who sees whom: one observer's latest probe of one channel of one node."""

    observer: str
    node: str
    channel: str
    seen: bool | None
    """Null when there was no probe yet, or its result is too old to mean anything."""
    outcome: str
    reason: str
    age_s: float
    missed: int


class CaptureOut(Answer):
    """A protective copy being taken, or the latest one."""

    id: str
    node: str
    phase: str
    grade: str
    levels: list[str]
    method: str
    pin: str
    timeline: int | None
    start_lsn: str | None
    tail_lsn: str | None
    reached_lsn: str | None
    rows_from: str | None = None
    """Past here every row that was written is kept; null: no rows are."""
    rows_lsn: str | None = None
    """Up to here: between the reading and this no user transaction committed."""
    rows_reason: str = ""
    """Why rows are not kept, or not up to the end; empty when nothing is wrong."""
    final_lsn: str | None
    bytes_done: int
    bytes_total: int
    seconds_left: float | None
    reason: str
    why: str
    incidents: list[str]
    ordered: str


class ProtectionOut(Answer):
    """What stands between one node's writes and a resync."""

    line: str
    capture: CaptureOut | None


class NoticesOut(Answer):
    """News on its way to people."""

    undelivered: int


class StatusOut(Answer):
    """Everything that is so now, as this agent sees it."""

    cluster: str
    observer: str
    as_of: str
    data_age_s: float | None
    """How old the newest probe result is; null before the first one."""
    headline: Headline
    verdicts: list[VerdictOut]
    nodes: list[NodeOut]
    matrix: list[MatrixRow]
    protection: dict[str, ProtectionOut]
    incidents_open: int
    notices: NoticesOut
    decisions: list[str]
    """What people announced or decided, as far as it is in force: a sentence each."""


class NodesOut(Answer):
    """All nodes, in the order of the configuration."""

    nodes: list[NodeOut]


class BranchOut(Answer):
    """One timeline of one line of descent.

    Two branches may bear one number: twins, which PostgreSQL cannot tell apart.
    """

    id: str
    system_id: str
    timeline: int
    parent: str | None
    """The id of the branch that it left."""
    switch_lsn: str | None
    """Where it left its parent."""
    end_lsn: str | None
    """The furthest position known on it."""
    nodes: list[str]


class ForkOut(Answer):
    """A point that two or more branches have in common for the last time."""

    branch: str
    timeline: int
    lsn: str
    children: list[str]


class PlaceOut(Answer):
    """Where one node stands on the tree."""

    node: str
    branch: str
    system_id: str
    timeline: int
    lsn: str | None
    lsn_age_s: float | None
    known: bool
    """Whether it is there now; false: that is where it was when it was last read."""
    role: str
    past_fork_bytes: int | None
    """How far it is past the fork, at most: switches of WAL segments count too. Null
    when on the line, or when that is not known."""
    stands: Literal["on", "past", "unknown"]
    """On the line that is held against, past the fork from it, or nobody knows."""


class LineageOut(Answer):
    """The tree of timelines, and every node's place on it."""

    branches: list[BranchOut]
    forks: list[ForkOut]
    places: list[PlaceOut]
    against: list[str]
    """The primary whose line all are held against; several while nobody can tell which
    will be kept; none while no primary is seen."""
    unplaced: list[str]
    """Nodes with a PostgreSQL whose timeline is not known."""


class LiveOut(Answer):
    """This process answers."""

    status: Literal["live"] = "live"


class ReadyOut(Answer):
    """Whether this agent can do its work, and why not."""

    ready: bool
    reasons: list[str]


class BalancerOut(Answer):
    """What a load balancer was told, and why."""

    node: str
    role: str
    open: bool
    """Whether traffic may come."""
    reason: str
    lag_bytes: int | None = None
