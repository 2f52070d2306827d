"""The shelf of managers' snapshots: in the words of the API, and kept within limits.

Theory of operation. An adapter and nothing more: manifests become cards, a request goes
to whoever looks after the manager. Pruning removes what the settings want no more of
the scheduled ones; where archives go off-site, only what was read back there.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.api.ports_managers import CertificateCard, ManagerSnapshotCard
from agent.daemon.managers import ManagerWork
from agent.errors import ManagerError
from agent.snapshot import marks
from agent.snapshot.marks import Twin
from agent.vnfm.kept import Kept
from agent.vnfm.seasons import Item, Limits, surplus
from agent.vnfm.shelf import Shelf

log = logging.getLogger(__name__)

WHO = "splitguard"


class ManagerShelf:
    """Implements api.ports_managers.ManagerSnapshots."""

    def __init__(self, shelf: Shelf, work: ManagerWork | None) -> None:
        """`work` None: nobody here has the manager's login."""
        self._shelf = shelf
        self._work = work

    def list(self) -> tuple[ManagerSnapshotCard, ...]:
        """Return what is kept, newest first. Raises ManagerError."""
        return tuple(self._card(one) for one in self._shelf.list())

    def show(self, snapshot_id: str) -> ManagerSnapshotCard | None:
        """Return one; None when there is none of this id."""
        try:
            return self._card(self._shelf.show(snapshot_id))
        except ManagerError:
            return None

    def archive(self, snapshot_id: str) -> Path:
        """Return the file that holds it. Raises ManagerError."""
        return self._shelf.archive(snapshot_id)

    def refusal(self) -> tuple[str, str]:
        """Return why none can be asked for, and what to do; empty when one can."""
        if self._work is None:
            return (
                "This agent has no login for its manager.",
                "set [vnfm] password_file or token_file, and restart the agent",
            )
        refused = self._work.care.refused_login
        if refused:
            return (
                f"The manager has refused the login: {refused}",
                "put the right one into its file; it is read again once it has changed",
            )
        if self._work.held:
            why = (
                "This side may be cut off, and has written nothing that others lack: a"
                " snapshot would write into its database, as each login does."
            )
            what = "bring the connection back; `splitguard status` says what is so"
            return why, what
        return "", ""

    def ask(self, reason: str) -> str | None:
        """Have one made; return its id, None when too many wait."""
        return None if self._work is None else self._work.ask(reason)

    def _card(self, kept: Kept) -> ManagerSnapshotCard:
        return ManagerSnapshotCard(
            id=kept.id,
            node=kept.node,
            manager=kept.manager,
            version=kept.version,
            archive_format=kept.archive_format,
            reason=kept.reason,
            scheduled=kept.scheduled,
            incident_ids=kept.incident_ids,
            capture_id=kept.capture_id,
            execution_id=kept.execution_id,
            created_wall_s=kept.created_wall_s,
            kept_wall_s=kept.kept_wall_s,
            size_bytes=kept.size_bytes,
            sha256=kept.sha256,
            file=kept.file,
            stored_bytes=kept.stored_bytes,
            stored_sha256=kept.stored_sha256,
            sealed=kept.sealed,
            members=kept.members,
            removed_there=kept.removed_there,
            counts=kept.counts,
            certificates=tuple(
                CertificateCard(
                    one.path,
                    one.mode,
                    one.uid,
                    one.gid,
                    one.size,
                    one.sha256,
                    one.link,
                )
                for one in kept.certificates
            ),
            problems=kept.problems,
            twin=self._twin(kept),
        )

    def _twin(self, kept: Kept) -> Twin | None:
        return marks.twin(self._shelf.place / kept.id)


def pruner(
    shelf: Shelf,
    limits: Limits,
    time_zone: str,
    wall_s: Callable[[], float],
    place: str | None,
) -> Callable[[], None]:
    """Return what gives up the scheduled ones that are too many. It blocks.

    `place` is the URL where each must have been read back before it goes.
    """
    zone = ZoneInfo(time_zone)

    def prune() -> None:
        found = shelf.sound()  # a broken one stands for no day, and is left alone
        known = {one.id: one for one in found}
        items = [Item(one.id, one.created_wall_s, one.scheduled) for one in found]
        for snapshot_id in surplus(items, limits, zone):
            if place is not None and not _is_away(shelf, known[snapshot_id], place):
                continue
            reason = "more than the days, weeks, months and years of [vnfm] keep"
            log.info("removing manager's snapshot %s: %s", snapshot_id, reason)
            shelf.remove(snapshot_id, WHO, reason, wall_s())

    return prune


def _is_away(shelf: Shelf, kept: Kept, place: str) -> bool:
    """Whether it lies at that place as it is here, and was read back there."""
    twin = marks.twin(shelf.place / kept.id)
    if twin is None or twin.place != place:
        return False
    return twin.verified and twin.end_lsn == kept.stored_sha256
