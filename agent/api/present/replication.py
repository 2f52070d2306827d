"""What a server says of its replay, its slots and its archiver.

Theory of operation. All of it came with the round trip that told the position; nothing
is asked for. Most of it is of interest only when it goes wrong, so beside the values
stands one line that is there only then: a slot that was lost leaves its consumer to be
made anew, one that nobody reads keeps WAL until the disk is full (HA software has
idle slots on every node that keep little), and an archive with a gap restores to no
point behind it.
"""

from agent.api.models import ArchiverOut, SlotOut
from agent.api.present.frame import Frame, lsn_text
from agent.core.observation import Archiver, PostgresSight, Slot
from agent.core.readiness import size_text

IDLE_BYTES = 1 << 30
"""A slot that nobody reads is told of when it keeps more WAL than this."""
TOLD = 3
"""So many slots are named; /v1/nodes has them all."""


def slots(sight: PostgresSight | None) -> list[SlotOut]:
    """Return the replication slots of a server, as it was last read."""
    return [] if sight is None else [_slot(sight, one) for one in sight.slots]


def _slot(sight: PostgresSight, slot: Slot) -> SlotOut:
    return SlotOut(
        name=slot.name,
        kind=slot.kind,
        active=slot.active,
        lost=slot.lost,
        restart_lsn=lsn_text(slot.restart_lsn),
        kept_bytes=_kept_bytes(sight, slot),
    )


def _kept_bytes(sight: PostgresSight, slot: Slot) -> int | None:
    """Return how much WAL lies behind a slot; None where it keeps none."""
    end = sight.write_lsn or sight.flush_lsn
    if end is None or slot.restart_lsn is None or slot.lost:
        return None
    return max(0, end - slot.restart_lsn)


def archiver(sight: PostgresSight | None) -> ArchiverOut | None:
    """Return how a server's archiving goes; None where it archives nothing."""
    found = None if sight is None else sight.archiver
    if found is None:
        return None
    return ArchiverOut(
        method=found.method,
        archived=found.archived,
        last_archived=found.last_archived,
        failing=found.failing,
        last_failed=found.last_failed,
    )


def replay_lag_bytes(sight: PostgresSight | None, *, fresh: bool) -> int | None:
    """Return how much a standby has received and not replayed; None on a primary."""
    if sight is None or not sight.in_recovery or not fresh:
        return None
    if sight.flush_lsn is None or sight.replay_lsn is None:
        return None
    return max(0, sight.flush_lsn - sight.replay_lsn)


def trouble(frame: Frame, name: str) -> str | None:
    """Return what is wrong with a node's slots and archiver; None when nothing is."""
    seen = frame.sight(name)
    if seen is None or not frame.fresh(seen[1]):
        return None
    sight = seen[0]
    found = [*_of_archiver(sight.archiver), *_of_slots(sight)]
    return "; ".join(found) or None


def _of_archiver(found: Archiver | None) -> list[str]:
    if found is None or not found.failing:
        return []
    at = f" at {found.last_failed}" if found.last_failed else ""
    last = (
        f", the last good one was {found.last_archived}" if found.last_archived else ""
    )
    return [f"archiving fails{at} ({found.method}){last}"]


def _of_slots(sight: PostgresSight) -> list[str]:
    lost = [one.name for one in sight.slots if one.lost]
    idle = [
        f"{one.name} ({size_text(kept)})"
        for one in sight.slots
        if not one.active and (kept := _kept_bytes(sight, one) or 0) > IDLE_BYTES
    ]
    return [
        *([f"slots lost, their WAL is gone: {_named(lost)}"] if lost else []),
        *([f"slots that nobody reads keep WAL: {_named(idle)}"] if idle else []),
    ]


def _named(those: list[str]) -> str:
    more = len(those) - TOLD
    return ", ".join([*those[:TOLD], *([f"and {more} more"] if more > 0 else [])])
