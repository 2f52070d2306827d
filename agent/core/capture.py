"""Captures as the core sees them: what was ordered and how far it is.

The core orders a capture and hears of its progress; the shell's engine does the
work. There is at most one unfinished capture per node: a second trigger widens
the first. Levels are worth more in this order: tail, pin, rows, full.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from agent.core.lineage import Fork
from agent.core.loss import Loss
from agent.core.lsn import Lsn


class Level(StrEnum):
    """How much a capture keeps."""

    TAIL = "tail"
    PIN = "pin"
    ROWS = "rows"
    """Every row that was written past the fork, read out of the running server."""
    FULL = "full"


class Grade(StrEnum):
    """What has been proven of a full copy."""

    NONE = "none"
    CAPTURED = "captured"
    """Read back: every file has the size and the hash of the manifest."""
    COMPLETE = "complete"
    """And the WAL chain was checked from its start LSN to its end LSN."""
    OPENED = "opened"
    """And a scratch clone recovered to the end LSN, every database readable."""

    @property
    def rank(self) -> int:
        """Return the order of grades; the greater the better."""
        return list(Grade).index(self)


class Phase(StrEnum):
    """What the capture engine is doing."""

    ORDERED = "ordered"
    FOLLOWING = "following"
    """Tail (and pin) stand; no full copy was asked for, or it is finished."""
    COPYING = "copying"
    VERIFYING = "verifying"
    CLOSED = "closed"
    """Nothing more is added to it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CaptureOrder:
    """What the core wants captured. Sent again, it widens the running capture."""

    capture_id: str
    node: str
    levels: tuple[Level, ...]
    incident_ids: tuple[str, ...]
    reason: str
    confirmed_lsn: Lsn | None
    """The last position that another node had confirmed: what lies past it is
    saved first."""
    final_lsn: Lsn | None
    """Set once the server is stopped: the position that must be reached."""
    fork: Fork | None = None
    """From here on rows are to be read out, where that level is ordered."""


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """How far a capture is. Each report replaces the one before."""

    capture_id: str
    phase: Phase
    grade: Grade
    method: str
    """How the full copy was made: `copy`, `reflink`, `frozen copy`, `cold copy`, `cold
    reflink`, or empty."""
    timeline: int | None
    start_lsn: Lsn | None
    """Where the kept WAL begins."""
    tail_lsn: Lsn | None
    """Everything up to here is kept and fsynced; None before the first manifest."""
    reached_lsn: Lsn | None
    """Up to here the full copy with its WAL is proven complete."""
    pin: str
    """`held`, `none`, or why there is none."""
    bytes_done: int
    bytes_total: int
    seconds_left: float | None
    reason: str
    """Why it failed, or what it waits for; empty when all is well."""
    final_lsn: Lsn | None = None
    """The final LSN of the order that this answers: after that order had come, the
    server was seen to be still the one that is captured. None: not seen yet."""
    missing_bytes: int = 0
    """How much room is missing, where it failed for lack of that."""
    rows_from: Lsn | None = None
    """Past here every row that was written is kept; None: no rows are."""
    rows_lsn: Lsn | None = None
    """Up to here: between what was read out and this, no user transaction
    committed."""
    rows_reason: str = ""
    """Why rows are not kept, or not up to the end; empty when nothing is wrong."""

    @classmethod
    def nothing_kept(cls, capture_id: str, phase: Phase, reason: str = "") -> Self:
        """Return the status of a capture that holds nothing yet."""
        return cls(
            capture_id=capture_id,
            phase=phase,
            grade=Grade.NONE,
            method="",
            timeline=None,
            start_lsn=None,
            tail_lsn=None,
            reached_lsn=None,
            pin="none",
            bytes_done=0,
            bytes_total=0,
            seconds_left=None,
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class Capture:
    """An order and its latest status, as journalled."""

    order: CaptureOrder
    status: CaptureStatus
    ordered_wall_s: float
    progressed_s: float
    """When (monotonic) the status last changed."""
    asked: bool = False
    """Whether a person asked for a full copy: it is then kept open for that too."""
    loss: Loss | None = None
    """What its loss report comes to, once there is one."""


def capture_id(node: str, incident_id: str) -> str:
    """Return the id, which is also the snapshot's id and its folder's name."""
    return f"{node}-{incident_id.removeprefix('inc-')}"
