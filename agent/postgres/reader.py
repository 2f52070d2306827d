"""The facts about the server beside this agent, read from its disk.

Theory of operation. Each reading takes pg_control, the pid file and the names in
pg_wal anew, which costs about a millisecond; what cannot change is kept: the parsed
history files, the programs' version, and fingerprints. A loser that follows its twin's
WAL without a rewind has its own beginning overwritten, and the fingerprint taken before
is the only witness: so it stays for as long as nothing has undone what it was taken of
(see `agent/core/prints.py`), also what the agent knows from before its own start. What
was undone is read again.

Which timeline the server is on. pg_control tells only the timeline of the last
checkpoint (or of the minimum recovery point), which is late after a promotion, by
seconds or minutes. Whoever writes or receives WAL on a newer timeline has a segment
file of it, and its history file. So the tip is the highest timeline that has both,
and whose history left pg_control's timelines at or past pg_control's positions: a
history file alone may have been copied there by hand or fetched ahead, and one that
left our timeline before our checkpoint belongs to somebody else's branch.

Where WAL ends is found out only while nothing writes: no postmaster, and none of its
children either. It is found again when pg_control or a newest segment has changed.
"""

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.lineage import Fingerprint, Lineage, PagePrint, Switch, births
from agent.core.lsn import Lsn
from agent.core.observation import ReadFailure, ServerFacts
from agent.core.prints import Marks, Printed, surviving
from agent.errors import PostgresError
from agent.postgres import history, records, traces, wal
from agent.postgres.control import ControlData, read_control
from agent.postgres.postmaster import SINGLE_USER, Postmaster, orphans, running
from agent.postgres.programs import Programs, find_programs, read_major, read_release

log = logging.getLogger(__name__)

RETRY_READINGS = 5
"""After so many readings the end of WAL is looked for again where that failed."""

DAMAGED = "keep the data directory as it is, and look into the storage that it lies on"
"""What to do about a file whose content cannot be, where nothing better is known."""
_STANDBY_MODE = re.compile(
    rb"^\s*standby_mode\s*=?\s*'?(?:on|true|yes|1)\b", re.MULTILINE | re.IGNORECASE
)
_RECOVERY_CONF_BYTES = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Listing:
    """The names in pg_wal that tell something, read once per reading."""

    histories: frozenset[int]
    segment_timelines: frozenset[int]


@dataclass(frozen=True, slots=True)
class _End:
    """Where valid WAL ends, or why that is not known."""

    lsn: Lsn | None
    unknown: str = ""


@dataclass(slots=True)
class _Kept:
    """What stays true for one incarnation of a data directory."""

    incarnation: tuple[int, ...]
    switches: dict[tuple[int, ...], tuple[Switch, ...]] = field(default_factory=dict)
    watched: bool = False
    """Whether its marks were read before, by this reader."""
    end_key: tuple[object, ...] = ()
    end: _End = _End(None)
    end_asked: int = 0
    """Readings since the end was looked for in vain."""


