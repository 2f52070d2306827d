"""Where the agent is: a unix socket on this machine, or an address and a token.

Theory of operation. `--url` asks an agent anywhere, with a token. Otherwise the unix
socket is used: `--socket`, SPLITGUARD_SOCKET, the configuration's `socket`, or the
default, in this order. The configuration is read here for this one key and without
checking the rest, so that a command still reaches the agent when the file has a mistake
that the running agent does not know of.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import ConfigError

DEFAULT_SOCKET = Path("/run/splitguard/agent.sock")
DEFAULT_CONFIG = Path("/etc/splitguard/agent.toml")
CONFIG_LIMIT_BYTES = 1 << 20
TOKEN_LIMIT_BYTES = 64 * 1024
SOCKET_BASE = "http://agent"
"""What stands in front of a path when the unix socket is the address."""


@dataclass(frozen=True, slots=True)
class Address:
    """How an agent is reached."""

    base: str
    socket: Path | None = None
    token: str = field(default="", repr=False)
    ca: Path | None = None
    """Who signed its certificate; None for whom this machine trusts."""

    @property
    def place(self) -> str:
        """What messages call it."""
        return self.base if self.socket is None else str(self.socket)


def find(
    config: Path | None,
    socket: Path | None,
    url: str | None,
    token_file: Path | None,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """Return how to reach the agent that the options mean. Raises ConfigError."""
    if url is not None:
        if socket is not None:
            raise ConfigError(("--url and --socket exclude each other",), "give one")
        plain = _peek(config, environ)
        ca = (
            plain.get("tls", {}).get("ca")
            if isinstance(plain.get("tls"), dict)
            else None
        )
        return Address(
            base=url.rstrip("/"),
            token=token(token_file, environ),
            ca=Path(ca) if isinstance(ca, str) else None,
        )
    if socket is None and environ.get("SPLITGUARD_SOCKET"):
        socket = Path(environ["SPLITGUARD_SOCKET"])
    if socket is None:
        configured = _peek(config, environ).get("socket")
        socket = Path(configured) if isinstance(configured, str) else DEFAULT_SOCKET
    return Address(base=SOCKET_BASE, socket=socket)


def _peek(config: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the configuration says, unchecked.

    A file that nobody named may be absent or wrong; one that was named may not.
    """
    named = config or (
        Path(environ["SPLITGUARD_CONFIG"]) if environ.get("SPLITGUARD_CONFIG") else None
    )
    file = named or DEFAULT_CONFIG
    try:
        with file.open("rb") as opened:
            return tomllib.loads(opened.read(CONFIG_LIMIT_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if named is None:
            return {}
        reason = error.strerror if isinstance(error, OSError) else f"not TOML: {error}"
        hint = "`splitguard config check` says more; or give --socket"
        raise ConfigError((f"{file}: {reason}",), hint) from error


def token(token_file: Path | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the token that was given; empty when none was. Raises ConfigError."""
    if token_file is None:
        return environ.get("SPLITGUARD_TOKEN", "").strip()
    try:
        with token_file.open("rb") as file:
            words = file.read(TOKEN_LIMIT_BYTES).decode("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a token"
        raise ConfigError((f"--token-file {token_file}: {reason}",)) from error
    if len(words) != 1:
        raise ConfigError((f"--token-file {token_file}: holds no single token",))
    return words[0]
