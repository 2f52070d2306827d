"""The shelf: the managers' snapshots that are kept on this machine.

Theory of operation. One folder a snapshot, and no index that could disagree with the
folders. A snapshot is made in a folder whose name no snapshot can have; the manifest is
its last file, and only after all of it was forced to the disk does the folder get its
real name. So whatever is listed is whole, and what a killed process left is known by
its name and swept away. It is removed the other way round. Nothing here asks a manager.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import ManagerError, SnapshotError
from agent.snapshot.files import (
    BLOCK_BYTES,
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    Spent,
    fsync_path,
    hash_file,
    nothing,
    remove_tree,
    write_all,
    write_atomically,
)
from agent.snapshot.removal import record
from agent.snapshot.sealing import Identity, unsealed
from agent.vnfm.kept import (
    CERTIFICATES,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    Kept,
    parsed,
    written,
)

ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,199}")
"""What a manager takes as a snapshot's id, and a folder as its name."""
LISTED_MAX = 10_000
"""More folders than this are not looked at."""
_MAKING = ".making-"
_DOOMED = ".removed-"
LIST_HINT = "ids are listed by `splitguard vnfm snapshots list`"


def check_id(snapshot_id: str) -> str:
    """Return the id if it can be one; raise ManagerError otherwise."""
    if ID.fullmatch(snapshot_id) is None:
        raise ManagerError(
            f"not an id of a manager's snapshot: {snapshot_id[:80]!r}", LIST_HINT
        )
    return snapshot_id


