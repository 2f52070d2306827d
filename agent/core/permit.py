"""Permits: the guard's answer that a resync may go on.

A permit is for one node, system id, timeline and final LSN. It is granted when
the protection reaches the final LSN, and void when the position moves, when the
server starts writable again, or ten minutes after the grant.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.core.lsn import Lsn


class PermitState(StrEnum):
    """The guard's answer."""

    PENDING = "pending"
    GRANTED = "granted"
    VOID = "void"
    RELEASED = "released"
    """A person let it pass unprotected; who and why is recorded."""


@dataclass(frozen=True, slots=True)
class Permit:
    """One request and its answer."""

    id: str
    node: str
    purpose: str
    """What asks: `pg_rewind`, `replica`, `resync`, or a foreign tool's word."""
    state: PermitState
    reason: str
    """One sentence: why it is pending, granted or void."""
    asked_wall_s: float
    granted_s: float | None
    """When (monotonic) it was granted."""
    system_id: str | None
    timeline: int | None
    final_lsn: Lsn | None
    capture_id: str | None
    bytes_done: int
    bytes_total: int
    seconds_left: float | None
    released_by: str | None
    granted_wall_s: float | None = None
    """The same by the wall clock, which goes on while the agent is down."""
    asked_s: float = 0.0
    """When (monotonic) it was asked; the disk must have been read after that."""
    source: str | None = None
    """The server that is to be copied from, `host:port`, where that was told."""
    source_timeline: int | None = None
    """The timeline on which that server was when the permit was granted."""
    at_work: bool = False
    """Whether what it let pass may still be at work on the folder: from the grant on,
    until the server was seen running again, or writing on."""
