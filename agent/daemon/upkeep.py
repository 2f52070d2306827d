"""Upkeep: snapshots that nobody needs any more are given up.

Theory of operation. Every few minutes, and before a scheduled snapshot is taken, all
snapshots are looked at. First it is noted which of their incidents are over and
acknowledged, because the journal forgets old incidents. Then what the limits of the
settings are against is removed, unless something holds it: a pin, an incident that is
not settled, a permit, a capture that goes on, or an off-site twin that is configured
and was not read back yet. Every removal is recorded in the capture folder.

A capture that finds no room asks at once, from its own thread. Then the same snapshots
make way whatever the limits say, the least worthy first, and only if that is enough.
The newest complete one goes last, and only for a capture that an incident or a permit
calls for: what is about to be lost is worth more than what was kept before.
"""

import asyncio
import logging
import shutil
import threading
from dataclasses import replace

from agent.core.capture import CaptureOrder
from agent.core.moment import Moment
from agent.core.state import Ledger
from agent.errors import CatalogueError, SnapshotError
from agent.ports import Desk
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.manifest import Manifest
from agent.snapshot.pin import left_behind
from agent.snapshot.removal import remove, sweep
from agent.snapshot.retention import (
    Bond,
    Item,
    Limits,
    holds,
    in_work,
    is_twin,
    sacrifice,
    settled_now,
    surplus,
    yielding,
)

log = logging.getLogger(__name__)

EVERY = "*/5 * * * *"
"""How often it looks, as a cron expression."""
MARK = "-scheduled-"
"""Part of the id of every snapshot that was taken by the clock."""
WHO = "splitguard"
IN_VAIN = 2
"""A removal that brought less than one part in so many of what it should have (a file
system that shares blocks, or somebody who fills it) ends the giving up."""


class Upkeep:
    """Removes what the limits are against and nothing holds; makes way for captures.

    Implements snapshot.settings.Shelf; its methods may be called from any thread.
    `place` is the URL where each snapshot must have a verified twin before it goes.
    """

    def __init__(
        self,
        desk: Desk,
        catalogue: Catalogue,
        limits: Limits,
        place: str | None = None,
    ) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._limits = limits
        self._place = place
        self._turn = threading.Lock()

    async def run(self) -> None:
        """Look at all snapshots once. Never raises what a disk can do."""
        ledger, now = self._desk.state.ledger, self._desk.now()
        try:
            await asyncio.to_thread(self._look, ledger, now)
        except CatalogueError as error:
            log.warning("upkeep of snapshots: %s", error)

    def could_give(self, order: CaptureOrder | None) -> int:
        """Return how many bytes would make way for this order; None: for a split's."""
        try:
            going = yielding(self._items(), last_too=_presses(order))
        except CatalogueError:
            return 0
        return sum(one.size_bytes for one in going)

    def give_up(self, missing_bytes: int, order: CaptureOrder) -> None:
        """Remove the least worthy of what nothing holds, if that makes so much room."""
        with self._turn:
            try:
                self._make_way(missing_bytes, order)
            except (CatalogueError, OSError) as error:
                log.warning("making room for %s: %s", order.capture_id, error)

    def _make_way(self, missing_bytes: int, order: CaptureOrder) -> None:
        reason = f"to make room for {order.capture_id}: {missing_bytes} bytes missing"
        items = self._items()
        for one in sacrifice(items, missing_bytes, last_too=_presses(order)):
            before = shutil.disk_usage(self._catalogue.place).free
            self._remove(one.id, reason)
            gained = shutil.disk_usage(self._catalogue.place).free - before
            if gained < one.size_bytes // IN_VAIN:
                log.warning("removing %s freed %d bytes only", one.id, gained)
                return

    def _items(self) -> list[Item]:
        ledger = self._desk.state.ledger
        return [self._item(each, ledger) for each in self._catalogue.list()]

    def _remove(self, snapshot_id: str, reason: str) -> None:
        log.info("removing snapshot %s: %s", snapshot_id, reason)
        try:
            remove(self._catalogue, snapshot_id, WHO, reason, self._desk.now().wall_s)
        except SnapshotError as error:
            log.warning("upkeep of snapshots: %s", error)

    def _look(self, ledger: Ledger, now: Moment) -> None:
        manifests = self._catalogue.list()
        items = [self._item(each, ledger) for each in manifests]
        with self._turn:
            for each in surplus(items, self._limits, now.wall_s):
                self._remove(each.id, each.reason)
        try:
            sweep(self._catalogue.place)
        except OSError as error:
            log.warning("upkeep of snapshots: %s", error)

    def _item(self, manifest: Manifest, ledger: Ledger) -> Item:
        bond = self._bond(manifest, ledger)
        return Item(
            id=manifest.id,
            scheduled=MARK in manifest.id,
            complete=manifest.complete,
            created_wall_s=manifest.created_wall_s,
            size_bytes=manifest.size_bytes,
            held=(
                not manifest.closed
                or in_work(bond, ledger)
                or bool(holds(bond, ledger))
                or self._is_pinned(manifest)
                or not self._has_twin(manifest)
            ),
        )

    def _is_pinned(self, manifest: Manifest) -> bool:
        """Whether hard links are all that is left of its server: a person decides."""
        try:
            return bool(left_behind(self._catalogue.folder(manifest.id)))
        except OSError:
            return True

    def _has_twin(self, manifest: Manifest) -> bool:
        """Whether its archive lies off-site and was read back, if that is wanted."""
        if self._place is None:
            return True
        twin = marks.twin(self._catalogue.folder(manifest.id))
        return twin is not None and is_twin(twin, manifest, self._place)

    def _bond(self, manifest: Manifest, ledger: Ledger) -> Bond:
        """Return what the snapshot is bound to, and note what is settled by now."""
        folder = self._catalogue.folder(manifest.id)
        bond = Bond(
            manifest.id,
            manifest.closed,
            manifest.incident_ids,
            marks.settled(folder),
            marks.kept(folder),
        )
        settled = settled_now(bond, ledger)
        if settled != bond.settled:
            try:
                marks.settle(folder, settled)
            except SnapshotError as error:
                log.warning("upkeep of snapshots: %s", error)
        return replace(bond, settled=settled)


def _presses(order: CaptureOrder | None) -> bool:
    """Whether a capture keeps what is about to be lost."""
    if order is None:
        return True
    return bool(order.incident_ids) or order.final_lsn is not None
