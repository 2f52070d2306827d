"""Which data directory belongs to the server on this machine.

Theory of operation. A postmaster works in its data directory, so every server that
runs can be found through the processes that this user may look at. Several are
told apart by the port that the configuration names. Nothing is guessed: none, or
more than one that fits, is an error that says which were found.
"""

from itertools import islice
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent.errors import PostgresError
from agent.postgres import postmaster

_HINT = "set local.data_dir to its PGDATA"


def find_data_dir(port: int | None) -> Path:
    """Return PGDATA of the running server, by `port` if there are several.

    Raises PostgresError when none or several fit.
    """
    found = running_data_dirs()
    fitting = {
        path: at for path, at in found.items() if port is None or at in (port, 0)
    }
    if len(fitting) == 1:
        return next(iter(fitting))
    if not found:
        raise PostgresError("no PostgreSQL that this user may see runs here", _HINT)
    listed = ", ".join(f"{path} (port {at})" for path, at in sorted(found.items()))
    wanted = "one server" if port is None else f"a server on port {port}"
    raise PostgresError(f"looked for {wanted}, found {listed}", _HINT)


def running_data_dirs() -> dict[Path, int]:
    """Return data directory and port of every server that this user may see."""
    found: dict[Path, int] = {}
    for process in islice(Path("/proc").iterdir(), postmaster.PROCESSES_MAX):
        if not process.name.isdecimal():
            continue
        try:
            here = (process / "cwd").readlink()
            if not (here / "postmaster.pid").is_file():
                continue
            server = postmaster.running(here)
        except (OSError, PostgresError):
            continue  # another user's process, or one that has just gone
        if server is not None and server.pid == int(process.name):
            found[here] = server.port
    return found


def port_of(dsn: str) -> int | None:
    """Return the port that a libpq connection string names, if it names one."""
    port = conninfo_to_dict(dsn).get("port")
    return int(port) if port else None


def local_dsn(data_dir: Path, socket_dir: Path | None, user: str) -> str | None:
    """Return how `user` connects through the unix socket of a running server.

    None when the server does not run, or has no socket and none is given.
    """
    server = postmaster.running(data_dir)
    if server is None:
        return None
    place = socket_dir or server.socket_dir
    if place is None:
        return None
    return make_conninfo(
        host=str(place), port=server.port, user=user, dbname="postgres"
    )
