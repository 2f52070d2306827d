"""Restoring: a snapshot becomes a data folder that a server can be started on.

Theory of operation. Everything is built aside, in a folder beside the target, read
back there, made durable, and renamed into place last: what bears the target's name is
whole. A tablespace goes beside the target, because a data folder must not hold one.
The kept WAL goes into pg_wal; slots, signal files and the pid file are taken away.

The configuration is the guide's: it reaches nobody, for the server's own would archive
into the same place, follow the same primary and subscribe to the same publishers. The
server's own lies beside the target, for whoever decides to use it.
"""

import os
import pwd
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import PostgresError, SnapshotError
from agent.postgres.control import read_control
from agent.postgres.owner import Owner, check_reachable, give, owner_of, unprivileged
from agent.postgres.programs import Programs, find_programs
from agent.postgres.scratch import prepare
from agent.postgres.wal import created_tablespaces
from agent.snapshot import guide
from agent.snapshot import manifest as manifests
from agent.snapshot.files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    clone_file,
    fsync_path,
    make_folder,
    remove_tree,
    tree,
)
from agent.snapshot.manifest import DATA, STATE, TABLESPACES, WAL, Manifest
from agent.snapshot.sealing import Identity
from agent.snapshot.unpacking import check_room, unpack
from agent.snapshot.verify import Seen, verify_folder

PORT = 54399
"""What the printed command starts the server on: nobody's usual port."""
_CONFIG = f"{STATE}/config"
_SUFFIXES = (".tblspc", ".config")
"""Of the folders that are made beside the target."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A data folder that was written, and how to start a server on it."""

    manifest: Manifest
    folder: Path
    tablespaces: Path | None
    """Where its tablespaces lie; None without any."""
    config: Path | None
    """The server's own configuration; None where none was kept."""
    owner: Owner
    start: str
    """The command that starts the server, for a shell."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""


@dataclass(frozen=True, slots=True)
class _Target:
    folder: Path
    owner: Owner

    @property
    def tablespaces(self) -> Path:
        return self.folder.with_name(self.folder.name + _SUFFIXES[0])

    @property
    def config(self) -> Path:
        return self.folder.with_name(self.folder.name + _SUFFIXES[1])


def restore(
    snapshot: Path,
    target: Path,
    *,
    owner: str | None = None,
    programs: Programs | None = None,
    progress: Seen | None = None,
    identities: Sequence[Identity] = (),
) -> Restored:
    """Write the startable data folder `target` from a snapshot's folder or archive.

    `owner` names the user that the server is to run as; only root may name another.
    `identities` are private keys for an encrypted archive.
    Raises SnapshotError when the target is not empty, lies inside a data folder or has
    no room, or the snapshot has no full copy or is not what its manifest says;
    PostgresError when its owner could not reach it. Then nothing is left behind.
    """
    place = _Target(_target(target), _owner(snapshot, owner))
    check_reachable(place.folder.parent / "x", place.owner)
    with _aside(place) as aside:
        copy = aside / "snapshot"
        try:
            manifest = _brought(snapshot, copy, identities, progress)
            result = verify_folder(copy, progress, programs)
            if not result.good:
                raise SnapshotError(
                    "what was copied is not what the manifest says:"
                    f" {result.problems[0]}",
                    "verify the snapshot; take another one, or fetch the archive again",
                )
            found = _found(programs, copy / DATA)
            _refuse_tablespaces(manifest, copy, found)
            return _put(copy, manifest, place, (found, result.notes))
        except OSError as error:
            raise SnapshotError(
                f"{error.filename or place.folder} cannot be written: {error.strerror}"
            ) from error


def _target(target: Path) -> Path:
    """Return the target's real path. Raises SnapshotError when it cannot be one."""
    try:
        return _checked(target)
    except (OSError, RuntimeError) as error:  # resolve() raises both
        reason = getattr(error, "strerror", None) or str(error)
        raise SnapshotError(
            f"{target} cannot be looked at: {reason}; nothing was written",
            "name a folder below one that you may write into",
        ) from error


