"""The shape of an incident's timeline: who saw what, when."""

from typing import Literal

from agent.api.models import Answer


class MomentOut(Answer):
    """One thing that happened, or that somebody saw."""

    at: str
    learnt_s: float
    """How much later this agent came to know of it, in seconds."""
    kind: Literal["seen", "verdict", "told"]
    by: str
    """Who saw, judged or told it: a node's name."""
    about: list[str]
    """For `seen`: the nodes, each with the channels on which it was seen."""
    what: str
    rule: int | None
    """For `verdict`: the row of the rule table that fired."""


class RuleOut(Answer):
    """A row of the rule table."""

    number: int
    says: str
    """What the row says, in one sentence."""


class TimelineOut(Answer):
    """Who saw what, when, in order, around every turn of one incident."""

    incident: str
    observer: str
    rounds_since: str | None
    """From when on what was seen is kept; null when nothing is."""
    whole: bool
    """Whether it is kept from before the incident's beginning on."""
    rules: list[RuleOut]
    """The rows that fired, in order."""
    moments: list[MomentOut]
