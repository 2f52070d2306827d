"""Listening: one application on a TCP address and on a unix socket.

Two uvicorn servers serve the same application, because with TLS one server would
speak TLS on the unix socket too. Sockets are bound here and not by uvicorn, whose
answer to a taken port is to end the process without a word that helps.
"""

import asyncio
import contextlib
import grp
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from agent.api.access import LocalDoor
from agent.errors import ConfigError

log = logging.getLogger(__name__)

SHUTDOWN_S = 2
"""How long open requests (event streams above all) may delay the end."""
BACKLOG = 128
"""Who asks between the binding and the first answer waits and is not refused: systemd
and the shim take a bound socket for an agent that is there."""
SOCKET_PATH_LIMIT = 107
"""The longest path of a unix socket on Linux (unix(7)), without the final zero."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's own certificate and of the CA of its peers."""

    cert: Path
    key: Path
    ca: Path | None


class _QuietServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the agent, and sleeps until its end.

    uvicorn's own loop looks ten times a second whether it should end, and keeps a date
    header that is switched off here.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._end = asyncio.Event()

    def end(self) -> None:
        """Begin the end. From the loop's thread."""
        self.should_exit = True
        self._end.set()

    async def main_loop(self) -> None:
        """Wait until the end begins."""
        await self.on_tick(0)
        await self._end.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Servers:
    """Both servers, from bound sockets to an orderly end."""

    def __init__(
        self, app: ASGIApp, tcp: socket.socket, unix: socket.socket, tls: Tls | None
    ) -> None:
        self._pairs = (
            (_QuietServer(_config(app, tls)), tcp),
            (_QuietServer(_config(LocalDoor(app), None)), unix),
        )

    async def run(self) -> None:
        """Serve until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            for server, listening in self._pairs:
                group.create_task(server.serve(sockets=[listening]))

    def stop(self) -> None:
        """Begin the end: no new requests, open ones get a moment."""
        for server, _ in self._pairs:
            server.end()


def _config(app: ASGIApp, tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        ssl_certfile=str(tls.cert) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
        ssl_ca_certs=str(tls.ca) if tls and tls.ca else None,
    )


def bind_tcp(listen: str) -> socket.socket:
    """Bind `host:port`; raises ConfigError with what to do when it is taken."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(
            (f"listen = {listen!r}: cannot listen there: {error.strerror}",),
            "another program (or a second agent) has the port, or the address is not"
            " this machine's: `ss -ltnp` tells; change `listen` or stop the other",
        ) from error
    return bound


def bind_unix(path: Path) -> socket.socket:
    """Bind the socket of CLI and shim; raises ConfigError when it cannot be.

    A file left by an agent that was killed is replaced; the socket of a living
    agent is not.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise ConfigError(
            (f"socket = {str(path)!r}: longer than {SOCKET_PATH_LIMIT} bytes",),
            "choose a shorter path: the kernel allows no more",
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        bound.bind(str(path))
        bound.listen(BACKLOG)
        path.chmod(0o660)
        _give_to_group(path)
    except OSError as error:
        bound.close()
        raise ConfigError(
            (f"socket = {str(path)!r}: cannot listen there: {error.strerror}",),
            "the folder must exist and belong to the agent's user (systemd makes"
            " /run/splitguard), and no other agent may run with this socket",
        ) from error
    return bound


def _remove_stale(path: Path) -> None:
    """Remove a socket file on which nobody listens; leave a living one alone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if not path.is_socket():
                raise FileExistsError(0, "a file of another kind is there") from None
            path.unlink()
            return
    raise FileExistsError(0, "an agent listens there already")


def _give_to_group(path: Path) -> None:
    """Let members of the group `splitguard` use the socket, where it exists."""
    try:
        group = grp.getgrnam("splitguard").gr_gid
    except KeyError:
        return
    try:
        os.chown(path, -1, group)
    except PermissionError:
        log.warning("socket %s stays with its owner: not in group splitguard", path)
