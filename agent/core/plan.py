"""What an operator has announced or decided, as the ledger keeps it.

All times are on the wall clock of the agent that keeps them: what people decide must
outlive the process, and peers tell of it in ages.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One announced switchover."""

    id: str
    node: str | None
    """Which node is to become the primary; None when any may."""
    owner: str
    reason: str
    begun_wall_s: float
    end_wall_s: float
    """When it ends by itself."""
    ended_wall_s: float | None = None
    """When a person ended it before."""
    ended_by: str = ""

    def runs(self, wall_s: float) -> bool:
        """Whether it is in force at this instant."""
        return (
            self.ended_wall_s is None and self.begun_wall_s <= wall_s < self.end_wall_s
        )
