"""One loss report to be made by a process of its own: the order, and what it tells.

Theory of operation. The agent starts `python -m agent.divergence`, writes the order as
one line of JSON to its standard input and keeps that open: when the agent is gone the
input ends, and the process with it. So no password stands in a process list, and
nobody is left behind. The process prints one line of JSON for each piece of progress
and a last one for its end; the report itself lies in the snapshot's folder by then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.divergence.report import Delivered, Released, Waiting
from agent.transport import Tls

ORDER_BYTES_MAX = 1 << 20
LINE_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class AgentThere:
    """How the agent beside the winner is reached."""

    url: str
    token: str = field(default="", repr=False)
    """The one that all agents of the cluster share."""
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def tls(self) -> Tls | None:
        """What its connection is checked with."""
        if self.ca is None and self.cert is None:
            return None
        return Tls(*(None if one is None else Path(one) for one in self._files))

    @property
    def _files(self) -> tuple[str | None, str | None, str | None]:
        return self.ca, self.cert, self.key

    @property
    def headers(self) -> Mapping[str, str]:
        """What proves who asks."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True, slots=True)
class Opponent:
    """The primary that the losing side is compared with."""

    name: str
    dsn: str = field(repr=False)
    """As the role that only reads; it may hold a password."""
    agent: AgentThere | None = None
    """Who can tell of its log; None where no agent stands beside it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be read, and against whom."""

    folder: str
    """The snapshot's."""
    scratch: str
    """Where clones of it go: a folder that is emptied afterwards, come what may."""
    fork: Fork
    """Where the losing side left the line that was kept."""
    made_wall_s: float
    """Now."""
    bin_dir: str | None
    winner: Opponent | None
    """None: nobody of the other line answers; what was written is told all the same."""
    redact: tuple[str, ...]
    statement_timeout_s: float
    released: tuple[Released, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    delivered: tuple[Delivered, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is."""

    doing: str
    done: int = 0
    total: int = 0
    """0: nobody knows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended."""

    message: str = ""
    """Why there is no report; empty when there is one."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what the process prints."""

    progress: Progress | None = None
    outcome: Outcome | None = None


FAILED = "failed"
"""The first word of the only line that a storyteller prints without a story."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a storyteller is asked, of which server."""

    data_dir: str
    bin_dir: str | None
    wal_segment_bytes: int
    timeline: int
    """That it is on."""
    fork_lsn: Lsn
    lsn: Lsn
    """Where it stood when it was read."""
    shown: Mapping[str, str]
    """By database: what the reader sees, as PostgreSQL writes a snapshot."""
