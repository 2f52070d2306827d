"""The loser's old data: renamed aside for a clone, and put back when that fails.

Theory of operation. As the script `replica` does it: the folder of the server, its
pg_wal and the version folder of each tablespace are renamed, all or none, and the links
in what is aside are pointed at the new names, so that the old server could be started
from there. Nothing is ever copied or deleted, nor moved to another volume. What stands
in the old place when it is put back is only removed when it shows that it is a clone
that did not come to its end. The room for the clone is computed before anything moves.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent.errors import GuardError
from agent.postgres.postmaster import running
from agent.snapshot.room import MAX_WAL_BYTES, floor_bytes

SUFFIX = ".splitguard-aside-"
"""Before the time; the same as the script's."""
_SPARE = 1.1
"""A clone may be a tenth larger than what is there now."""
_WAL = "pg_wal"
_SPACES = "pg_tblspc"


def place_of(data_dir: Path, suffix: str) -> Path:
    """Return where the old data of this folder is while it is aside."""
    real = data_dir.resolve()
    return real.with_name(real.name + suffix)


def waldir(data_dir: Path, suffix: str) -> Path | None:
    """Return where pg_wal lies, if elsewhere, as it was before it was moved."""
    link = place_of(data_dir, suffix) / _WAL
    if not link.is_symlink():
        return None
    target = link.readlink()
    return target.with_name(target.name.removesuffix(suffix))


def move(data_dir: Path, suffix: str) -> None:
    """Rename the old data aside, all or nothing. Raises GuardError."""
    target, aside = data_dir.resolve(), place_of(data_dir, suffix)
    try:
        _rename(target, aside)
        for link in _links(aside):
            _move_linked(link, suffix)
    except OSError as error:
        if aside.exists():
            put_back(data_dir, suffix)
        name = error.filename or target
        raise GuardError(
            f"{name} cannot be moved aside: {error.strerror}",
            "is it, or a tablespace, a mount point, or is the folder that it lies in"
            " closed to this user? Then move the data away by hand",
        ) from error


def put_back(data_dir: Path, suffix: str) -> None:
    """Put the old data back in its place; a failed clone goes. Raises GuardError."""
    target, aside = data_dir.resolve(), place_of(data_dir, suffix)
    if not aside.is_dir():
        return
    _refuse_whole(target)
    try:
        for link in _links(aside):
            _return_linked(link, suffix)
        if target.exists():
            shutil.rmtree(target)
        _rename(aside, target)
    except OSError as error:
        raise GuardError(
            f"the old data in {aside} cannot be put back: {error.strerror}",
            f"see to {error.filename or target}, and run this once more",
        ) from error


def _refuse_whole(target: Path) -> None:
    """Raise unless what is there is nothing, or a clone that was never started.

    Source: pg_basebackup writes pg_control last, and backup_label goes with the start.
    """
    if not target.exists():
        return
    started = (target / "global/pg_control").exists() and not (
        target / "backup_label"
    ).exists()
    if running(target) is not None or started:
        raise GuardError(
            f"{target} is not the clone that an interrupted run left: a server was"
            " started there",
            "if it is the one to keep, remove the note that `--dry-run` names, and run"
            " this once more",
        )


def _rename(path: Path, new: Path) -> None:
    if os.path.lexists(new):
        raise FileExistsError(17, "something of that name is there already", str(new))
    if path.stat().st_dev != new.parent.stat().st_dev:
        raise OSError(18, "it is a volume of its own", str(path))
    path.rename(new)


def _links(folder: Path) -> Iterator[Path]:
    """Yield pg_wal and the tablespaces that lie elsewhere."""
    spaces = folder / _SPACES
    inside = sorted(spaces.iterdir()) if spaces.is_dir() else []
    for each in (folder / _WAL, *inside):
        if each.is_symlink():
            yield each


def _move_linked(link: Path, suffix: str) -> None:
    target = link.resolve()
    aside = target.with_name(target.name + suffix)
    if link.name == _WAL:
        _rename(target, aside)
    else:
        aside.mkdir(mode=0o700)
        for version in sorted(target.glob("PG_[0-9]*")):
            _rename(version, aside / version.name)
    _point(link, aside)


def _return_linked(link: Path, suffix: str) -> None:
    """Undo what was done of moving one link's target; also when that was halved."""
    # A link that was not pointed at the new name yet may be a relative one.
    named = link.parent / link.readlink()
    plain = named.with_name(named.name.removesuffix(suffix))
    aside = plain.with_name(plain.name + suffix)
    if aside.is_dir():
        if link.name == _WAL:
            if plain.exists():
                shutil.rmtree(plain)
            _rename(aside, plain)
        else:
            _return_versions(aside, plain)
    if plain != named:
        _point(link, plain)


def _return_versions(aside: Path, plain: Path) -> None:
    for version in sorted(aside.glob("PG_[0-9]*")):
        if (plain / version.name).exists():
            shutil.rmtree(plain / version.name)
        _rename(version, plain / version.name)
    aside.rmdir()


def _point(link: Path, target: Path) -> None:
    """Let a link lead elsewhere, at once: without it nobody finds what it led to."""
    fresh = link.with_name(link.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def check_room(data_dir: Path, source_bytes: int | None) -> None:
    """Raise GuardError, with the bytes missing, when a clone has no place beside it.

    `source_bytes` is what the source takes; where it is more than the old data, the
    rest is counted on the volume of the data folder.
    """
    _check_movable(data_dir)
    parts = {data_dir: _bytes_in(data_dir)}
    for link in _links(data_dir):
        parts[link.resolve()] = _bytes_in(link.resolve())
    total = sum(parts.values())
    parts[data_dir] += max(0, (source_bytes or 0) - total)
    needed: dict[int, tuple[Path, int]] = {}
    for part, count in parts.items():
        device = part.stat().st_dev
        first, so_far = needed.get(device, (part, 0))
        needed[device] = (first, so_far + count)
    for part, count in needed.values():
        usage = shutil.disk_usage(part)
        floor = floor_bytes(usage.total, MAX_WAL_BYTES)
        missing = int(count * _SPARE) + floor - usage.free
        if missing > 0:
            raise GuardError(
                f"no room for a clone beside the old data: {missing} bytes are missing"
                f" on the volume of {part}",
                "free space there; or move the old data away by hand, and clone then",
            )


def _check_movable(data_dir: Path) -> None:
    """Raise GuardError where a rename would fail, or would have to copy."""
    moved = [link.resolve() for link in _links(data_dir)]
    for path in (data_dir.resolve(), *moved):
        why = ""
        if path.stat().st_dev != path.parent.stat().st_dev:
            why = "it is a volume of its own"
        elif not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            why = f"{path.parent} is closed to its owner"
        if why:
            raise GuardError(
                f"{path} cannot be renamed aside for a clone: {why}",
                "once the permit is there (`splitguard guard permit`), move the data"
                " away by hand and clone with pg_basebackup",
            )


def _bytes_in(folder: Path) -> int:
    """Return what the files below take, links not followed."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512  # noqa: PTH118 - hot loop over every file of a database
            except FileNotFoundError:
                continue
    return total
