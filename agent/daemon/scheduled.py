"""Snapshots by the clock, taken beside the primary.

Theory of operation. Every agent has the same schedule; the one whose server accepts
writes at that minute acts on it, so a cluster takes one snapshot and not three. It
goes the way of every capture: ordered by the core, journalled, continued after a
restart. Before a new one is ordered, what the limits are against is given up, so that
there is room.
"""

import logging
from datetime import UTC, datetime

from agent.core.event import CaptureAsked
from agent.core.standing import local_writable
from agent.daemon.upkeep import MARK, Upkeep
from agent.ports import Desk

log = logging.getLogger(__name__)


class ScheduledSnapshots:
    """Takes one snapshot when it is called, if this node's turn it is."""

    def __init__(self, desk: Desk, upkeep: Upkeep) -> None:
        self._desk = desk
        self._upkeep = upkeep

    async def run(self) -> None:
        """Order a snapshot of the local server if it is the primary's."""
        policy = self._desk.policy
        if not local_writable(self._desk.state, policy):
            return
        await self._upkeep.run()
        now = self._desk.now()
        stamp = datetime.fromtimestamp(now.wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        wanted = f"{policy.me}{MARK}{stamp}"
        state = await self._desk.submit(CaptureAsked(now, wanted, "schedule"))
        if all(one.order.capture_id != wanted for one in state.ledger.captures):
            log.warning("no scheduled snapshot: another capture is under way")
