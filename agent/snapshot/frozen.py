"""What a snapshot program shows as frozen, and why it is believed.

Theory of operation. A running server is told that its files are about to be copied,
the program freezes them, and the server is told that this is over: from then on
nothing that it does can spoil the copy, which is made from the frozen folders at
leisure, and read back like any other. So it need not even be one instant for all
volumes. A server that cannot be asked is believed to be frozen in one instant only
where one read-only file system holds all of it; then it opens as after a crash.

Refused is: the living folder itself or hard links to it, a folder of another server,
one older than the kept WAL or than the order, a tablespace that nobody named, and a
file system mounted inside the data directory, which a snapshot leaves out.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.control import ControlData, read_control
from agent.snapshot.program import ProgramError

_HINT = "see what deploy/README.md says of capture.exec; by hand nothing is lost"


@dataclass(frozen=True, slots=True)
class Frozen:
    """The frozen folders of one server, found to be what they should be."""

    data_dir: Path
    folders: tuple[Path, ...]
    """All of them, the data directory first."""
    tablespaces: dict[str, Path]
    """By object id."""
    control: ControlData

    @property
    def doubt(self) -> str:
        """Why it may not be the state of one instant; empty when it is."""
        if len({folder.stat().st_dev for folder in self.folders}) > 1:
            return "the snapshot lies on several file systems"
        for folder in self.folders:
            if not _read_only(folder):
                return f"{folder} can be written to"
        return ""


def folders_of(data_dir: Path) -> list[Path]:
    """Return the folders of a server, its data directory first, links resolved.

    Raises ProgramError for a file system that is mounted inside one, and OSError.
    """
    home = data_dir.resolve(strict=True)
    links = [home / "pg_wal", *sorted((home / "pg_tblspc").iterdir())]
    elsewhere = [link.resolve(strict=True) for link in links if link.is_symlink()]
    folders = list(dict.fromkeys([home, *elsewhere]))
    for folder in folders:
        for inner in _mounted_inside(folder):
            raise ProgramError(
                f"{inner} is a file system of its own, which no snapshot of"
                f" {folder} holds",
                "move it out of there and leave a link, or do without capture.exec",
            )
    return folders


def _mounted_inside(folder: Path) -> Iterator[Path]:
    """Yield folders below that are not on the file system of `folder`."""
    device = folder.stat().st_dev
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_dev != device:
                yield Path(entry.path)
            else:
                waiting.append(Path(entry.path))


def accept(
    living: Sequence[Path], frozen: Sequence[Path], system_id: str, oldest: Lsn
) -> Frozen:
    """Return the frozen folders if they are the living ones' state since `oldest`.

    `oldest` is the earliest position that recovery may begin at. Raises ProgramError.
    """
    try:
        return _accept(living, frozen, system_id, oldest)
    except (OSError, PostgresError) as error:
        reason = error if isinstance(error, OSError) else error.message
        raise ProgramError(
            f"the snapshot cannot be read: {reason}",
            "the agent's user must be able to read it",
        ) from error


def _accept(
    living: Sequence[Path], frozen: Sequence[Path], system_id: str, oldest: Lsn
) -> Frozen:
    for lives, stands in zip(living, frozen, strict=True):
        _check_apart(lives, stands)
    home = frozen[0]
    tablespaces = _tablespaces(home, dict(zip(living, frozen, strict=True)))
    control = read_control(home)
    if control.system_id != system_id:
        raise ProgramError(
            f"{home} is of system {control.system_id}, not of {system_id}", _HINT
        )
    if control.redo_lsn < oldest:
        raise ProgramError(
            f"{home} is an old snapshot: it begins at {control.redo_lsn}, and the one"
            f" that was asked for at {oldest} or later",
            "the program has to take a new snapshot each time",
        )
    return Frozen(home, tuple(frozen), tablespaces, control)


def _read_only(folder: Path) -> bool:
    """Whether nobody can write there, for a reason that is not the folder's mode."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return True
    ours = os.geteuid() in (0, folder.stat().st_uid)
    return ours and not os.access(folder, os.W_OK)


def _check_apart(lives: Path, stands: Path) -> None:
    """See that the frozen folder is there, and neither the living one nor empty."""
    if not stands.is_dir():
        raise ProgramError(f"{stands} is no folder", _HINT)
    names = {entry.name for entry in os.scandir(stands)}
    shared = sorted(names & {entry.name for entry in os.scandir(lives)})
    if not shared:
        raise ProgramError(
            f"{stands} holds nothing of {lives}",
            "the program has to cover a pg_wal and tablespaces elsewhere, too",
        )
    for folder, name in ((".", "."), ("", shared[0]), ("global", "pg_control")):
        one, other = lives / folder / name, stands / folder / name
        if one.exists() and other.exists() and one.samefile(other):
            raise ProgramError(f"{stands} is {lives} itself, or links to it", _HINT)


def _tablespaces(home: Path, places: dict[Path, Path]) -> dict[str, Path]:
    """Return where each tablespace stands; refuse what no frozen folder was given for.

    `places` leads from each living folder to its frozen one.
    """
    living = next(iter(places))
    found: dict[str, Path] = {}
    for link in (home / "pg_wal", *sorted((home / "pg_tblspc").iterdir())):
        if not link.is_symlink():
            continue
        # As the server sees it: a relative link means another place in the snapshot.
        leads = (living / link.relative_to(home).parent / link.readlink()).resolve()
        if leads not in places:
            raise ProgramError(
                f"the snapshot does not cover {leads}",
                "it was made while a tablespace came or went, or was moved",
            )
        if link.name.isdigit():
            found[link.name] = places[leads]
    return found
