"""Free ports that stay ours while nobody listens on them.

Theory of operation. A port that was merely free a moment ago can be taken by
anybody's outgoing connection before its server binds it, or while that server is
down. So the lab takes ports from below the range that the kernel hands out by
itself, binds each one, and marks the socket reusable only afterwards: programs that
ask for that very port with SO_REUSEADDR (all servers do) may listen on it beside
the holder, while another lab's holder may not bind it.
"""

import random
import socket
from pathlib import Path

from agent.errors import LabError
from agent.lab.plan import HOST

BACKLOG = 128
LOWEST = 10_000
TRIES = 200
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_FIRST = 32_768
_ROOM_MIN = 1_000


def hold_port() -> socket.socket:
    """Return a socket that holds a free port and does not listen. Raises LabError."""
    first = _first_automatic()
    for _ in range(TRIES):
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        wanted = random.randrange(LOWEST, first) if first else 0
        try:
            holder.bind((HOST, wanted))
        except OSError:
            holder.close()
            continue
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return holder
    raise LabError(f"no free port between {LOWEST} and {first}", "end other labs")


def port_of(holder: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    port: int = holder.getsockname()[1]
    return port


def listen_on(port: int) -> socket.socket:
    """Return a listening, non-blocking socket on a port that is held.

    Raises LabError when somebody listens there already.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise LabError(
            f"port {port} cannot be listened on: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener


def _first_automatic() -> int:
    """Return the first port that the kernel hands out by itself; 0: no room below."""
    try:
        first = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = _DEFAULT_FIRST
    return first if first - LOWEST >= _ROOM_MIN else 0
