"""The form of a row of the rule table.

Theory of operation. A row is data: a number, a verdict, whom it can be about, one
sentence, and a condition that looks at the scene and returns what it found, or
None. Rows are tried in the order of their numbers; the first that fires for a
subject and family wins. Numbers are odd, so that a row fits between.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

from agent.core.policy import Policy
from agent.core.scene import Scene
from agent.core.verdict import Fact, Family, Severity, VerdictCode

CLUSTER = "cluster"
"""The subject of what is true of the whole cluster."""


class Hold(StrEnum):
    """Which of policy's hold times a row waits for before its incident opens."""

    CRITICAL = "critical"
    WARNING = "warning"
    NO_PRIMARY = "no-primary"
    LINEAGE = "lineage"
    READINGS = "readings"
    """As long as readings stay fresh: two that exclude each other must not meet."""
    LAG = "lag"
    """As long as a standby may need to catch up after a restart or a burst."""
    ALERT = "alert"
    """What a receiver of notices may take to come back."""
    SETTINGS = "settings"
    """What a change may take until it is on all nodes."""

    def seconds(self, policy: Policy) -> float:
        """Return the hold time."""
        return _SECONDS[self](policy)


_SECONDS: dict[Hold, Callable[[Policy], float]] = {
    Hold.CRITICAL: attrgetter("open_hold_s"),
    Hold.WARNING: attrgetter("open_hold_warning_s"),
    Hold.NO_PRIMARY: attrgetter("no_primary_hold_s"),
    Hold.LINEAGE: attrgetter("lineage_hold_s"),
    Hold.READINGS: attrgetter("fresh_s"),
    Hold.LAG: attrgetter("lag_hold_s"),
    Hold.ALERT: attrgetter("alert_hold_s"),
    Hold.SETTINGS: attrgetter("settings_hold_s"),
}


class Scope(StrEnum):
    """Whom a row can be about."""

    SELF = "self"
    NODES = "nodes"
    PAIRS = "pairs"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition found."""

    evidence: Mapping[str, Fact] = field(default_factory=dict)
    discriminator: str = ""


Condition = Callable[[Scene, str], Finding | None]
About = Callable[[Scene], Collection[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    number: int
    code: VerdictCode
    family: Family
    severity: Severity
    scope: Scope
    sentence: str
    """What the row says, for the reader of the table."""
    condition: Condition
    hold: Hold = Hold.CRITICAL
    accuses: bool = True
    """Whether it is about others: an isolated agent does not try it."""
    sticky: bool = False
    about: About | None = None
    """Who alone can fire it now, found out for all at once; None: any of its scope.
    It spares work and decides nothing: the condition is asked all the same."""
