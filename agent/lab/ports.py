"""Free ports that stay ours while nobody listens on them.

Theory of operation. A port that was merely free a moment ago can be taken by
anybody's outgoing connection before its server binds it, or while that server is
down. So the lab binds each port first and marks the socket reusable only
afterwards: programs that ask for that very port with SO_REUSEADDR (all servers
do) may listen on it beside the holder, while the kernel gives it to nobody else.
"""

import socket

from agent.lab.plan import HOST

BACKLOG = 128


def hold_port() -> socket.socket:
    """Return a socket that holds a free port and does not listen."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.bind((HOST, 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return holder


def port_of(holder: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    port: int = holder.getsockname()[1]
    return port


def listen_on(port: int) -> socket.socket:
    """Return a listening, non-blocking socket on a port that is held.

    Raises OSError when somebody listens there already.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