class DiskReader:
    """Implements ports.ServerReader for one data directory. Blocking.

    Not for several threads at once. `bin_dir` is where the programs are; without it
    they are looked for (see `programs.find_programs`). `printed` is what was printed
    of the server before this reader was made.
    """

    def __init__(
        self,
        data_dir: Path,
        bin_dir: Path | None = None,
        printed: Printed | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._wal_dir = history.wal_folder(data_dir)
        self._bin_dir = bin_dir
        self._programs: Programs | None = None
        self._kept = _Kept(())
        self._printed = printed

    @property
    def data_dir(self) -> Path:
        """The data directory that is read."""
        return self._data_dir

    def programs(self) -> Programs:
        """Return the programs of the server's version. Raises PostgresError."""
        major = read_major(self._data_dir)
        if self._programs is None or self._programs.major != major:
            self._programs = find_programs(self._bin_dir, self._data_dir)
        return self._programs

    def read(self, pages: tuple[Lsn, ...] = ()) -> ServerFacts | ReadFailure:
        """Read everything anew that can have changed. Never raises.

        Of `pages`, where pages of its timeline's WAL begin, those that are there too.
        About 1 ms while the server runs; the first reading after it stopped takes
        as long as pg_waldump needs for the WAL since the last checkpoint.
        """
        try:
            return self._read(pages)
        except PostgresError as error:
            return ReadFailure(error.message, error.hint or DAMAGED)
        except OSError as error:
            name = error.filename or self._data_dir
            return ReadFailure(
                f"{name} cannot be read: {error.strerror}",
                "check local.data_dir, and run the agent as the data directory's owner",
            )
        except Exception as error:
            log.exception("reading %s failed in a way nobody foresaw", self._data_dir)
            return ReadFailure(
                f"{self._data_dir} cannot be read: internal error:"
                f" {type(error).__name__}",
                "the agent's log has the details; report them",
            )

    def _read(self, pages: tuple[Lsn, ...]) -> ServerFacts:
        data_dir = self._data_dir
        found = data_dir.stat()
        self._wal_dir = history.wal_folder(data_dir)
        self._renew()
        # In this order: a server that stops between the two readings counts as
        # running once more, never as stopped with an older control file.
        before = running(data_dir)
        version_num = self._version_num()
        control = read_control(data_dir, self._programs)
        is_running = before is not None or self._has_orphans(control)
        listing = _list(self._wal_dir)
        timeline = self._tip(control, listing)
        lineage, marks = self._lineage(control, timeline)
        end = _End(None) if is_running else self._end(control, listing, timeline)
        # A server that was started meanwhile has moved that end already.
        after = running(data_dir)
        is_running = is_running or after is not None
        return ServerFacts(
            identity=f"{_boot_id()}:{found.st_dev}:{found.st_ino}",
            data_dir=str(data_dir),
            lineage=lineage,
            control_state=control.state,
            checkpoint_lsn=control.checkpoint_lsn,
            redo_lsn=control.redo_lsn,
            running=is_running,
            standby_signal=_told_to_stand_by(data_dir),
            end_lsn=None if is_running else end.lsn,
            wal_segment_bytes=control.wal_segment_bytes,
            version_num=version_num,
            end_unknown="" if is_running else end.unknown,
            single_user=_alone(before, after),
            marks=marks,
            pages=self._pages(timeline, pages, control.wal_segment_bytes),
        )

    def _renew(self) -> None:
        """Forget what was kept when this is not the same directory any more."""
        folder = self._data_dir.stat()
        version = (self._data_dir / "PG_VERSION").stat()
        incarnation = (
            folder.st_dev, folder.st_ino, version.st_ino, version.st_mtime_ns,
        )  # fmt: skip
        if incarnation != self._kept.incarnation:
            self._kept = _Kept(incarnation)

    def _has_orphans(self, control: ControlData) -> bool:
        # A clean stop leaves neither a pid file nor such a state: only after a crash,
        # or where somebody removed the file of a running server, is there a need to
        # look at all processes.
        left = (self._data_dir / "postmaster.pid").exists()
        unclean = not control.state.startswith("shut down")
        return (left or unclean) and bool(orphans(self._data_dir))

    def _version_num(self) -> int:
        try:
            return self.programs().version_num
        except PostgresError:
            return read_release(self._data_dir)

    def _tip(self, control: ControlData, listing: _Listing) -> int:
        """Return the timeline that the server is on (see the module's theory)."""
        anchors = {control.timeline: control.checkpoint_lsn}
        if control.min_recovery_timeline:
            passed = anchors.get(control.min_recovery_timeline, Lsn(0))
            anchors[control.min_recovery_timeline] = max(
                passed, control.min_recovery_lsn
            )
        known = max(anchors)
        for candidate in sorted(listing.segment_timelines, reverse=True):
            if candidate <= known:
                break
            if candidate in listing.histories and self._descends(candidate, anchors):
                return candidate
        return known

    def _descends(self, candidate: int, anchors: dict[int, Lsn]) -> bool:
        try:
            switches = self._switches(candidate)
        except PostgresError:
            return False  # half written, or not a history: nobody is on it yet
        left = {switch.timeline: switch.lsn for switch in switches}
        return all(
            timeline in left and left[timeline] >= lsn
            for timeline, lsn in anchors.items()
        )

    def _switches(self, timeline: int) -> tuple[Switch, ...]:
        if timeline == 1:
            return ()
        found = (self._wal_dir / history.file_name(timeline)).stat()
        key = (timeline, found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._kept.switches
        if key not in kept:
            kept[key] = history.read_switches(self._wal_dir, timeline)
        return kept[key]

    def _lineage(self, control: ControlData, timeline: int) -> tuple[Lineage, Marks]:
        switches = self._switches(timeline)
        begun = births(switches, timeline)
        marks = traces.marks(
            self._data_dir, self._wal_dir, control, (born for born, _ in begun)
        )
        prints = self._prints(control, begun, marks)
        lineage = Lineage(
            system_id=control.system_id,
            timeline=timeline,
            switches=switches,
            fingerprints=tuple(prints[birth] for birth in begun if birth in prints),
        )
        return lineage, marks

    def _prints(
        self, control: ControlData, begun: tuple[tuple[int, Lsn], ...], marks: Marks
    ) -> dict[tuple[int, Lsn], Fingerprint]:
        """Return what was printed of these beginnings before, or else can be now."""
        kept: tuple[Fingerprint, ...] = ()
        if self._printed is not None:
            kept = surviving(
                self._printed, control.system_id, marks, watched=self._kept.watched
            )
        prints = {(one.timeline, one.lsn): one for one in kept}
        for index, birth in enumerate(begun):
            if birth not in prints:
                taken = wal.fingerprint(
                    self._wal_dir,
                    *birth,
                    segment_bytes=control.wal_segment_bytes,
                    heirs=begun[index + 1 :],
                )
                if taken is not None:
                    prints[birth] = taken
        self._printed = Printed(control.system_id, marks, tuple(prints.values()))
        self._kept.watched = True
        return prints

    def _pages(
        self, timeline: int, pages: tuple[Lsn, ...], segment_bytes: int
    ) -> tuple[PagePrint, ...]:
        """Return the prints of those of these pages that are there."""
        found = (
            records.page_print(self._wal_dir, timeline, page, segment_bytes)
            for page in pages
        )
        return tuple(page for page in found if page is not None)

    def _end(self, control: ControlData, listing: _Listing, timeline: int) -> _End:
        """Return where the stopped server's valid WAL ends.

        A failure is tried again even if no file has changed: what it came from need
        not lie in the files.
        """
        kept = self._kept
        key = (control, timeline, listing, _last_written(self._wal_dir))
        kept.end_asked += 1
        if key == kept.end_key and (
            not kept.end.unknown or kept.end_asked < RETRY_READINGS
        ):
            return kept.end
        try:
            lsn = wal.end_of_wal(
                self.programs(),
                self._wal_dir,
                timeline,
                control.checkpoint_lsn,
                control.wal_segment_bytes,
            )
            kept.end = _End(lsn)
        except PostgresError as error:
            if key != kept.end_key:
                log.warning("the end of valid WAL is not known: %s", error)
            kept.end = _End(None, error.message)
        kept.end_key, kept.end_asked = key, 0
        return kept.end


def _told_to_stand_by(data_dir: Path) -> bool:
    """Whether the server, when it starts, starts as a standby.

    By standby.signal; before 12 by `standby_mode` in recovery.conf, a file that newer
    servers refuse to start with.
    """
    if (data_dir / "standby.signal").exists():
        return True
    try:
        with (data_dir / "recovery.conf").open("rb") as file:
            text = file.read(_RECOVERY_CONF_BYTES)
    except FileNotFoundError:
        return False
    return _STANDBY_MODE.search(text) is not None


def _alone(*found: Postmaster | None) -> bool:
    """Whether what ran, before or after the reading, was in single-user mode."""
    seen = [postmaster.status for postmaster in found if postmaster is not None]
    return bool(seen) and set(seen) == {SINGLE_USER}


def _list(wal_dir: Path) -> _Listing:
    names = [entry.name for entry in wal_dir.iterdir()]
    segments = [name for name in names if wal.is_segment(name)]
    return _Listing(
        histories=frozenset(history.timelines(names)),
        segment_timelines=frozenset(int(name[:8], 16) for name in segments),
    )


def _last_written(wal_dir: Path) -> int:
    with os.scandir(wal_dir) as entries:
        found = [e.stat().st_mtime_ns for e in entries if wal.is_segment(e.name)]
    return max(found, default=0)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
