"""Carrying out a plan: files are copied or shared, forced to disk, and read back.

Theory of operation. Two stages work at once, each with THREADS threads. The first
reads a file from the server, hashes what it has read, writes it, and has the kernel
begin to put it on the disk; pg_control goes last, because a copy of a standby needs it
so. The second forces a finished file to disk, has the kernel forget what it has of it
in memory, and reads it back: only when every hash is that of what was read from the
server is the copy `captured`. A file that shares the server's blocks (see `sharing`) is
not read from the server at all: its hash is that of what lies on the disk. The first
error, in whichever stage, ends all.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from agent.errors import CaptureError
from agent.snapshot.files import (
    PRIVATE_FOLDER,
    Growth,
    Spent,
    copy_hashed,
    fsync_path,
    make_folder,
    settle_and_hash,
)
from agent.snapshot.manifest import Contents, FileEntry
from agent.snapshot.pace import step_back
from agent.snapshot.plan import CONTROL, Item, Plan
from agent.snapshot.sharing import UnsharedError, share_file

T = TypeVar("T")
R = TypeVar("R")

THREADS = 2
"""Of the first stage, which keeps a processor busy each."""
BACK_THREADS = 4
"""Of the second, which mostly waits for the disk."""
LARGE_BYTES = 4 << 20
"""Smaller files are forced to disk after all of them were written: the first of them
then takes the others along, where each by itself would have the file system wait."""


HUGE_BYTES = 64 << 20
"""Larger files are read back while they are written."""


class OtherFailedError(Exception):
    """Another thread has failed, and its error is the one to tell."""


class VanishedError(Exception):
    """A file that stands still was gone when it was to be copied."""


@dataclass(frozen=True, slots=True)
class How:
    """In which way a plan is carried out."""

    gentle: bool
    """A server runs on the same machine and comes first."""
    still: bool
    """Nothing changes there: a file that is gone is an error, and not one dropped."""
    shared: bool = False
    """Files are to share blocks with their sources, where they can."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is told of each block; either raises to end the work."""

    copied: Spent
    read_back: Spent
    crash: Callable[[str], None]


