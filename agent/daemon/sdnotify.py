"""What systemd is told: ready, alive, stopping.

The protocol is one datagram to the socket in NOTIFY_SOCKET (sd_notify(3)). Where
the variable is not set, nothing is sent.
"""

import contextlib
import os
import socket


def ready() -> None:
    """Say that the agent has started."""
    _send("READY=1")


def alive() -> None:
    """Say that a round was finished; systemd restarts an agent that stops saying so."""
    _send("WATCHDOG=1")


def stopping() -> None:
    """Say that the agent is about to end."""
    _send("STOPPING=1")


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
    ):
        out.setblocking(False)  # an agent never waits for whoever supervises it
        out.sendto(message.encode(), address)
