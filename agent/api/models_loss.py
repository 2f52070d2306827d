"""The shape of a loss report, as every form of it has it.

What is not known is null. Values of rows are cut to what a person reads; those of
columns that the configuration redacts are the beginnings of hashes, equal for equal
values within one report.
"""

from typing import Literal

from agent.api.models import Answer

Fate = Literal["lost", "changed", "deleted", "conflict", "collision"]
"""What sets a row apart: only the losing side has it; the losing side changed it; it
deleted it; both sides changed it; both inserted one under its key."""


class LossForkOut(Answer):
    """Where the losing side left the line that was kept."""

    timeline: int
    lsn: str


class LossSideOut(Answer):
    """The transactions of one side past the fork."""

    committed: int | None
    aborted: int | None
    user: int | None
    """Of the committed ones: those that may be a person's doing."""
    maintenance: int | None
    """Of the committed ones: those that are the server's own, such as ANALYZE."""
    first: str | None
    """When the first one committed."""
    last: str | None


class LossWinnerOut(LossSideOut):
    """What the losing side was compared with."""

    name: str
    lsn: str | None
    """Where it stood when it was read."""
    at: str


class LossWroteOut(Answer):
    """What the losing side did to rows past the fork."""

    inserted: int
    changed: int
    deleted: int


class LossCountsOut(Answer):
    """Rows by what sets them apart from the winner's; all zero before a comparison."""

    lost: int
    """The losing side inserted them, the winner has no such rows."""
    changed: int
    """They were there at the fork, and only the losing side changed them."""
    deleted: int
    """They were there at the fork, and only the losing side deleted them."""
    conflicts: int
    """They were there at the fork, and both sides changed them, not alike."""
    collisions: int
    """Both sides inserted a row under one key, and the rows are not the same."""
    equal: int
    """Written by the losing side, and the winner has them alike."""
    unknown: int
    """It could not be found out."""
    wrote: LossWroteOut


class LossCellOut(Answer):
    """One value of a row."""

    column: str
    value: str | None


class LossContrastOut(Answer):
    """One column in which the two sides' rows differ."""

    column: str
    loser: str | None
    winner: str | None


class LossSampleOut(Answer):
    """One row as an example."""

    kind: Fate
    key: list[LossCellOut]
    """Its key; its first columns where it has none."""
    row: list[LossCellOut]
    """What else it holds: the first few columns that hold something; none where
    `contrasts` tell."""
    contrasts: list[LossContrastOut]
    note: str | None


class LossTableOut(LossCountsOut):
    """One table that the losing side wrote to."""

    database: str
    schema_name: str
    table: str
    partition_of: str | None
    """The topmost table that it is a partition of."""
    key: list[str]
    """Columns by which rows were told apart; none: whole rows were compared."""
    whole: bool
    """Every row was compared, because the table's file was replaced past the fork."""
    note: str | None
    redacted: list[str]
    """Columns whose values are shown as hashes."""
    samples: list[LossSampleOut]


class LossObjectOut(Answer):
    """Something beside rows that is not the same on both sides."""

    kind: str
    name: str
    what: str
    """What became of it, such as `created by the losing side`."""
    database: str | None
    """Null for what all databases share."""


class LossGapOut(Answer):
    """Something that could not be compared."""

    what: str
    reason: str


class LossEntityCountOut(Answer):
    """Things of one kind, by what became of them."""

    kind: str
    lost: int
    changed: int
    deleted: int
    conflicts: int
    collisions: int


class LossEntityOut(Answer):
    """One thing of a manager: a deployment, a plugin, a user."""

    kind: str
    tenant: str | None
    id: str
    fate: Fate
    created: str | None
    """As the manager's own table says, in UTC."""
    who: str | None
    """Who did it, as the manager's audit log says."""
    detail: str | None


class LossManagerOut(Answer):
    """What a manager lost, matched by tenant and id."""

    database: str
    counts: list[LossEntityCountOut]
    entities: list[LossEntityOut]
    """The first ones of each kind; all are counted."""
    audited: bool
    note: str | None


class LossWaitingOut(Answer):
    """Commits that waited for a synchronous standby."""

    count: int
    first: str | None
    last: str | None


class LossDeliveredOut(Answer):
    """A logical slot that stood past the fork."""

    slot: str
    database: str
    plugin: str
    lsn: str


class LossReleasedOut(Answer):
    """A permit that a person gave before everything was protected."""

    node: str
    who: str
    reason: str
    at: str
    protected_lsn: str | None
    """Nothing past it was protected; null: nothing at all."""


class LossRescueOut(Answer):
    """Rows of the losing side that somebody put into a server."""

    at: str
    who: str
    reason: str
    database: str
    server: str
    """Host and port."""
    rows: int | None
    """How many it wrote or deleted; null: its end is not recorded, so it may have been
    committed or not."""
    counted: bool
    """Whether the comparison saw them; otherwise the counts are from before it."""


class LossReport(Answer):
    """What a losing side wrote past the fork, and what the winner has of it."""

    cluster: str
    node: str
    """Whose writes they are."""
    snapshot: str
    incidents: list[str]
    made: str
    headline: str
    next_step: str
    """What to do; commands stand in backquotes."""
    fork: LossForkOut
    end_lsn: str
    bytes: int
    """Of WAL from the fork to the losing side's end."""
    loser: LossSideOut
    winner: LossWinnerOut | None
    """Null: not compared yet."""
    totals: LossCountsOut
    managers: list[LossManagerOut]
    tables: list[LossTableOut]
    """Those that the losing side wrote to, the most differences first."""
    objects: list[LossObjectOut]
    not_compared: list[LossGapOut]
    perhaps_never_acknowledged: list[LossWaitingOut]
    perhaps_delivered: list[LossDeliveredOut]
    released: list[LossReleasedOut]
    rescues: list[LossRescueOut]
    """The last ones, in their order."""
