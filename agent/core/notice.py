"""Notices: one message to the receivers, with its reason.

The id is a hash of incident id, reason and revision, so two agents that tell the
same news send the same id, and a receiver that has it once can drop the other.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class NoticeReason(StrEnum):
    """Why a notice is sent."""

    FIRST = "first"
    WORSE = "worse"
    CHANGED = "changed"
    LOSS = "loss"
    """It became known what the losing side wrote, or what of that was lost."""
    REMINDER = "reminder"
    RESOLVED = "resolved"
    TEST = "test"

    @property
    def event_type(self) -> str:
        """Return the `type` of the webhook body."""
        words = {
            NoticeReason.FIRST: "opened",
            NoticeReason.WORSE: "changed",
            NoticeReason.CHANGED: "changed",
            NoticeReason.LOSS: "changed",
        }
        return f"splitguard.incident.{words.get(self, self.value)}"


@dataclass(frozen=True, slots=True)
class Notice:
    """One piece of news about one incident.

    The shell renders the body from the state of the same step; the core decides
    that and why it is told.
    """

    id: str
    incident_id: str
    reason: NoticeReason
    revision: int


def notice_id(incident_id: str, reason: NoticeReason, revision: int) -> str:
    """Return the id that every agent derives alike for one piece of news."""
    digest = hashlib.sha256(f"{incident_id}#{reason}#{revision}".encode()).hexdigest()
    return f"msg-{digest[:24]}"
