"""Which user the lab's servers run as.

PostgreSQL refuses to run as root. A lab that root starts gives its servers to an
unprivileged user; any other user runs them himself.
"""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import LabError

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, by number."""

    uid: int
    gid: int

    @property
    def switch(self) -> bool:
        """Whether it is another user than the one that this process runs as."""
        return self.uid != os.geteuid()

    @property
    def popen(self) -> Mapping[str, Any]:
        """The arguments that make subprocess start a child as this user."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a file or folder (not what is in it) to this user."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_all(self, folder: Path) -> None:
        """Give a folder and everything in it to this user."""
        if not self.switch:
            return
        for parent, folders, files in os.walk(folder):
            self.own(Path(parent))
            for name in (*folders, *files):
                self.own(Path(parent, name))

    def may(self, test: str, path: Path) -> bool:
        """Return what `test -x PATH` (or another flag) says when this user asks."""
        finished = subprocess.run(
            ["/bin/sh", "-c", 'test "$0" "$1"', test, str(path)],
            check=False,
            cwd="/",
            **self.popen,
        )
        return finished.returncode == 0


def server_account() -> Account:
    """Return the user that the lab's servers run as. Raises LabError."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise LabError(
            f"there is no user {UNPRIVILEGED!r} to run the servers as",
            "start the lab as an ordinary user",
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)