class Shelf:
    """The snapshots below one folder. Blocking; may be used from any thread."""

    def __init__(self, folder: Path) -> None:
        self._dir = folder
        self._read_before: dict[str, tuple[tuple[int, int, int], Kept]] = {}

    @property
    def place(self) -> Path:
        """The folder."""
        return self._dir

    # --- what is there ----------------------------------------------------------

    def list(self) -> tuple[Kept, ...]:
        """Return what is kept, newest first; nothing where there is no folder yet.

        Raises ManagerError when the folder cannot be read.
        """
        found = []
        for name in self._names():
            try:
                found.append(self._read(name))
            except ManagerError:
                continue
        found.sort(key=lambda one: (one.created_wall_s, one.id), reverse=True)
        return tuple(found)

    def sound(self) -> tuple[Kept, ...]:
        """Return those of the list whose archive lies there in its full length.

        Only they count as good. Raises ManagerError as `list` does.
        """
        return tuple(one for one in self.list() if self._lies_there(one))

    def unusable(self) -> tuple[tuple[str, str], ...]:
        """Return folders that are no snapshots, each with the reason."""
        reasons = []
        for name in self._names():
            try:
                self._read(name)
            except ManagerError as error:
                reasons.append((name, error.message))
        return tuple(reasons)

    def show(self, snapshot_id: str) -> Kept:
        """Return what is known of one. Raises ManagerError when it is not here."""
        check_id(snapshot_id)
        if not (self._dir / snapshot_id / MANIFEST).is_file():
            raise ManagerError(
                f"no manager's snapshot {snapshot_id} is kept in {self._dir}", LIST_HINT
            )
        return self._read(snapshot_id)

    def archive(self, snapshot_id: str) -> Path:
        """Return the file that holds it: a zip, or one encrypted with age.

        Raises ManagerError when it is not here, or has another size than was kept.
        """
        kept = self.show(snapshot_id)
        path = self._dir / snapshot_id / kept.file
        with _told(f"{path} cannot be read"):
            if path.stat().st_size != kept.stored_bytes:
                raise ManagerError(
                    f"{path} is not what was kept: {kept.stored_bytes} bytes",
                    "use another snapshot; this one was changed on the disk",
                )
        return path

    def check(self, snapshot_id: str, spent: Spent = nothing) -> tuple[str, ...]:
        """Read everything back; return what is wrong, a sentence each.

        Raises ManagerError when it is not here.
        """
        kept, folder = self.show(snapshot_id), self._dir / snapshot_id
        wanted = [(kept.file, kept.stored_sha256)]
        if kept.certificates_sha256:
            wanted.append((CERTIFICATES, kept.certificates_sha256))
        problems = []
        for name, sha256 in wanted:
            try:
                if hash_file(folder / name, spent) != sha256:
                    problems.append(f"{folder / name} is not what was kept")
            except OSError as error:
                problems.append(f"{folder / name} cannot be read: {error.strerror}")
        return tuple(problems)

    def take_out(
        self, snapshot_id: str, target: Path, identities: Sequence[Identity] = ()
    ) -> Kept:
        """Write the zip, decrypted where it is encrypted, to `target`, and check it.

        `target` must not exist; a file that is not what came off the manager is not
        left there. Raises ManagerError: not here, no key fits, or it was changed.
        """
        kept = self.show(snapshot_id)
        source = self._dir / snapshot_id / kept.file
        digest = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _told(f"{snapshot_id} cannot be taken out to {target}"):
            handle = os.open(target, flags, PRIVATE_FILE)
            try:
                with os.fdopen(handle, "wb", buffering=0) as file:
                    for block in _plain(source, identities):
                        digest.update(block)
                        write_all(handle, memoryview(block))
                    os.fsync(file.fileno())
                _same(digest.hexdigest(), kept.sha256, source)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return kept

    # --- what is put there ------------------------------------------------------

    def begin(self, snapshot_id: str) -> Path:
        """Return an empty folder in which a snapshot can be made. Raises ManagerError.

        Nothing that lies there is listed.
        """
        folder = self._dir / (_MAKING + check_id(snapshot_id))
        with _told(f"{self._dir} cannot be written"):
            self._dir.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            if (self._dir / snapshot_id).exists():
                raise ManagerError(f"{snapshot_id} is kept already")
            remove_tree(folder)
            folder.mkdir(mode=PRIVATE_FOLDER)
        return folder

    def put(self, kept: Kept) -> None:
        """List what was made in the folder of `begin`. Raises ManagerError.

        Every file in it must have been forced to the disk before.
        """
        making = self._dir / (_MAKING + kept.id)
        with _told(f"{kept.id} cannot be filed"):
            write_atomically(making / MANIFEST, written(kept))
            making.rename(self._dir / kept.id)
            fsync_path(self._dir)

    def renew(self, kept: Kept) -> None:
        """Write another manifest of a snapshot that is listed. Raises ManagerError."""
        self.show(kept.id)
        with _told(f"{kept.id} cannot be filed"):
            write_atomically(self._dir / kept.id / MANIFEST, written(kept))

    def give_up(self, snapshot_id: str) -> None:
        """Take away what was begun and not put. Never raises what a disk can do."""
        shutil.rmtree(self._dir / (_MAKING + check_id(snapshot_id)), ignore_errors=True)

    def remove(self, snapshot_id: str, who: str, reason: str, wall_s: float) -> None:
        """Remove one for good, and record by whom and why. Raises ManagerError."""
        kept = self.show(snapshot_id)
        when = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")
        line = {
            "id": kept.id,
            "removed": when,
            "who": who,
            "reason": reason,
            "incidents": list(kept.incident_ids),
            "sha256": kept.sha256,
            "bytes": kept.size_bytes,
        }
        with _told(f"{snapshot_id} cannot be removed"):
            record(self._dir, line)
            doomed = self._dir / (_DOOMED + snapshot_id)
            remove_tree(doomed)
            (self._dir / snapshot_id).rename(doomed)
            fsync_path(self._dir)
            remove_tree(doomed)

    def sweep(self) -> tuple[str, ...]:
        """Take away what a killed process left; return the ids. Raises ManagerError."""
        swept = []
        with _told(f"{self._dir} cannot be swept"):
            for prefix in (_MAKING, _DOOMED):
                for left in sorted(self._dir.glob(f"{prefix}*")):
                    remove_tree(left)
                    swept.append(left.name.removeprefix(prefix))
        return tuple(swept)

    # --- inside -----------------------------------------------------------------

    def _names(self) -> tuple[str, ...]:
        with _told(f"{self._dir} cannot be read"):
            try:
                entries = [one for one in self._dir.iterdir() if _is_folder(one)]
            except FileNotFoundError:
                return ()
        return tuple(sorted(one.name for one in entries)[:LISTED_MAX])

    def _lies_there(self, kept: Kept) -> bool:
        try:
            found = (self._dir / kept.id / kept.file).stat()
        except OSError:
            return False
        return found.st_size == kept.stored_bytes

    def _read(self, name: str) -> Kept:
        """Return a manifest, read again only when its file is another one."""
        path = self._dir / name / MANIFEST
        with _told(f"{path} cannot be read"):
            found = path.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            before = self._read_before.get(name)
            if before is not None and before[0] == mark:
                return before[1]
            if found.st_size > MANIFEST_BYTES_MAX:
                raise ManagerError(f"{path} is too large to be a manifest")
            kept = parsed(path.read_bytes(), str(path))
            if kept.id != name:
                raise ManagerError(f"{name} holds the manifest of {kept.id!r:.100}")
        self._read_before[name] = (mark, kept)
        return kept


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what a disk does into an error that a person can read."""
    try:
        yield
    except OSError as error:
        raise ManagerError(
            f"{what}: {error.strerror or error}",
            "see that vnfm.dir belongs to the agent's user and has room",
        ) from error
    except SnapshotError as error:
        raise ManagerError(f"{what}: {error.message}", error.hint) from error


def _plain(path: Path, identities: Sequence[Identity]) -> Iterator[bytes]:
    with unsealed(path, identities) as reader:
        while block := reader.read(BLOCK_BYTES):
            yield block


def _same(found: str, wanted: str, source: Path) -> None:
    if found != wanted:
        raise ManagerError(
            f"{source} is not what came off the manager any more",
            "use another snapshot; this one was changed on the disk",
        )


def _is_folder(path: Path) -> bool:
    named = ID.fullmatch(path.name) is not None
    return named and path.is_dir() and not path.is_symlink()
