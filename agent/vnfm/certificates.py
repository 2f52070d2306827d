"""The certificate folders of a manager's machine, read as they are.

Theory of operation. A fresh manager must be installed with the old certificates, or no
agent that the old one had deployed will trust it; no snapshot holds them in a form that
an installer takes. So the folders that the guide names are read beside each snapshot,
with owner and mode, and packed as a tar whose paths begin at the root of the file
system. They hold private keys: they are kept encrypted or not at all.

Anything may lie there, so nothing is trusted. A link is kept as a link and never
followed, and one that leads out of its folder is only named. Size, number and depth are
bounded. What cannot be read is a sentence among the problems and stops nothing.
"""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from agent.vnfm.kept import PROBLEMS_MAX, Certificate

FILE_BYTES_MAX = 1 << 20
TOTAL_BYTES_MAX = 8 << 20
ENTRIES_MAX = 1000
DEPTH_MAX = 8


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the folders hold."""

    tar: bytes = field(repr=False)
    """Empty when nothing could be read. It holds private keys."""
    files: tuple[Certificate, ...]
    problems: tuple[str, ...]


def gather(folders: Sequence[Path]) -> Gathered:
    """Read the folders. Blocking; never raises what a disk can do.

    A folder that is not there is no problem: the guide names two, and most managers
    have one. That none of them is there is one.
    """
    made = _Making()
    with tarfile.open(
        fileobj=made.bytes, mode="w", format=tarfile.GNU_FORMAT, errors=ERRORS
    ) as tar:
        for folder in folders:
            made.take(tar, folder)
    if folders and not made.seen:
        names = " and ".join(str(folder) for folder in folders)
        made.complain(f"certificates: there is no {names}")
    whole = made.bytes.getvalue() if made.files else b""
    return Gathered(whole, tuple(made.files), tuple(made.problems))


ERRORS = "surrogateescape"


class _Making:
    """The tar while it is made."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self.files: list[Certificate] = []
        self.problems: list[str] = []
        self.seen = False
        self._size = 0

    def complain(self, problem: str) -> None:
        """Note a problem, as long as there are few."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def take(self, tar: tarfile.TarFile, folder: Path) -> None:
        """Put one folder into the tar."""
        try:
            found = folder.stat()  # the folder itself may be a link: a person named it
        except FileNotFoundError:
            return
        except OSError as error:
            self.seen = True
            self.complain(f"{folder} cannot be read: {error.strerror}")
            return
        self.seen = True
        if not stat.S_ISDIR(found.st_mode):
            self.complain(f"{folder} is no folder")
            return
        tar.addfile(_member(folder, found, tarfile.DIRTYPE))
        for path in self._below(folder, DEPTH_MAX):
            if len(self.files) >= ENTRIES_MAX:
                self.complain(f"{folder} has more than {ENTRIES_MAX} entries")
                return
            try:
                self._one(tar, folder, path)
            except OSError as error:
                self.complain(f"{path} cannot be read: {error.strerror}")

    def _below(self, folder: Path, depth: int) -> Iterator[Path]:
        """Yield what lies below, folders before what is in them."""
        try:
            with os.scandir(folder) as entries:
                # One more than is taken, so that it shows that there are more.
                found = list(islice(entries, ENTRIES_MAX + 1))
        except OSError as error:
            self.complain(f"{folder} cannot be read: {error.strerror}")
            return
        for entry in sorted(found, key=lambda one: one.name):
            yield Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                continue
            if depth > 1:
                yield from self._below(Path(entry.path), depth - 1)
            else:
                self.complain(f"{entry.path} lies too deep")

    def _one(self, tar: tarfile.TarFile, folder: Path, path: Path) -> None:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            tar.addfile(_member(path, found, tarfile.DIRTYPE))
        elif stat.S_ISLNK(found.st_mode):
            self._link(tar, folder, path, found)
        elif stat.S_ISREG(found.st_mode):
            self._file(tar, path)
        else:
            self.complain(f"{path} is neither file nor folder")

    def _link(
        self, tar: tarfile.TarFile, folder: Path, path: Path, found: os.stat_result
    ) -> None:
        target = os.readlink(path)  # noqa: PTH115 - as it stands, not as a Path
        # Not Path.resolve, which raises RuntimeError at links that lead in a circle.
        inside = Path(os.path.realpath(folder))
        leads = Path(os.path.realpath(path))
        if not leads.is_relative_to(inside):
            self.complain(f"{path} is a link that leads to {target}: not kept")
            return
        member = _member(path, found, tarfile.SYMTYPE)
        member.linkname = target
        tar.addfile(member)
        self.files.append(_noted(path, found, 0, "", target))

    def _file(self, tar: tarfile.TarFile, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                self.complain(f"{path} changed while it was read")
                return
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            self.complain(f"{path} is larger than {FILE_BYTES_MAX} bytes: not kept")
            return
        if self._size + len(content) > TOTAL_BYTES_MAX:
            self.complain(f"{path}: more than {TOTAL_BYTES_MAX} bytes: not kept")
            return
        self._size += len(content)
        member = _member(path, found, tarfile.REGTYPE)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        digest = hashlib.sha256(content).hexdigest()
        self.files.append(_noted(path, found, len(content), digest, ""))


def _member(path: Path, found: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(str(path).lstrip("/"))
    member.type = kind
    member.mode = stat.S_IMODE(found.st_mode)
    member.uid, member.gid = found.st_uid, found.st_gid
    member.mtime = int(found.st_mtime)
    return member


def _noted(
    path: Path, found: os.stat_result, size: int, sha256: str, link: str
) -> Certificate:
    mode = stat.S_IMODE(found.st_mode)
    return Certificate(str(path), mode, found.st_uid, found.st_gid, size, sha256, link)
