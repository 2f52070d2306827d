"""Snapshots by the clock, taken beside the primary, the oldest given up first.

Theory of operation. Every agent has the same schedule; the one whose server accepts
writes at that minute acts on it, so a cluster takes one snapshot and not three. It
goes the way of every capture: ordered by the core, journalled, continued after a
restart. Before a new one is ordered, scheduled ones beyond the number to keep are
removed; what an incident or a person called for is never touched here.
"""

import asyncio
import logging
from datetime import UTC, datetime

from agent.core.event import CaptureAsked
from agent.core.standing import local_writable
from agent.errors import SnapshotError
from agent.ports import Desk
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import remove_tree

log = logging.getLogger(__name__)

MARK = "-scheduled-"
"""Part of the id of every snapshot that was taken by the clock."""


class ScheduledSnapshots:
    """Takes one snapshot when it is called, if this node's turn it is."""

    def __init__(self, desk: Desk, catalogue: Catalogue, keep: int) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._keep = keep

    async def run(self) -> None:
        """Order a snapshot of the local server if it is the primary's."""
        policy = self._desk.policy
        if not local_writable(self._desk.state, policy):
            return
        await asyncio.to_thread(self._prune)
        now = self._desk.now()
        stamp = datetime.fromtimestamp(now.wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        wanted = f"{policy.me}{MARK}{stamp}"
        state = await self._desk.submit(CaptureAsked(now, wanted, "schedule"))
        if all(one.order.capture_id != wanted for one in state.ledger.captures):
            log.warning("no scheduled snapshot: another capture is under way")

    def _prune(self) -> None:
        """Remove the oldest finished ones beyond the number to keep. Blocking."""
        try:
            found = self._catalogue.list()
        except SnapshotError as error:
            log.warning("scheduled snapshots: %s", error)
            return
        mine = [one for one in found if MARK in one.id and one.closed]
        for one in mine[self._keep :]:
            log.info("removing scheduled snapshot %s", one.id)
            remove_tree(self._catalogue.folder(one.id))
