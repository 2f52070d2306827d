"""Whether a server runs on a data directory.

Theory of operation. `postmaster.pid` names a process, but outlives a crash, and its
number may have gone to another program since. So the process itself is looked at: it
must be alive, be a PostgreSQL server, and work in this very folder. Times are not
compared, since a stepped clock would make a live server look stale. When a
postmaster was killed, its children go on for a moment and may still write:
`orphans` finds them.
Source of the form: PostgreSQL's src/include/utils/pidfile.h.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.errors import PostgresError

FILE_BYTES_MAX = 4096
PROCESSES_MAX = 100_000
SINGLE_USER = "single"
"""The status of a server in single-user mode."""
_PROC = Path("/proc")
# As bytes: any process may give itself a name that is no text.
_EXECUTABLES = frozenset({b"postgres", b"postmaster"})
# Lines of the file, counted from 0.
_STARTED, _PORT, _SOCKET_DIR, _STATUS = 2, 3, 4, 7


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server that runs."""

    pid: int
    started_s: int
    """When it started, in seconds since 1970, as it wrote itself; 0 if not yet."""
    port: int
    """0 for single-user mode, or when it is not written yet."""
    socket_dir: Path | None
    """Where its unix socket is; None when it has none, or is not ready yet."""
    status: str
    """`ready`, `standby`, `starting`, `stopping`, `single` (single-user mode, which
    recovers or repairs and takes no connections), or empty in its first moments."""


def running(data_dir: Path) -> Postmaster | None:
    """Return the postmaster of `data_dir`; None when there is none, or a stale file.

    Raises PostgresError when the file is there and may not be read.
    """
    path = data_dir / "postmaster.pid"
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PostgresError(
            f"{path} cannot be read: {error.strerror}",
            "run the agent as the data directory's owner",
        ) from error
    found = parse(raw.decode("utf-8", "replace"))
    if found is None or not _works_in(found.pid, data_dir):
        return None
    return found


def parse(text: str) -> Postmaster | None:
    """Read what a server wrote into its pid file so far; None without a process id."""
    lines = [line.strip() for line in text.split("\n")]
    pid = _number(lines, 0)
    if pid == 0:
        return None
    socket_dir = lines[_SOCKET_DIR] if len(lines) > _SOCKET_DIR else ""
    status = lines[_STATUS] if len(lines) > _STATUS else ""
    return Postmaster(
        pid=abs(pid),
        started_s=max(0, _number(lines, _STARTED)),
        port=max(0, _number(lines, _PORT)),
        socket_dir=Path(socket_dir) if socket_dir else None,
        # A single-user server writes its process id with a minus sign.
        status=SINGLE_USER if pid < 0 else status,
    )


def orphans(data_dir: Path) -> tuple[int, ...]:
    """Return the server processes that work in `data_dir`, whoever started them.

    Looks through all processes, about 3 ms: for a folder with a stale pid file.
    """
    try:
        names = [entry.name for entry in islice(_PROC.iterdir(), PROCESSES_MAX)]
    except OSError:
        return ()
    pids = (int(name) for name in names if name.isdecimal())
    return tuple(pid for pid in pids if _works_in(pid, data_dir, certain=True))


def _number(lines: list[str], index: int) -> int:
    try:
        return int(lines[index])
    except (IndexError, ValueError):
        return 0


def _works_in(pid: int, data_dir: Path, *, certain: bool = False) -> bool:
    """Whether the process is a server in this folder.

    What another user's process works in cannot be seen: it is then taken for the
    server when its name fits, unless the answer has to be `certain`.
    """
    process = _PROC / str(pid)
    try:
        here = (process / "cwd").stat()
    except PermissionError:
        return not certain and _named_as_server(process)
    except OSError:
        return False  # gone, or dead and not yet collected by its parent
    try:
        there = data_dir.stat()
    except OSError:
        return False
    same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    return same and _named_as_server(process)


def _named_as_server(process: Path) -> bool:
    try:
        return (process / "comm").read_bytes().strip() in _EXECUTABLES
    except OSError:
        return False
