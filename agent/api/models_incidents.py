"""The shapes of troubles: what they are, what is kept and lost by them."""

from agent.api.models import Answer, CaptureOut, Fact, Question, Word


class FlipOut(Answer):
    """One entry of an incident's history."""

    at: str
    status: str
    verdict: str
    rule: int
    sentence: str


class NoticeOut(Answer):
    """One piece of news that was told."""

    id: str
    reason: str
    revision: int
    delivered: bool
    by: str
    """`this agent` or `a peer`."""
    at: str


class KeptOut(Answer):
    """A snapshot that was taken because of an incident, and how to look into it."""

    id: str
    node: str
    """Whose writes it holds."""
    beside: str
    """The node whose agent has it on its disk: the command is run there."""
    phase: str
    grade: str
    reached_lsn: str | None
    sentence: str
    command: str | None
    """Opens it; null as long as there is no full copy that could be opened."""


class LossBriefOut(Answer):
    """What a split has cost, as the loss report of one snapshot says."""

    snapshot: str
    node: str
    """Whose writes they are."""
    winner: str | None
    """The node that was compared with; null before there was one."""
    transactions: int | None
    """User transactions that the losing side committed alone."""
    rows: int | None
    """Rows on which the two sides do not agree; without a winner, rows touched."""
    end_lsn: str
    made: str
    sentence: str
    command: str
    """Prints the whole report; it is run beside `node`."""


class IncidentOut(Answer):
    """One trouble, from its first sign to its end."""

    id: str
    key: str
    occurrence: int
    status: str
    verdict: str
    family: str
    subject: str
    severity: str
    worst: str
    since: str
    """When the first sign of it came, whatever it was called then."""
    stage_since: str
    """Since when the present verdict has been true; of a split, as `since`."""
    opened: str | None
    resolved: str | None
    acknowledged_by: str | None
    sticky: bool
    revision: int
    sentence: str
    next_step: str
    snapshots: list[KeptOut]
    """What is kept because of it, wherever it lies; what can be opened comes first."""
    losses: list[LossBriefOut]
    """What it has cost, as far as that is known."""


class IncidentsOut(Answer):
    """Incidents, the latest first."""

    incidents: list[IncidentOut]


class IncidentDetail(IncidentOut):
    """One incident with all that belongs to it."""

    rule: int
    evidence: dict[str, Fact]
    sentences: list[str]
    history: list[FlipOut]
    notices: list[NoticeOut]
    captures: list[CaptureOut]


class AckIn(Question):
    """Take an incident."""

    who: Word | None = None
    """Defaults to the name of the token."""
