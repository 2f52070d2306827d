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


@dataclass(frozen=True, slots=True)
class Pin:
    """What an operator decided about who is to be kept after a split."""

    node: str | None
    """Whose writes are to be kept; None: no pin is to count any more."""
    who: str
    reason: str
    revision: int
    """Counts up with every decision that anybody who made one knew of."""
    wall_s: float
    incident: str | None = None
    """The split that it was made in: with that one it ends. None: made beforehand."""
    over: bool = False
    """Whether a peer told that that split has ended; not every agent knew of it."""
