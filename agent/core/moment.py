"""Instants, as the shell hands them to the core.

Two clocks in one value. The monotonic one measures durations and is never
compared between machines or across a restart of the agent. The wall clock dates
what people read and what has to survive a restart; nothing is decided by it
that a stepped clock could turn into a false verdict.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks, in seconds."""

    monotonic_s: float
    wall_s: float
