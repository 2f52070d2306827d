"""From a snapshot of the losing side to what the winner lacks: the one way through.

Theory of operation. The snapshot is opened as a private clone, its log is read, the
rows that the log names are read out of the clone and kept (`loss/` in the snapshot's
folder), and, where there is a winner, set against it. Rows that were kept before are
not read again: the snapshot does not change any more. Whoever asks for the winner
again, asks the winner as it is now.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.divergence import besides, compared, shelf
from agent.divergence import compare as comparing
from agent.divergence.besides import keep_objects_of
from agent.divergence.compared import Comparison
from agent.divergence.extracted import Extraction, Source
from agent.divergence.extraction import extract
from agent.divergence.reading import Stretch, read_story
from agent.divergence.story import Story, Visible
from agent.divergence.winner import Door, Horizon, StoryOf, read_winner
from agent.errors import DivergenceError, SnapshotError
from agent.postgres.history import read_switches
from agent.postgres.programs import Programs, find_programs
from agent.postgres.wal import Chain, end_of_wal
from agent.snapshot import manifest as manifests
from agent.snapshot.manifest import DATA, WAL, Manifest
from agent.snapshot.opening import OpenCopy, open_copy

FLUSH_S = 10.0
"""So long is waited for the winner's log to be on its disk up to where it stood."""
_PAUSE_S = 0.05
_HEADER_BYTES = 40
"""A position may stand behind a page's header, where no record has begun yet."""

Progress = Callable[[str, int, int], None]
"""What is being done, how far it is, and how far it goes; 0: nobody knows."""