def _checked(target: Path) -> Path:
    parent = target.absolute().parent.resolve()
    place = parent / target.absolute().name
    if not parent.is_dir():
        raise SnapshotError(f"there is no folder {parent}", "make it first")
    beside = [place.with_name(place.name + suffix) for suffix in _SUFFIXES]
    for each in (place, *beside):
        if os.path.lexists(each) and not _is_empty(each):
            raise SnapshotError(
                f"{each} is there and not an empty folder; nothing was written",
                "name a folder that does not exist yet",
            )
    for above in (place, *place.parents):
        marks = (above / "PG_VERSION", above / "global" / "pg_control")
        if any(mark.exists() for mark in marks):
            raise SnapshotError(
                f"{place} lies inside the data folder {above}; nothing was written",
                "name a folder outside",
            )
        if (above / manifests.NAME).exists():
            raise SnapshotError(
                f"{place} lies inside the snapshot {above}; nothing was written",
                "name a folder outside",
            )
    return place


def _is_empty(place: Path) -> bool:
    if place.is_symlink() or not place.is_dir():
        return False
    try:
        return next(place.iterdir(), None) is None
    except OSError as error:
        raise SnapshotError(f"{place} cannot be read: {error.strerror}") from error


def _owner(snapshot: Path, named: str | None) -> Owner:
    """Return who the server is to run as. Raises SnapshotError, PostgresError."""
    if named is not None:
        try:
            found = pwd.getpwnam(named)
        except KeyError as error:
            raise SnapshotError(f"there is no user {named!r:.80}") from error
        if os.geteuid() not in (0, found.pw_uid):
            raise SnapshotError(
                f"only root can give files to {named}", "run this as root, or as them"
            )
        if found.pw_uid == 0:
            raise SnapshotError(
                "PostgreSQL does not run as root", "name the server's user: --owner"
            )
        return Owner(found.pw_uid, found.pw_gid)
    if os.geteuid() == 0 and snapshot.is_dir():
        before = owner_of(snapshot)
        if before.uid != 0:
            return before
    return unprivileged()


@contextmanager
def _aside(place: _Target) -> Iterator[Path]:
    """Make a folder beside the target; remove it at the end with all that is in it."""
    parent = place.folder.parent
    try:
        made = Path(tempfile.mkdtemp(prefix=".splitguard-restore-", dir=parent))
    except OSError as error:
        raise SnapshotError(
            f"nothing can be written in {parent}: {error.strerror}",
            "name a folder below one that is writable",
        ) from error
    try:
        yield made
    finally:
        remove_tree(made)


def _brought(
    snapshot: Path,
    copy: Path,
    identities: Sequence[Identity],
    progress: Seen | None,
) -> Manifest:
    """Copy the snapshot, or unpack the archive, into the new folder `copy`."""
    if not snapshot.is_dir():
        unpack(snapshot, copy, identities, progress)
        return _with_copy(manifests.read(copy))
    manifest = _with_copy(manifests.read(snapshot))
    check_room(manifest.size_bytes, copy.parent)
    make_folder(copy)
    done = 0
    try:
        for path in manifest.folders:
            make_folder(copy / path)
        for file in manifest.files:
            make_folder((copy / file.path).parent)
            clone_file(snapshot / file.path, copy / file.path)
            done += file.size
            if progress is not None:
                progress(done, manifest.size_bytes)
        for link in manifest.links:
            make_folder((copy / link.path).parent)
            (copy / link.path).symlink_to(link.target)
    except OSError as error:
        raise SnapshotError(
            f"the snapshot cannot be copied: {error.filename}: {error.strerror}"
        ) from error
    manifests.write(copy, manifest)
    return manifest


