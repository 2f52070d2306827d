"""What one capture has and what is proven of it, shared by its threads.

Theory of operation. The following thread and the copying thread put what they have
finished in here; every manifest and every status is made from it, under one lock,
so neither can promise what the other has not yet put on disk. Statuses go out on
each change, progress of a copy at most twice a second.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.core.capture import CaptureOrder, CaptureStatus, Grade, Level, Phase
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.snapshot import manifest as manifests
from agent.snapshot.manifest import Contents, FileEntry, Manifest

log = logging.getLogger(__name__)

STATUS_S = 0.5
"""Progress alone is told no more often than this."""
SAVE_S = 2.0
"""A tail that only grew is written into the manifest no more often than this."""
SAVE_SHARE = 20.0
"""Nor more often than every so many times what the writing takes."""
HOT = "copy"
HOT_SHARED = "reflink"
COLD = "cold copy"
COLD_SHARED = "cold reflink"
FROZEN = "frozen copy"
"""How a full copy was made: of a running server, by sharing blocks, of one that stood
still, from a snapshot of its file systems."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server it is."""

    system_id: str
    version_num: int
    wal_segment_bytes: int
    incarnation: str
    """Of the data directory: a rewind or a re-clone changes it."""


@dataclass(frozen=True, slots=True)
class FullCopy:
    """A full copy that was read back."""

    contents: Contents
    method: str
    copy_lsn: Lsn
    """Recovery begins here."""
    needed_lsn: Lsn
    """Recovery must get at least here, or the copy is of no use."""
    timeline: int
    has_backup_label: bool
    wal_link: str
    note: str = ""
    """Why this method: what stood against an earlier one, or who froze it."""

    @property
    def cold(self) -> bool:
        """Whether it is of a server that stood still: later WAL does not extend it."""
        return self.method in (COLD, COLD_SHARED)


@dataclass(frozen=True, slots=True)
class RowsKept:
    """Rows that were read out of the running server."""

    begins: Lsn
    """Everything that was written past here is among them."""
    upto: Lsn
    """Up to here: between the reading and this no user transaction committed."""
    files: tuple[FileEntry, ...]

    def to(self, upto: Lsn) -> "RowsKept":
        """Return the same, proven to reach further."""
        return replace(self, upto=upto)


@dataclass(slots=True)
class Progress:
    """How far the copying is."""

    done: int = 0
    total: int = 0
    began_s: float = 0.0


