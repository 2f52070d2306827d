"""One resync that was asked for, and what comes out of it.

Theory of operation. Values only: who is resynced from whom, by which means, what was
decided and what was done. The functions that look, change and confirm pass them on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.resync import Choice, Method, Step, Wish
from agent.core.resync_refusal import Refusal
from agent.errors import GuardError
from agent.guard.resync_look import Loser, Server
from agent.guard.resync_mark import Notes
from agent.guard.resync_server import Local
from agent.postgres.owner import Owner

Seconds = Callable[[], float]
"""Tells the time in seconds, on a clock that nobody sets."""


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, and the means."""

    node: str
    local: Local
    loser: Loser
    source: Server
    source_parts: Mapping[str, str]
    """The source's connection string, as parts; without a password."""
    follow_parts: Mapping[str, str] | None
    """As whom the server streams afterwards, where that is configured."""
    local_dsn: str | None
    """How the server is asked for a checkpoint before it stops; None when stopped."""
    notes: Notes
    wish: Wish
    forced: bool
    now_s: Seconds

    @property
    def data_dir(self) -> Path:
        """The data directory that is resynced."""
        return self.local.data_dir

    @property
    def owner(self) -> Owner:
        """Who owns it, and does all that is done to it."""
        return self.local.owner


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, and why; or why not."""

    refusals: tuple[Refusal, ...]
    choice: Choice
    running: bool
    ready: bool
    """Whether the source's pg_control names the timeline that it is really on."""
    left: Step
    """How far an earlier run came."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done."""

    method: Method | None
    """None: it followed the source already."""
    reasons: tuple[str, ...]
    permit: str
    aside: str
    """Where the old data is, after a clone."""
    agreed_lsn: str
    """Up to where it was seen to agree with the source."""


class RefusedError(GuardError):
    """It is not done. Carries every reason at once."""

    def __init__(self, found: tuple[Refusal, ...]) -> None:
        super().__init__(
            "\n".join(one.sentence for one in found),
            "\n  ".join(one.help for one in found),
        )
        self.refusals = found
