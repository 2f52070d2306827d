"""Verification: whether a snapshot still is what its manifest says.

Theory of operation. Every file is read and hashed; nothing may be missing, and in
the copy nothing may be there that the manifest does not name, because the server
would use it. Then the WAL chain is checked from where recovery begins to the
recorded end. The best grade that this proves is returned; what was recorded as
`opened` stays so when nothing is wrong, because the bytes are the same.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.capture import Grade
from agent.errors import PostgresError, SnapshotError
from agent.postgres import wal
from agent.postgres.programs import Programs, find_programs
from agent.snapshot import manifest as manifests
from agent.snapshot.files import hash_file, tree
from agent.snapshot.guide import EXTRA
from agent.snapshot.manifest import DATA, TABLESPACES, WAL, FileEntry, Manifest

PROBLEMS_MAX = 100
"""More problems than this are counted, not listed."""

Seen = Callable[[int, int], None]
"""Called with the bytes checked so far and the bytes in all."""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found."""

    grade: Grade
    """What is proven now; `none` with any problem, or without a full copy."""
    problems: tuple[str, ...]
    """Empty when everything is as the manifest says."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""
    bytes_checked: int

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_folder(
    folder: Path,
    progress: Seen | None = None,
    programs: Programs | None = None,
) -> VerifyResult:
    """Check a snapshot's folder, or an unpacked archive. Changes nothing.

    Raises SnapshotError when the folder has no usable manifest.
    """
    manifest = manifests.read(folder)
    check = _Check(folder, manifest, progress)
    problems = tuple(check.problems())
    grade, notes = Grade.NONE, []
    if not problems and manifest.has_copy:
        grade = Grade.CAPTURED
        try:
            problem = _chain(folder, manifest, programs)
        except PostgresError as error:
            notes.append(f"the WAL chain was not checked: {error.message}")
        else:
            problems = (problem,) if problem else ()
            grade = Grade.NONE if problem else _proven(manifest)
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        problems = (*problems[:PROBLEMS_MAX], f"and {more} more")
    return VerifyResult(grade, problems, tuple(notes), check.done)


def verify_and_record(
    folder: Path,
    progress: Seen | None = None,
    programs: Programs | None = None,
) -> VerifyResult:
    """Do the same, and raise the grade in the manifest of a finished capture.

    Raises SnapshotError.
    """
    result = verify_folder(folder, progress, programs)
    manifest = manifests.read(folder)
    if result.good and manifest.closed:
        try:
            manifests.raise_grade(folder, manifest, result.grade)
        except OSError as error:
            raise SnapshotError(
                f"the grade cannot be written into {folder}: {error.strerror}"
            ) from error
    return result


def _proven(manifest: Manifest) -> Grade:
    complete = manifest.end_lsn is not None
    if manifest.grade is Grade.OPENED:
        return Grade.OPENED
    return Grade.COMPLETE if complete else Grade.CAPTURED


def _chain(folder: Path, manifest: Manifest, programs: Programs | None) -> str | None:
    """Return what is wrong with the WAL; None when nothing is."""
    start, end = manifest.copy_lsn, manifest.end_lsn
    if start is None or end is None:
        return None
    found = programs or find_programs(None, folder / DATA)
    reached = wal.check_chain(found, folder / WAL, manifest.lineage, start, end)
    if reached >= end:
        return None
    return f"the WAL chain from {start} breaks at {reached}, before {end}"


class _Check:
    """Compares one folder with its manifest."""

    def __init__(self, folder: Path, manifest: Manifest, progress: Seen | None) -> None:
        self._folder = folder
        self._manifest = manifest
        self._progress = progress
        self._total = sum(entry.size for entry in manifest.files)
        self._originals = {entry.path: entry for entry in manifest.withheld}
        self.done = 0

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each thing that is wrong."""
        try:
            yield from self._problems()
        except OSError as error:
            yield f"{error.filename} cannot be read: {error.strerror}"

    def _problems(self) -> Iterator[str]:
        for path in self._manifest.folders:
            if not self._is_folder(path):
                yield f"{path} is missing"
        for link in self._manifest.links:
            place = self._folder / link.path
            if not place.is_symlink() or str(place.readlink()) != link.target:
                yield f"{link.path} is not the link that it should be"
        for entry in self._manifest.files:
            problem = self._file(entry)
            if problem:
                yield f"{entry.path!r:.300} {problem}"
        yield from self._unknown()

    def _is_folder(self, path: str) -> bool:
        place = self._folder / path
        return place.is_dir() and not place.is_symlink()

    def _file(self, entry: FileEntry) -> str:
        """Return what is wrong with one file; empty when nothing is."""
        try:
            return self._either(entry, self._folder / entry.path)
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def _either(self, entry: FileEntry, place: Path) -> str:
        """Compare with what was sent, or with what somebody has put back by hand."""
        problem = self._difference(entry, place)
        original = self._originals.get(entry.path)
        if not problem or original is None:
            return problem
        return self._difference(original, place)

    def _difference(self, entry: FileEntry, place: Path) -> str:
        if place.resolve().parent != place.parent.resolve():
            return "is a link"
        size = place.lstat().st_size
        if size != entry.size:
            return f"has {size} bytes instead of {entry.size}"
        if entry.sha256 is None:
            self._count(entry.size)
        elif hash_file(place, self._count) != entry.sha256:
            return "was changed: its hash is another one"
        return ""

    def _count(self, size: int) -> None:
        self.done += size
        if self._progress is not None:
            self._progress(self.done, self._total)

    def _unknown(self) -> Iterator[str]:
        """Yield what the server would find and the manifest does not name."""
        known = {entry.path for entry in self._manifest.files}
        known |= set(self._manifest.folders)
        known |= {link.path for link in self._manifest.links}
        # A capture that goes on has WAL that the manifest does not name yet.
        tops = (
            (DATA, TABLESPACES, WAL) if self._manifest.closed else (DATA, TABLESPACES)
        )
        for top in tops:
            if self._foreign_top(top, known):
                yield f"{top} is not in the manifest"
                continue
            for relative, entry in tree(self._folder / top):
                path = f"{top}/{relative}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if path not in known and not (is_folder and top == TABLESPACES):
                    yield f"{path!r:.300} is not in the manifest"

    def _foreign_top(self, top: str, known: set[str]) -> bool:
        """Whether it is there without need; an empty folder for WAL is in archives."""
        place = self._folder / top
        if top in EXTRA or top in known or not os.path.lexists(place):
            return False
        if any(path.startswith(f"{top}/") for path in known):
            return False
        return top != WAL or place.is_symlink() or any(place.iterdir())
