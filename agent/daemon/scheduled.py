"""Snapshots by the clock, taken beside the primary.

Theory of operation. Every agent has the same schedule; the one whose server accepts
writes at that minute acts on it, so a cluster takes one snapshot and not three. It
goes the way of every capture: ordered by the core, journalled, continued after a
restart. Before a new one is ordered, what the limits are against is given up, so that
there is room.

A run that was missed, because no agent ran at that minute or another capture was under
way, is made up once: the newest scheduled snapshot says which was the last, so nothing
else has to be remembered. None is taken onto the disk of the data directory: night by
night a full copy there would fill it, and be lost with it.
"""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from agent.core.event import CaptureAsked
from agent.core.observation import ServerFacts
from agent.core.standing import local_writable
from agent.daemon.calendar import next_after
from agent.daemon.upkeep import MARK, Upkeep
from agent.errors import SnapshotError
from agent.ports import Desk
from agent.snapshot.catalogue import Catalogue

log = logging.getLogger(__name__)

GRACE_S = 120.0
"""A run this late is not under way any more."""


class ScheduledSnapshots:
    """Takes one snapshot when it is called, if this node's turn it is."""

    def __init__(
        self, desk: Desk, upkeep: Upkeep, catalogue: Catalogue, cron: str
    ) -> None:
        self._desk = desk
        self._upkeep = upkeep
        self._catalogue = catalogue
        self._cron = cron
        self._made_up_s: float | None = None

    async def run(self) -> None:
        """Order a snapshot of the local server if it is the primary's."""
        policy = self._desk.policy
        if not policy.spec(policy.me).local:
            return
        if not local_writable(self._desk.state, policy):
            return
        if await asyncio.to_thread(self._shares_disk):
            log.warning(
                "no scheduled snapshot: %s is on the file system of the data"
                " directory; set capture.dir apart from it",
                self._catalogue.place,
            )
            return
        await self._upkeep.run()
        now = self._desk.now()
        stamp = datetime.fromtimestamp(now.wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        wanted = f"{policy.me}{MARK}{stamp}"
        asked = CaptureAsked(now, wanted, "schedule", joins=False)
        state = await self._desk.submit(asked)
        if all(one.order.capture_id != wanted for one in state.ledger.captures):
            log.warning("no scheduled snapshot: another capture is under way")

    async def make_up(self) -> None:
        """Order the snapshot that was due last, if it was missed; once for each."""
        last_s = await asyncio.to_thread(self._last_s)
        if last_s is None:
            return
        due_s = next_after(self._cron, last_s)
        late_s = None if due_s is None else self._desk.now().wall_s - due_s
        if late_s is None or late_s < GRACE_S or due_s == self._made_up_s:
            return
        self._made_up_s = due_s
        log.info("making up for a scheduled snapshot that was missed")
        await self.run()

    def _last_s(self) -> float | None:
        """Return when the newest scheduled snapshot was begun. Blocking."""
        try:
            found = self._catalogue.list()
        except SnapshotError as error:
            log.warning("scheduled snapshots: %s", error)
            return None
        return next((one.created_wall_s for one in found if MARK in one.id), None)

    def _shares_disk(self) -> bool:
        """Whether snapshots would lie on the data directory's disk. Blocking."""
        server = self._desk.state.view.server
        if not isinstance(server, ServerFacts):
            return False
        try:
            data_dir = Path(server.data_dir).stat()
            return data_dir.st_dev == self._catalogue.place.stat().st_dev
        except OSError:
            return False  # what is not there is found by the capture itself
