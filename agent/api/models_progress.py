"""How far a loss report is that is being made."""

from typing import Literal

from agent.api.models import Answer


class LossProgressOut(Answer):
    """A report that is not there yet: ask again at the same address."""

    id: str
    """The snapshot's."""
    state: Literal["queued", "running"]
    doing: str
    """What is being done, or what it waits for."""
    done: int
    total: int
    """0: nobody knows."""