def _silent(_doing: str, _done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Task:
    """A snapshot to be examined."""

    snapshot: Path
    """The snapshot's own folder."""
    fork: Fork
    """Where the losing side left the line that was kept."""
    made_wall_s: float
    """Now, by our clock."""
    scratch: Path | None = None
    programs: Programs | None = None
    progress: Progress = _silent


def examine(task: Task, door: Door | None) -> tuple[Extraction, Comparison | None]:
    """Find out what the losing side wrote and, with a winner, what that one lacks.

    Both are kept in the snapshot's folder. Raises SnapshotError, PostgresError,
    DivergenceError: it cannot be opened or read, is no losing side, the winner does not
    answer or is none; OSError when there is no room.
    """
    manifest = manifests.read(task.snapshot)
    check_loser(manifest, task.fork)
    with shelf.alone(task.snapshot):
        extraction = _kept(task, manifest) or _extracted(task)
    if door is None:
        return extraction, None
    return extraction, compare_with(task, extraction, door)


def check_loser(manifest: Manifest, fork: Fork) -> None:
    """Raise DivergenceError where the snapshot holds nothing past the fork."""
    end = manifest.end_lsn or manifest.tail_lsn
    if end <= fork.lsn:
        raise DivergenceError(
            f"snapshot {manifest.id} of {manifest.node} ends at {end}, before the fork"
            f" at {fork.lsn}: it holds nothing that a losing side wrote",
            "choose a snapshot of the losing node: `splitguard snapshots list`",
        )
    # Whole segments are kept: of the first one also what was not asked for. A server
    # that was promoted has its last checkpoint behind the fork, mostly in its segment.
    first = manifest.start_lsn.segment(manifest.wal_segment_bytes)
    if first > fork.lsn.segment(manifest.wal_segment_bytes):
        raise DivergenceError(
            f"the log in snapshot {manifest.id} begins at {manifest.start_lsn}, past"
            f" the fork at {fork.lsn}: what was written between them is not in it",
            "an archive of the log, or another snapshot of the node from before, may"
            " have it: put the segments into the folder `wal` of a copy of it",
        )


def _kept(task: Task, manifest: Manifest) -> Extraction | None:
    """Return what was read out before, if it is all that there is, and whole."""
    shelf.mend(task.snapshot)
    folder = shelf.folder_of(task.snapshot)
    try:
        found = shelf.read_extraction(folder)
    except SnapshotError:
        return None  # what is garbled is made anew
    if found is None or not _fits(found, task.fork, manifest):
        return None
    return None if shelf.problems(folder, found) else found


def _fits(found: Extraction, fork: Fork, manifest: Manifest) -> bool:
    """Whether these rows are all that the snapshot has past the fork.

    Those of a snapshot without a copy were read out of the live server, and nothing but
    maintenance came later; those from before the fork on have what lies past it too.
    """
    if manifest.has_rows_alone:
        return found.fork.lsn <= fork.lsn
    return found.fork == fork and found.end_lsn == manifest.end_lsn


def _extracted(task: Task) -> Extraction:
    task.progress("opening a clone", 0, 0)
    with open_copy(task.snapshot, task.scratch, task.programs) as opened:
        programs = task.programs or find_programs(None, opened.folder / DATA)
        story = _story_of(opened, programs, task)
        manifest = opened.manifest
        source = Source(
            snapshot=manifest.id,
            node=manifest.node,
            system_id=manifest.system_id,
            version_num=manifest.version_num,
            fork=task.fork,
            made_wall_s=task.made_wall_s,
        )
        with shelf.renewed(task.snapshot) as folder:

            def told(done: int, total: int) -> None:
                task.progress("reading rows", done, total)

            extraction = extract(
                story, opened.dsn_for, folder, source=source, progress=told
            )
            keep_objects_of(extraction, story, opened.dsn_for, folder)
            return extraction


def _story_of(opened: OpenCopy, programs: Programs, task: Task) -> Story:
    manifest, fork = opened.manifest, task.fork.lsn
    lineage = manifest.lineage
    chain = Chain(
        opened.folder / WAL,
        lineage.switches,
        manifest.timeline,
        manifest.wal_segment_bytes,
    )
    end = manifest.end_lsn or opened.end_lsn

    def told(lsn: Lsn) -> None:
        task.progress("reading the log", max(0, lsn - fork), end - fork)

    # Kept segments are whole: the first one has more than what was asked for, and what
    # was under way at the fork may have begun there.
    size = manifest.wal_segment_bytes
    kept = Lsn(manifest.start_lsn.segment(size) * size)
    stretch = Stretch(programs, chain, fork, end, kept)
    return read_story(stretch, told)


def horizon_of(extraction: Extraction) -> Horizon:
    """Return which transaction ids belong to what came past the fork."""
    return Horizon(extraction.fork_next_xid, frozenset(extraction.fork_open))


def compare_with(task: Task, extraction: Extraction, door: Door) -> Comparison:
    """Set what was read out against the winner; keep what came out.

    Raises PostgresError, DivergenceError, SnapshotError, OSError.
    """
    names = tuple(database.name for database in extraction.databases)
    folder = shelf.folder_of(task.snapshot)
    task.progress("opening the winner", 0, 0)

    def told(done: int, total: int, table: str) -> None:
        task.progress(f"comparing {table}", done, total)

    with (
        shelf.alone(task.snapshot),
        read_winner(
            door, extraction.system_id, names, horizon_of(extraction)
        ) as winner,
    ):
        # The files of differences are written anew: an older record no longer fits.
        (folder / compared.NAME).unlink(missing_ok=True)
        comparison = comparing.compare(extraction, folder, winner, told)
        aside = besides.besides(extraction, comparison, folder, winner)
    besides.save(aside, folder)
    compared.save(comparison, folder)
    shelf.own(folder / compared.NAME)
    return comparison


def story_from(
    programs: Programs, wal_dir: Path, fork: Lsn, segment_bytes: int
) -> StoryOf:
    """Return who tells the story of a server whose log lies in `wal_dir`.

    The log has to be there from the fork on. It may be a running server's: it is
    followed up to where the server stood, and waited for when it is not yet on disk.
    """

    def told(timeline: int, lsn: Lsn, visible: Visible) -> Story:
        chain = Chain(
            wal_dir, read_switches(wal_dir, timeline), timeline, segment_bytes
        )
        end = end_of_wal(programs, wal_dir, timeline, fork, segment_bytes)
        for _ in range(int(FLUSH_S / _PAUSE_S)):
            if end + _HEADER_BYTES >= lsn:
                break
            time.sleep(_PAUSE_S)
            end = end_of_wal(programs, wal_dir, timeline, fork, segment_bytes)
        return read_story(Stretch(programs, chain, fork, end, visible=visible))

    return told