def _with_copy(manifest: Manifest) -> Manifest:
    if not manifest.has_copy:
        raise SnapshotError(
            f"snapshot {manifest.id} has no full copy to restore, only "
            + ", ".join(level.value for level in manifest.levels),
            "wait until the capture is complete",
        )
    return manifest


def _found(programs: Programs | None, data: Path) -> Programs | None:
    if programs is not None:
        return programs
    with suppress(PostgresError):
        return find_programs(None, data)
    return None


def _refuse_tablespaces(
    manifest: Manifest, copy: Path, programs: Programs | None
) -> None:
    """Raise when starting would write where a tablespace was created meanwhile."""
    if programs is None or not any((copy / WAL).iterdir()):
        return
    start = manifest.copy_lsn
    if start is None:
        return
    made = created_tablespaces(
        programs, copy / WAL, manifest.timeline, start, manifest.wal_segment_bytes
    )
    for location in made:
        if os.path.lexists(location) and not _is_empty(Path(location)):
            raise SnapshotError(
                f"the snapshot's WAL creates a tablespace at {location}, which holds"
                " files here: starting the server would write into them",
                "restore it on a machine where that location holds nothing",
            )


def _put(
    copy: Path,
    manifest: Manifest,
    place: _Target,
    known: tuple[Programs | None, tuple[str, ...]],
) -> Restored:
    """Make what was read back startable, and rename it into place."""
    programs, notes = known
    data = copy / DATA
    # It was kept to tell what ran; beside a server's settings it would mislead.
    (copy / _CONFIG / "postmaster.pid").unlink(missing_ok=True)
    for segment in sorted((copy / WAL).iterdir()):
        segment.rename(data / "pg_wal" / segment.name)
    spaces = {int(p.name): p for p in _spaces(copy / TABLESPACES)}
    give(copy, place.owner)
    prepare(data, tablespaces=spaces)
    _configure(data, manifest)
    for oid in spaces:
        link = data / "pg_tblspc" / str(oid)
        link.unlink()
        link.symlink_to(place.tablespaces / str(oid))
    give(copy, place.owner)
    try:
        config = _renamed(copy / _CONFIG, place.config)
        spaced = _renamed(copy / TABLESPACES, place.tablespaces) if spaces else None
        _renamed(data, place.folder)
    except BaseException:
        remove_tree(place.config)
        remove_tree(place.tablespaces)
        raise
    return Restored(
        manifest=manifest,
        folder=place.folder,
        tablespaces=spaced,
        config=config,
        owner=place.owner,
        start=_command(place, programs),
        notes=notes,
    )


def _spaces(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _configure(data: Path, manifest: Manifest) -> None:
    """Put the guide's configuration in place of the server's own."""
    made = guide.texts(manifest, read_control(data))
    for path, text in made.items():
        folder, _, name = path.rpartition("/")
        if folder == guide.OPEN:
            (data / name).unlink(missing_ok=True)
            (data / name).write_bytes(text)
            (data / name).chmod(PRIVATE_FILE)


def _renamed(made: Path, place: Path) -> Path | None:
    """Force a folder to disk and rename it; None when there is none."""
    if not made.is_dir():
        return None
    made.chmod(PRIVATE_FOLDER)
    fsync_path(made)
    for _, entry in tree(made):
        if not entry.is_symlink():
            fsync_path(Path(entry.path))
    made.rename(place)
    fsync_path(place.parent)
    return place


def _command(place: _Target, programs: Programs | None) -> str:
    """Return how a person starts the server."""
    program = str(programs.bin_dir / "pg_ctl") if programs is not None else "pg_ctl"
    words = [
        program, "-D", str(place.folder), "-w", "-l", str(place.folder / "server.log"),
        "-o", f"-k /tmp -p {PORT}", "start",
    ]  # fmt: skip
    if os.geteuid() == 0:
        words = ["runuser", "-u", place.owner.name, "--", *words]
    return shlex.join(words)
