"""What a channel's probe comes to, before it becomes an Observation."""

from dataclasses import dataclass

from agent.core.care import ManagerSight
from agent.core.observation import Outcome, PostgresSight, Report

REASON_LIMIT = 300
"""Characters kept of a reason: it travels in every report."""

REASON_READ = 10 * REASON_LIMIT
"""Characters looked at: what a stranger answers may be of any length."""


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome with its reason, or the sight; `sent_s` where it left earlier."""

    outcome: Outcome
    reason: str = ""
    postgres: PostgresSight | None = None
    manager: ManagerSight | None = None
    report: Report | None = None
    sent_s: float | None = None


def failure(outcome: Outcome, reason: str) -> Result:
    """Return a failure whose reason is one bounded line that any terminal may show."""
    line = " ".join(reason[:REASON_READ].split())
    line = "".join(one if one.isprintable() else "?" for one in line)
    if len(line) > REASON_LIMIT:
        line = line[: REASON_LIMIT - 3] + "..."
    return Result(outcome, line)
