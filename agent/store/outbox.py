"""When a message is due: rules that both journals share.

Theory of operation. Due times are on the wall clock, because they must outlive
the process. A message that is due further ahead than any backoff reaches was
dated by a clock that has since been set back, and is due now. A message waits for
the older ones of its incident on its channel, so that no receiver ever hears of
the end before the beginning.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from agent.ports import OutboxRow

FAR_S = 2 * 3600.0
"""Longer than any wait between two attempts."""


class Fate(StrEnum):
    """How far a message is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Message:
    """An outbox row with its fate."""

    row: OutboxRow
    fate: Fate


def is_due(due_wall_s: float, wall_s: float) -> bool:
    """Return whether an attempt may be made now."""
    return due_wall_s <= wall_s or due_wall_s > wall_s + FAR_S


def due(
    messages: Iterable[Message], wall_s: float, limit: int
) -> tuple[OutboxRow, ...]:
    """Return what may be tried now, of messages that are given oldest first."""
    first: dict[tuple[str, str], OutboxRow] = {}
    for message in messages:
        if message.fate is Fate.WAITING:
            key = (message.row.channel, message.row.incident_id)
            first.setdefault(key, message.row)
    ready = [row for row in first.values() if is_due(row.due_wall_s, wall_s)]
    return tuple(ready[:limit])
