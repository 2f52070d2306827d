"""Verdicts: the closed set of conclusions, and their families.

A verdict says what is so. What to do about it is decided elsewhere. Verdicts of
one family are stages of one trouble: a later stage makes an incident worse and
never opens a second one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Fact = str | int | float | bool | None
"""One value of a verdict's evidence; LSNs as PostgreSQL prints them."""


class Family(StrEnum):
    """Verdicts that are stages of one trouble.

    The first one per subject and family is told, so what may not hide another trouble
    of the same node is a family of its own: an agent that nobody hears, settings that
    differ, a manager beside a standby, or one whose snapshots fail.
    """

    SELF = "self"
    REACH = "reach"
    LINK = "link"
    PRIMARY = "primary"
    SPLIT = "split"
    PROTECTION = "protection"
    READY = "ready"
    ALERT = "alert"
    SETTINGS = "settings"
    ROLE = "role"
    KEEPING = "keeping"
    OTHER = "other"


class Severity(StrEnum):
    """How much it matters to the person on call."""

    OK = "ok"
    INFO = "info"
    UNKNOWN = "unknown"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Return the order of severities; the greater the graver."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class VerdictCode(StrEnum):
    """Everything that Splitguard can conclude."""

    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    OBSERVER_ISOLATED = "observer-isolated"
    NODE_SUSPECT = "node-suspect"
    NODE_UNREACHABLE = "node-unreachable"
    NODE_DOWN = "node-down"
    AGENT_DOWN = "agent-down"
    POSTGRES_DOWN = "postgres-down"
    MANAGER_DOWN = "manager-down"
    LINK_DOWN = "link-down"
    FAILOVER = "failover"
    NO_PRIMARY = "no-primary"
    STALE_PRIMARY = "stale-primary"
    WRITES_BLOCKED = "writes-blocked"
    SPLIT_BRAIN_SUSPECTED = "split-brain-suspected"
    SPLIT_BRAIN = "split-brain"
    LINEAGE_DIVERGED = "lineage-diverged"
    LINEAGE_TWIN = "lineage-twin"
    UNPROTECTED = "unprotected"
    CAPTURE_NOT_READY = "capture-not-ready"
    DESTRUCTIVE_CONFIG = "destructive-config"
    FOREIGN_SYSTEM = "foreign-system"
    STANDBY_DETACHED = "standby-detached"
    STANDBY_LAGGING = "standby-lagging"
    ARCHIVE_CONFLICT = "archive-conflict"
    CONFIG_ERROR = "config-error"
    CONFIG_DRIFT = "config-drift"
    ROLE_MISMATCH = "role-mismatch"
    CANNOT_ALERT = "cannot-alert"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One conclusion on one subject, with the rule that gave it and its evidence."""

    code: VerdictCode
    family: Family
    subject: str
    """A node's name, `a|b` for a pair (names sorted), or `cluster`."""
    severity: Severity
    rule: int
    """The number of the row of the rule table that fired."""
    evidence: Mapping[str, Fact]
    discriminator: str = ""
    """What tells two troubles of one family and subject apart; for `split` the
    fork's parent timeline, which both sides know."""
    sticky: bool = False
    """Whether its incident stays open until somebody acknowledges it."""
