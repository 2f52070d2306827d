"""The certificate folders of this machine, brought to where they are safe.

Theory of operation. The files are packed with owner and mode, encrypted for whoever may
read captures, written aside, forced to the disk, read back, and then given their name;
a file that has that name already is never touched. Without a recipient they lie there
in plain, closed to other users: a manager cannot be made anew without them. What others
brought is only looked at.
"""

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ManagerError
from agent.snapshot.files import PRIVATE_FILE, fsync_path, write_all
from agent.snapshot.sealing import encrypt
from agent.vnfm.certificates import gather

NAMES = (".tar", ".tar.age", ".tar.gz", ".tgz")
"""How a file of certificates may be called."""
_AGE = b"age-encryption.org/"
LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved."""

    path: Path
    files: int
    encrypted: bool
    problems: tuple[str, ...]


def save_certificates(
    folders: Sequence[Path], to: Path, node: str, recipients: Sequence[str]
) -> Saved:
    """Pack the folders into a file in `to`. Blocking.

    Raises ManagerError: nothing is there to be saved, or it cannot be written.
    """
    found = gather(folders)
    if not found.files:
        raise ManagerError(
            "; ".join(found.problems) or "the certificate folders are empty",
            "name the folders in vnfm.certificates, and run this as root",
        )
    content = encrypt(found.tar, recipients) if recipients else found.tar
    suffix = ".tar.age" if recipients else ".tar"
    path = to / f"{node}-certificates{suffix}"
    _write(path, content)
    return Saved(path, len(found.files), bool(recipients), found.problems)


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                write_all(file.fileno(), memoryview(content))
                os.fsync(file.fileno())
            if aside.read_bytes() != content:
                raise ManagerError(
                    f"{aside} is not what was written", "name another disk with --to"
                )
            os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        fsync_path(path.parent)
    except FileExistsError as error:
        raise ManagerError(
            f"{path} is there already, and is not overwritten",
            "move it away, or name another folder with --to",
        ) from error
    except OSError as error:
        raise ManagerError(
            f"{path} cannot be written: {error.strerror}",
            "name another folder with --to",
        ) from error


def saved_for(to: Path, node: str) -> tuple[Path | None, str]:
    """Return the file with a node's certificates, or why there is none. Blocking."""
    reason = f"there is no {to}/{node}-certificates.tar"
    for suffix in NAMES:
        path = to / f"{node}-certificates{suffix}"
        try:
            with path.open("rb") as file:
                content = file.read(LIMIT_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = f"{path} cannot be read: {error.strerror}"
            continue
        wrong = _wrong(content)
        if not wrong:
            return path, ""
        reason = f"{path} {wrong}"
    return None, reason


def unpacking(path: Path) -> str:
    """Return how what was saved gets onto the machine that is made anew."""
    opened = "tar -C / -xf FILE"
    if path.name.endswith(".age"):
        opened = "age -d -i KEYFILE FILE | tar -C / -x"
    return f"Bring {path} there and unpack it as root (`{opened}`)."


def without(node: str) -> str:
    """Return what there is to do when a node's certificates are gone."""
    return (
        f"No certificates of {node} are saved: have new ones made by the authority that"
        " signed the old ones; under another one the agents of deployed hosts do not"
        " trust it, and have to be installed again."
    )


def same_as(to: Path, node: str, others: Sequence[str]) -> str:
    """Return another node whose file is the very same as this node's. Blocking.

    Told to a person: machines may share certificates, or the wrong ones were brought.
    """
    mine, _ = saved_for(to, node)
    for other in others:
        theirs, _ = saved_for(to, other)
        if mine is None or theirs is None or other == node:
            continue
        if _contents(mine) == _contents(theirs):
            return other
    return ""


def _contents(path: Path) -> frozenset[tuple[str, bytes]]:
    """Return the files of an archive: name and content. An encrypted one is opaque."""
    content = path.read_bytes()
    if content.startswith(_AGE):
        return frozenset({(str(path), content)})
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = ((one.name, archive.extractfile(one)) for one in archive if one.isreg())
        return frozenset((name, file.read()) for name, file in found if file)


def _wrong(content: bytes) -> str:
    if len(content) > LIMIT_BYTES:
        return "is larger than certificates are"
    if content.startswith(_AGE):
        return ""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            files = [one for one in archive if one.isfile() or one.issym()]
    except (tarfile.TarError, EOFError, OSError) as error:
        return f"is no archive that opens: {error}"
    return "" if files else "holds no file"
