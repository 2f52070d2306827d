"""One loss report to be made by a process of its own: the order, and what it tells.

Theory of operation. The agent starts `python -m agent.divergence`, writes the order as
one line of JSON to its standard input and keeps that open: when the agent is gone the
input ends, and the process with it. So no password stands in a process list, and
nobody is left behind. The process prints one line of JSON for each piece of progress
and a last one for its end; the report itself lies in the snapshot's folder by then.
"""

from dataclasses import dataclass, field

from agent.core.lineage import Fork
from agent.divergence.remote import AgentThere
from agent.divergence.report import Delivered, Released, Waiting

ORDER_BYTES_MAX = 1 << 20
LINE_BYTES_MAX = 1 << 16


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