@dataclass(slots=True)
class Record:
    """The state of one capture. Hold `lock` to change more than one field."""

    order: CaptureOrder
    cluster: str
    folder: Path
    moment: Callable[[], Moment]
    on_status: Callable[[CaptureStatus], None]
    created_wall_s: float = 0.0
    identity: Identity | None = None
    lineage: Lineage | None = None
    phase: Phase = Phase.ORDERED
    reason: str = ""
    missing_bytes: int = 0
    """The room that is missing, where the reason is that."""
    pin: str = "none"
    no_programs: str = ""
    """Why the server's programs are not to be had, where they are not."""
    start_lsn: Lsn | None = None
    tail_lsn: Lsn | None = None
    timeline: int | None = None
    settled_lsn: Lsn | None = None
    """The end of the stopped server's WAL, once all of it is kept."""
    answered_lsn: Lsn | None = None
    """The order's final LSN, once the server was seen to be still the same after it."""
    wal: tuple[FileEntry, ...] = ()
    state: tuple[FileEntry, ...] = ()
    copy: FullCopy | None = None
    grade: Grade = Grade.NONE
    end_lsn: Lsn | None = None
    rows: RowsKept | None = None
    rows_reason: str = ""
    """Why there are no rows, or why they do not reach the end."""
    closed: bool = False
    progress: Progress = field(default_factory=Progress)
    lock: threading.Condition = field(default_factory=threading.Condition)
    _save_again_s: float = 0.0
    _told: CaptureStatus | None = None
    _told_s: float = -STATUS_S

    def widen(self, order: CaptureOrder) -> None:
        """Take over a further order of the same capture."""
        with self.lock:
            wanted = {*self.order.levels, *order.levels}
            incidents = (*self.order.incident_ids, *order.incident_ids)
            self.order = replace(
                order,
                reason=self.order.reason or order.reason,
                levels=tuple(level for level in Level if level in wanted),
                incident_ids=tuple(dict.fromkeys(incidents)),
            )

    def wants(self, level: Level) -> bool:
        """Whether this level was ordered."""
        return level in self.order.levels

    def adopt(self, copy: FullCopy | None) -> None:
        """Take a full copy that is on disk, or drop the one that there was."""
        with self.lock:
            self.copy = copy
            self.grade = Grade.NONE if copy is None else Grade.CAPTURED
            self.end_lsn = None
            self.save()

    def prove(self, end: Lsn) -> None:
        """Note that the WAL chain of the copy is whole up to `end`."""
        with self.lock:
            if self.copy is None or end < self.copy.needed_lsn:
                return
            if self.grade is Grade.CAPTURED:
                self.grade = Grade.COMPLETE
            self.end_lsn = end
            self.save()

    def keep_rows(self, rows: RowsKept | None, reason: str) -> None:
        """Note which rows are on disk, in the manifest too, and what is wrong."""
        with self.lock:
            changed = rows != self.rows
            self.rows, self.rows_reason = rows, reason
            if changed:
                self.save()

    def spend(self, size: int) -> None:
        """Count copied bytes and tell of it now and then."""
        with self.lock:
            self.progress.done += size
        self.tell(progress_only=True)

    def begin_progress(self, phase: Phase, total: int) -> None:
        """Start counting anew."""
        with self.lock:
            now = self.moment().monotonic_s
            self.progress = Progress(done=0, total=total, began_s=now)
            self.phase, self.reason, self.missing_bytes = phase, "", 0
        self.tell()

    @property
    def ahead_bytes(self) -> int:
        """How much of a copy that is being made is still to be written."""
        with self.lock:
            if self.phase is not Phase.COPYING:
                return 0
            return max(0, self.progress.total - self.progress.done)

    def fail(self, reason: str, missing_bytes: int = 0) -> None:
        """Note why it does not go on, and the room that is missing for it."""
        with self.lock:
            self.phase, self.reason = Phase.FAILED, reason
            self.missing_bytes = missing_bytes

    def tail_has(self, lsn: Lsn, timeout_s: float) -> bool:
        """Wait a little for the tail to reach `lsn`; return whether it has."""
        with self.lock:
            return self.lock.wait_for(
                lambda: self.tail_lsn is not None and self.tail_lsn >= lsn, timeout_s
            )

    def save(self, *, lazily: bool = False) -> None:
        """Write the manifest; `lazily`: not when that was done a moment ago.

        Raises OSError. Before there is a tail there is nothing to write.
        """
        with self.lock:
            began_s = self.moment().monotonic_s
            if lazily and began_s < self._save_again_s:
                return
            made = self.manifest()
            if made is not None:
                manifests.write(self.folder, made)
                ended_s = self.moment().monotonic_s
                pause_s = max(SAVE_S, SAVE_SHARE * (ended_s - began_s))
                self._save_again_s = ended_s + pause_s

    def manifest(self) -> Manifest | None:
        """Return what is so now; None before there is a tail."""
        with self.lock:
            if not self.identity or not self.lineage or self.timeline is None:
                return None
            if self.start_lsn is None or self.tail_lsn is None:
                return None
            copied = self.copy.contents if self.copy else Contents()
            rows = self.rows.files if self.rows else ()
            files = (*self.state, *self.wal, *copied.files, *rows)
            return Manifest(
                id=self.order.capture_id,
                cluster=self.cluster,
                node=self.order.node,
                system_id=self.identity.system_id,
                timeline=self.timeline,
                lineage=self.lineage,
                incident_ids=self.order.incident_ids,
                reason=self.order.reason,
                created_wall_s=self.created_wall_s,
                updated_wall_s=self.moment().wall_s,
                version_num=self.identity.version_num,
                wal_segment_bytes=self.identity.wal_segment_bytes,
                levels=self.order.levels,
                method=self.copy.method if self.copy else "",
                method_note=self.copy.note if self.copy else "",
                grade=self.grade,
                start_lsn=self.start_lsn,
                tail_lsn=self.tail_lsn,
                copy_lsn=self.copy.copy_lsn if self.copy else None,
                needed_lsn=self.copy.needed_lsn if self.copy else None,
                end_lsn=self.end_lsn,
                has_backup_label=bool(self.copy and self.copy.has_backup_label),
                copy_timeline=self.copy.timeline if self.copy else None,
                wal_link=self.copy.wal_link if self.copy else "",
                incarnation=self.identity.incarnation,
                closed=self.closed,
                size_bytes=sum(entry.size for entry in files),
                files=files,
                folders=copied.folders,
                links=copied.links,
                rows_from=self.rows.begins if self.rows else None,
                rows_lsn=self.rows.upto if self.rows else None,
            )

    def status(self) -> CaptureStatus:
        """Return what is so now, for the core."""
        with self.lock:
            return CaptureStatus(
                capture_id=self.order.capture_id,
                phase=Phase.CLOSED if self.closed else self.phase,
                grade=self.grade,
                method=self.copy.method if self.copy else "",
                timeline=self.timeline,
                start_lsn=self.start_lsn,
                tail_lsn=self.tail_lsn,
                reached_lsn=self.end_lsn,
                pin=self.pin,
                bytes_done=self.progress.done,
                bytes_total=max(self.progress.total, self.progress.done),
                seconds_left=self._seconds_left(),
                reason=self.reason,
                final_lsn=self.answered_lsn,
                missing_bytes=self.missing_bytes,
                rows_from=self.rows.begins if self.rows else None,
                rows_lsn=self.rows.upto if self.rows else None,
                rows_reason=self.rows_reason,
            )

    def tell(self, *, progress_only: bool = False) -> None:
        """Send the status if it has changed."""
        with self.lock:
            now = self.moment().monotonic_s
            if progress_only and now - self._told_s < STATUS_S:
                return
            status = self.status()
            if status == self._told:
                return
            self._log(status)
            self._told, self._told_s = status, now
            self.on_status(status)

    def _log(self, status: CaptureStatus) -> None:
        """Write down what an operator reads in the journal: phases and grades."""
        told = self._told
        if told is not None and (told.phase, told.grade, told.reason) == (
            status.phase,
            status.grade,
            status.reason,
        ):
            return
        level = logging.WARNING if status.phase is Phase.FAILED else logging.INFO
        log.log(
            level,
            "capture %s: %s, grade %s, tail to %s%s",
            status.capture_id,
            status.phase.value,
            status.grade.value,
            status.tail_lsn,
            f": {status.reason}" if status.reason else "",
        )

    def _seconds_left(self) -> float | None:
        if self.phase not in (Phase.COPYING, Phase.VERIFYING):
            return None
        spent_s = self.moment().monotonic_s - self.progress.began_s
        if self.progress.done <= 0 or spent_s <= 0:
            return None
        left = max(self.progress.total - self.progress.done, 0)
        return round(left * spent_s / self.progress.done, 1)