class Copier:
    """Carries out one plan below `root`: `copy`, `settle`, and in any case `close`."""

    def __init__(self, plan: Plan, root: Path, hooks: Hooks, how: How) -> None:
        self._plan = plan
        self._root = root
        self._hooks = hooks
        self._how = how
        self._failed = threading.Event()
        # A stopped server has nobody to give way to, and somebody waits for its copy.
        begin = step_back if how.gentle else None
        self._first = ThreadPoolExecutor(THREADS, "splitguard-copy", begin)
        self._second = ThreadPoolExecutor(BACK_THREADS, "splitguard-back", begin)
        self._settled: dict[str, Future[FileEntry]] = {}
        self._followed: dict[str, Future[str]] = {}
        """The hashes of what was read back while it was written."""

    def copy(self) -> Contents:
        """Copy everything but pg_control, then pg_control.

        Raises CaptureError, VanishedError, and what the hooks raise.
        """
        self._make_folders()
        last = [item for item in self._plan.items if item.path == CONTROL]
        rest = [item for item in self._plan.items if item.path != CONTROL]
        entries: list[FileEntry | None] = []
        for items in (rest, last):
            made = [self._submit(self._first, self._copy_one, item) for item in items]
            entries += self._results(made)
        for link in self._plan.links:
            (self._root / link.path).symlink_to(link.target)
        return Contents(
            tuple(entry for entry in entries if entry is not None),
            tuple(path for path, _ in self._plan.folders),
            tuple(self._plan.links),
        )

    def settle(self, contents: Contents) -> Contents:
        """See all of it on disk and read back; return it with every hash.

        Raises CaptureError, OSError, and what the hooks raise.
        """
        for entry in contents.files:
            if entry.path not in self._settled:
                self._settle(entry)
        entries = self._results([self._settled[e.path] for e in contents.files])
        for path in contents.folders:
            fsync_path(self._root / path)
        return replace(contents, files=tuple(entries))

    def close(self) -> None:
        """End all threads, whatever they have left to do."""
        self._failed.set()
        for pool in (self._first, self._second):
            pool.shutdown(wait=True, cancel_futures=True)

    def _make_folders(self) -> None:
        for path, mode in self._plan.folders:
            folder = self._root / path
            make_folder(folder.parent)
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            folder.chmod(mode | PRIVATE_FOLDER)
            if os.geteuid() == 0:
                os.chown(folder, *self._plan.owners[path])

    def _submit(
        self, pool: ThreadPoolExecutor, work: Callable[[T], R], item: T
    ) -> "Future[R]":
        """Have the pool do the work; the first that fails ends all."""

        def guarded() -> R:
            try:
                return work(item)
            except BaseException:
                self._failed.set()
                raise

        return pool.submit(guarded)

    def _results(self, futures: "Sequence[Future[R]]") -> list[R]:
        """Wait for all, and raise what ended the work, in whichever stage."""
        failures = [failure for one in futures if (failure := one.exception())]
        if failures:
            failures += [f for one in self._begun() if (f := one.exception())]
            for failure in failures:
                if not isinstance(failure, OtherFailedError):
                    raise failure
        return [future.result() for future in futures]

    def _begun(self) -> "list[Future[FileEntry] | Future[str]]":
        return [*self._settled.values(), *self._followed.values()]

    def _copy_one(self, item: Item) -> FileEntry | None:
        self._hooks.crash("during-copy")
        try:
            entry = self._make(item)
        except FileNotFoundError as error:
            if not self._how.still:
                return None
            raise VanishedError(item.path) from error
        except OSError as error:
            raise CaptureError(
                f"{item.source} cannot be copied: {error.strerror}"
            ) from error
        if entry.size >= LARGE_BYTES:
            self._settle(entry)
        return entry

    def _make(self, item: Item) -> FileEntry:
        target = self._root / item.path
        if self._how.shared:
            self._copied(0)
            try:
                shared = share_file(item.source, target)
            except UnsharedError:
                pass  # this one only: another file system, or other attributes
            else:
                return FileEntry(item.path, shared.size, None, shared.mode)
        if item.size < HUGE_BYTES:
            copied = copy_hashed(item.source, target, self._copied, begin_writing=True)
            return FileEntry(item.path, copied.size, copied.sha256, copied.mode)
        return self._make_huge(item, target)

    def _make_huge(self, item: Item, target: Path) -> FileEntry:
        """Copy a file that is read back while it is written."""
        growth = Growth()

        def follow(growth: Growth) -> str:
            return settle_and_hash(target, self._back, growth)

        def wrote(size: int) -> None:
            growth.grow(size)
            if item.path not in self._followed:
                back = self._submit(self._second, follow, growth)
                self._followed[item.path] = back
            self._copied(size)

        try:
            copied = copy_hashed(item.source, target, wrote, begin_writing=True)
        finally:
            growth.end()
        return FileEntry(item.path, copied.size, copied.sha256, copied.mode)

    def _settle(self, entry: FileEntry) -> None:
        self._settled[entry.path] = self._submit(self._second, self._read_back, entry)

    def _read_back(self, entry: FileEntry) -> FileEntry:
        self._back(0)
        path = self._root / entry.path
        followed = self._followed.get(entry.path)
        if followed is not None:  # begun before this, so it never waits for a thread
            found = followed.result()
        else:
            found = settle_and_hash(path, self._back)
        if entry.sha256 is None:  # it was not read before: it shares the blocks
            return replace(entry, sha256=found)
        if found != entry.sha256:
            raise CaptureError(
                f"{path} does not read back as it was written",
                "the volume of the capture folder is not to be trusted",
            )
        return entry

    def _copied(self, size: int) -> None:
        if self._failed.is_set():
            raise OtherFailedError
        self._hooks.copied(size)

    def _back(self, size: int) -> None:
        if self._failed.is_set():
            raise OtherFailedError
        self._hooks.read_back(size)
