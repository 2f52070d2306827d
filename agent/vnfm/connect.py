"""Passwords, tokens and certificates of the managers, from the configuration.

Theory of operation. Only here are the files of [vnfm] read. What is in them never shows
in a message.
"""

from pathlib import Path

from agent.config.model import Settings
from agent.config.secret import SECRET_LIMIT_BYTES, read_secret
from agent.config.vnfm import VnfmSettings
from agent.errors import ConfigError
from agent.transport import HttpClient, Tls
from agent.vnfm.login import Login, LoginKept


def login_of(settings: VnfmSettings) -> Login | None:
    """Return as whom the managers are asked; None where no file says it.

    Raises ConfigError. It reads a file.
    """
    if settings.token_file is not None:
        token = _printable(read_secret(settings.token_file), settings.token_file)
        return Login(settings.username, token=token, tenant=settings.tenant)
    if settings.password_file is None:
        return None
    password = _line(settings.password_file)
    return Login(settings.username, password, tenant=settings.tenant)


def kept_login(settings: VnfmSettings) -> LoginKept:
    """Return the login with its breaker; its files are read again once they change."""
    files = [path for path in (settings.token_file, settings.password_file) if path]
    return LoginKept(lambda: login_of(settings), files)


def http_of(settings: Settings) -> HttpClient:
    """Return the client for the managers, which trusts [vnfm] ca, else [tls] ca.

    Raises ConfigError.
    """
    authority = settings.vnfm.ca or settings.tls.ca
    return HttpClient(Tls(ca=authority) if authority is not None else None)


def _line(path: Path) -> str:
    """Return the whole first line: a password may hold spaces. Raises ConfigError."""
    read_secret(path)  # says what is wrong with the file
    return path.read_text("utf-8")[:SECRET_LIMIT_BYTES].split("\n")[0].rstrip("\r")


def _printable(token: str, path: Path) -> str:
    """Return a token that can stand in a header."""
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            (f"{path}: holds what no token has",), "put the token into its first line"
        )
    return token
