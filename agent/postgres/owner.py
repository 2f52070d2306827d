"""Who owns a data directory, and how to act as that user.

Theory of operation. PostgreSQL's programs refuse to run as root and insist that
the data directory belongs to their user. An agent that runs as the owner just
starts them; one that runs as root starts them as the owner, with no other group
and a closed umask. A folder that root itself made is given to an unprivileged
user first.
"""

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from agent.errors import PostgresError

UNPRIVILEGED = ("postgres", "nobody")
"""Users that a root agent starts private servers as, best first."""


class Identity(TypedDict, total=False):
    """Keyword arguments of `subprocess` that make the child another user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group, by number."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, or its number where no name is known."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def identity(self) -> Identity:
        """Return what `subprocess` needs to start a child as this user.

        Empty unless this process is root and the owner is somebody else: only
        root may become another user.
        """
        if os.geteuid() != 0 or self.uid == 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def owner_of(path: Path) -> Owner:
    """Return the owner of the file or folder itself, links not followed last.

    Raises PostgresError.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise PostgresError(
            f"cannot look at {path}: {error.strerror}",
            "check the path, and that the agent runs as the data directory's owner",
        ) from error
    return Owner(found.st_uid, found.st_gid)


def unprivileged() -> Owner:
    """Return the user that servers run as which root has to start.

    As an ordinary user that is the user itself. Raises PostgresError when root
    finds none of UNPRIVILEGED.
    """
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    for name in UNPRIVILEGED:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(found.pw_uid, found.pw_gid)
    raise PostgresError(
        "PostgreSQL refuses to run as root, and there is no user "
        + " or ".join(UNPRIVILEGED),
        "create a system user named postgres",
    )


def give(path: Path, owner: Owner) -> None:
    """Make `owner` the owner of the folder and all that is in it, as root.

    Links are changed themselves and never followed. Does nothing for others than
    root. Raises PostgresError.
    """
    if os.geteuid() != 0:
        return
    try:
        os.lchown(path, owner.uid, owner.gid)
        for folder, names, files in os.walk(path):
            for name in names + files:
                os.lchown(os.path.join(folder, name), owner.uid, owner.gid)  # noqa: PTH118 - hot loop over every file of a database
    except OSError as error:
        raise PostgresError(
            f"cannot give {path} to user {owner.name}: {error.strerror}"
        ) from error


def check_reachable(path: Path, owner: Owner) -> None:
    """See that `owner` may walk down to `path`; raise PostgresError if not.

    Only root asks this for somebody else: its own state folder is usually closed
    to the user that the server has to run as.
    """
    closed = _closed_parent(path, owner)
    if closed is not None:
        raise PostgresError(
            f"user {owner.name} cannot reach {path}: {closed} is closed to it",
            "use a folder below one that this user may enter, or run the agent "
            "as the owner of the data directory",
        )


def reaches(owner: Owner, path: Path) -> bool:
    """Whether `owner` may walk down to `path`."""
    return _closed_parent(path, owner) is None


def make_folder(owner: Owner, prefix: str) -> Path:
    """Make a temporary folder of `owner`, closed to all others but root.

    In /tmp where the usual place for temporary files is closed to `owner`.
    Raises OSError.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if not reaches(owner, folder):
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, owner.uid, owner.gid)
    return folder


@contextmanager
def acting_as(owner: Owner) -> Iterator[None]:
    """Touch files and connect as `owner` for the length of a `with`, when root.

    So that no link that the owner has planted leads root anywhere, and what is made
    belongs to the owner. For a process of one thread; children are started outside of
    it. Does nothing for others than root.
    """
    if not owner.identity():
        yield
        return
    groups, gid, mask = os.getgroups(), os.getegid(), os.umask(0o077)
    os.setgroups([])
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
        os.umask(mask)


def _closed_parent(path: Path, owner: Owner) -> Path | None:
    if os.geteuid() != 0 or owner.uid == 0:
        return None
    for parent in reversed(path.absolute().parents):
        found = parent.stat()
        needed = 0o001
        if found.st_uid == owner.uid:
            needed = 0o100
        elif found.st_gid == owner.gid:
            needed = 0o010
        if not found.st_mode & needed:
            return parent
    return None
